"""How far a metric would move on other images: evaluations of the same images, resampled together.

The paired bootstrap, Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: as many images are drawn from the
split, with replacement, as it has, and every evaluation is repeated on those; 95 of 100 differences between evaluations
lie within the interval. An image that is drawn twice counts twice: its detections carry weights, and nothing is matched
again.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

Resampled = Callable[[np.ndarray], np.ndarray]
"""How often each image counts, int64 [N] -> K metrics of an evaluation, float64 [K]; NaN for what does not exist."""


class Verdicts(NamedTuple):
    """The D detections of a split, judged at T overlaps, and its G objects to find."""

    images: np.ndarray
    """int64 [D], rows of the split; detections are sorted by class, and within it by falling score."""
    labels: np.ndarray
    """int64 [D]."""
    right: np.ndarray
    """int8 [T, D]: right (1), wrong (-1) or neither (0)."""
    object_images: np.ndarray
    """int64 [G]."""
    object_labels: np.ndarray
    """int64 [G]."""


def draws(num_images: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image was drawn, int64 [N], for each of `count` draws of N images."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.bincount(rng.integers(0, num_images, num_images), minlength=num_images)


def average_precisions(
    verdicts: Verdicts, num_classes: int, covered: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """The average precision of each class under weights of the images.

    Args:
        verdicts: of an evaluation.
        num_classes: C.
        covered: recalls -> which part of the recall axis lies at them or below: itself for the area under the curve,
            and of an average over fixed recalls the part of those.

    Returns:
        Weights int64 [N] -> float64 [T, C]; NaN for a class of which no image with an object has a weight.
    """
    images, labels, right, object_images, object_labels = verdicts
    starts = np.searchsorted(labels, np.arange(num_classes))  # [C], where a class's detections begin
    # Precision is looked at where recall rises: at the L right detections, by overlap, class and score.
    overlap, place = np.nonzero(right > 0)
    label = labels[place]
    segment = overlap * num_classes + label  # one curve each, rising
    num_segments = len(right) * num_classes
    begins = np.searchsorted(segment, np.arange(num_segments))[segment]  # [L], where the curve of each begins
    is_first = begins == np.arange(len(segment))
    # The detections that count neither way, of the same overlap and class, before each.
    neither, skipped = np.nonzero(right == 0)
    keys = neither * len(labels) + skipped
    spans = [np.searchsorted(keys, overlap * len(labels) + one) for one in (starts[label], place)]
    # Added to precisions, it keeps a maximum that runs backwards within its curve.
    raised = 2.0 * (num_segments - segment)

    def compute(weights: np.ndarray) -> np.ndarray:
        num_objects = np.bincount(object_labels, weights[object_images], num_classes)  # [C]
        own = weights[images]  # [D]
        shown = _summed(own)[place + 1] - _summed(own)[starts[label]]
        passed = _summed(own[skipped])
        shown = shown - (passed[spans[1]] - passed[spans[0]])  # [L]
        found = _summed(own[place])
        found = found[1:] - found[begins]  # [L]
        highest = np.maximum.accumulate((found / shown.clip(min=1) + raised)[::-1])[::-1] - raised
        reached = covered(found / num_objects[label].clip(min=1))
        gained = reached - np.where(is_first, 0, np.append(0, reached)[:-1])
        areas = np.bincount(segment, gained * highest, num_segments).reshape(-1, num_classes)
        return np.where(num_objects > 0, areas, np.nan)

    return compute


def _summed(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... of them."""
    return np.append(0, np.cumsum(values))


def intervals(
    groups: Sequence[Sequence[Resampled]], num_images: int, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % intervals of what each group of evaluations has more than the first, by the means over a group.

    Args:
        groups: of evaluations of the same N images, at least two; those of a group count alike.
        num_images: N.
        count: draws.
        seed: of the draws.

    Returns:
        The lower and upper ends, float64 [groups - 1, K]; NaN for what exists in no draw.
    """
    values = [
        [np.mean([evaluate(weights) for evaluate in group], axis=0) for group in groups]
        for weights in tqdm(draws(num_images, count, seed), "resampling", count, disable=None, leave=False)
    ]
    means = np.array(values)  # [count, groups, K]
    ends = np.nanpercentile(means[:, 1:] - means[:, :1], (2.5, 97.5), axis=0)
    return ends[0], ends[1]


def mean_precisions(compute: Callable[[np.ndarray], np.ndarray]) -> Resampled:
    """The means over the classes that have objects: over all overlaps, and at the first, float64 [2]."""

    def means(weights: np.ndarray) -> np.ndarray:
        values = compute(weights)
        values = values[:, ~np.isnan(values[0])]
        return np.array([values.mean(), values[0].mean()]) if values.size else np.full(2, np.nan)

    return means


def shares(right: np.ndarray) -> Resampled:
    """Of images that are right or not, bool [N], the share that is right, float64 [1]."""
    return lambda weights: np.array([weights @ right / weights.sum()])
