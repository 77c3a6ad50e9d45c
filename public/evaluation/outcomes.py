"""What a classifier said of each image of a split, in a few arrays, and what follows from them for the classes."""

from typing import NamedTuple

import numpy as np


class Outcomes(NamedTuple):
    """Of N images, in the order of the split."""

    labels: np.ndarray
    """int64 [N], the truth."""
    predicted: np.ndarray
    """int64 [N], the class of the highest probability."""
    confidence: np.ndarray
    """float32 [N], that probability."""
    true_probability: np.ndarray
    """float32 [N], the probability of the truth."""


class ClassRow(NamedTuple):
    """One class; None where the number does not exist."""

    name: str
    images: int
    predicted: int
    """Images that were taken for this class."""
    recall: float | None
    """Of its images, the part that was recognized."""
    precision: float | None
    """Of the images that were taken for it, the part that belongs to it."""
    f1: float | None


class Bin(NamedTuple):
    """Images whose confidence lies in one interval."""

    low: float
    high: float
    images: int
    confidence: float
    """Mean; 0 without images."""
    accuracy: float
    """The part that is right; 0 without images."""


def confusion_matrix(outcomes: Outcomes, num_classes: int) -> np.ndarray:
    """int64 [C, C]: rows are the truth, columns what was said."""
    cells = outcomes.labels * num_classes + outcomes.predicted
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_rows(matrix: np.ndarray, class_names: list[str]) -> list[ClassRow]:
    """Recall, precision and F1 of each class, in the order of the labels."""
    rows = []
    for label, name in enumerate(class_names):
        right, images, predicted = (int(n) for n in (matrix[label, label], matrix[label].sum(), matrix[:, label].sum()))
        recall = right / images if images else None
        precision = right / predicted if predicted else None
        f1 = 2 * right / (images + predicted) if images + predicted else None
        rows.append(ClassRow(name, images, predicted, recall, precision, f1))
    return rows


def confused_pairs(matrix: np.ndarray, class_names: list[str], limit: int = 20) -> list[tuple[str, str, int]]:
    """(truth, what was said instead, how often), the most frequent first."""
    wrong = matrix - np.diag(np.diag(matrix))
    cells = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    rows, columns = np.unravel_index(cells, wrong.shape)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(class_names[r], class_names[c], int(wrong[r, c])) for r, c in pairs if wrong[r, c]]


def calibration(outcomes: Outcomes, num_bins: int = 15) -> tuple[float, list[Bin]]:
    """The expected calibration error, 0..1, and its bins.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3: the mean over the images of the difference between
    the accuracy of their bin and its mean confidence; the bins (low, high] have equal width.
    """
    right = outcomes.predicted == outcomes.labels
    places = (np.ceil(outcomes.confidence.astype(np.float64) * num_bins).astype(int) - 1).clip(0, num_bins - 1)
    counts = np.bincount(places, minlength=num_bins)
    share = 1 / counts.clip(min=1)
    confidence = np.bincount(places, outcomes.confidence, num_bins) * share
    accuracy = np.bincount(places, right, num_bins) * share
    error = float(counts @ np.abs(accuracy - confidence)) / max(1, len(right))
    columns = counts.tolist(), confidence.tolist(), accuracy.tolist()
    bins = [Bin(i / num_bins, (i + 1) / num_bins, *values) for i, values in enumerate(zip(*columns, strict=True))]
    return error, bins


def worst(outcomes: Outcomes, limit: int = 64) -> np.ndarray:
    """The wrongly classified images that were given the lowest probability of the truth, the worst first."""
    wrong = np.flatnonzero(outcomes.predicted != outcomes.labels)
    return wrong[np.argsort(outcomes.true_probability[wrong], kind="stable")][:limit]
