"""The report of a classifier on a split: one page, its numbers as files, and the pictures that it got most wrong."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from public.datasets.batches import ImageEvalLoader
from public.datasets.drawing import FONT, encoded, in_rows
from public.evaluation.classification import ClassificationResult
from public.evaluation.outcomes import (
    Bin,
    ClassRow,
    Outcomes,
    calibration,
    class_rows,
    confused_pairs,
    confusion_matrix,
    worst,
)
from public.runtime.page import MOST_NAMED, Section, chart, matrix, page, picture, table, text
from public.runtime.run_folder import going_on_without_plot, write_or_warn

TILE = 150
"""Side of one of the worst pictures, pixels."""
COLUMNS = 8
OUTCOME_COLUMNS = ("image", "truth", "predicted", "confidence", "true_probability")
"""Of outcomes.csv; the last two are the probabilities of what was said and of the truth."""


def write_report(
    folder: Path, result: ClassificationResult, class_names: list[str], split: ImageEvalLoader, *, title: str
) -> None:
    """Writes report.html, metrics.json, per_class.csv, outcomes.csv and the worst pictures; a full disk is a warning.

    Args:
        folder: made if missing.
        result: of the split.
        class_names: of the labels.
        split: gives the pictures that are shown, and the names of all.
        title: of the page: what was evaluated on what.
    """
    outcomes = result.outcomes
    counts = confusion_matrix(outcomes, len(class_names))
    rows, (error, bins) = class_rows(counts, class_names), calibration(outcomes)
    metrics = result.metrics | {"calibration_error": error}
    pictures = None
    with going_on_without_plot("worst.jpg"):
        pictures = _draw_worst(outcomes, class_names, split)
    sections = [
        Section("Numbers", [table(("metric", "value"), metrics.items())]),
        Section("Most confused", _pairs(counts, class_names)),
        Section("Confusion matrix", [_confusion(counts, class_names)]),
        Section("Calibration", _calibration(bins)),
        Section("Worst pictures", [picture(pictures, "worst pictures")] if pictures else []),
        Section("Classes, the least recognized first", [table(ClassRow._fields, sorted(rows, key=_recall))]),
    ]
    files: dict[str, str | bytes] = {
        "metrics.json": json.dumps(metrics, indent=2) + "\n",
        "per_class.csv": csv_of(ClassRow._fields, rows),
        "outcomes.csv": outcomes_csv(outcomes, class_names, split),
        "report.html": page(title, sections),
        **({"worst.jpg": pictures} if pictures else {}),
    }
    for name, content in files.items():
        write_or_warn(folder / name, content)


def _recall(row: ClassRow) -> float:
    return 2.0 if row.recall is None else row.recall


def _pairs(counts: np.ndarray, class_names: list[str]) -> list[str]:
    pairs = confused_pairs(counts, class_names)
    return [table(("truth", "taken for", "images"), pairs)] if pairs else []


def _confusion(counts: np.ndarray, class_names: list[str]) -> str:
    """Names and counts, or of many classes a picture of each row's shares: truth from top to bottom."""
    if len(class_names) <= MOST_NAMED:
        return matrix("truth, taken for", class_names, counts.tolist())
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    gray = np.rint(255 * (1 - share)).astype(np.uint8)
    factor = max(1, 700 // len(class_names))
    large = gray.repeat(factor, axis=0).repeat(factor, axis=1)
    words = "Truth from top to bottom, what was said from left to right, both in the order of the classes."
    return text(words) + picture(encoded(".png", np.repeat(large[:, :, None], 3, axis=2)), "confusion matrix")


def _calibration(bins: list[Bin]) -> list[str]:
    about = "Confidence is the highest probability. Above the diagonal the network is too modest, below it too sure."
    filled = [one for one in bins if one.images]
    points = [(one.confidence, one.accuracy) for one in filled]
    lines = chart("confidence", "accuracy", {"network": points, "calibrated": [(0, 0), (1, 1)]})
    return [text(about), lines, table(Bin._fields, filled)]


def csv_of(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV file's content; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def outcomes_csv(outcomes: Outcomes, class_names: list[str], split: ImageEvalLoader) -> str:
    """A line an image, in the split's order: what `apps.evaluate --compare` resamples."""
    truth, said = ([class_names[label] for label in labels] for labels in (outcomes.labels, outcomes.predicted))
    names = map(split.name, range(len(truth)))
    return csv_of(OUTCOME_COLUMNS, [*zip(names, truth, said, *outcomes[2:], strict=True)])


def _draw_worst(outcomes: Outcomes, class_names: list[str], split: ImageEvalLoader) -> bytes | None:
    """The worst pictures with truth, what was said, and how sure; None where nothing is wrong."""
    chosen = worst(outcomes).tolist()
    if not chosen:
        return None
    tiles = []
    for index in chosen:
        truth, said = class_names[outcomes.labels[index]], class_names[outcomes.predicted[index]]
        tiles.append(_tile(split.picture(index), truth, f"taken for {said} {outcomes.confidence[index]:.2f}"))
    return encoded(".jpg", in_rows(tiles, min(COLUMNS, len(tiles))))


def _tile(pixels: np.ndarray, *captions: str) -> np.ndarray:
    """A picture in a square with two lines below it, uint8 [H, W, 3]."""
    scale = TILE / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    tile = np.full((TILE + 40, TILE + 8, 3), 255, np.uint8)
    top, left = (TILE - height) // 2 + 4, (TILE - width) // 2 + 4
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    tile[top : top + height, left : left + width] = cv2.resize(pixels, (width, height), interpolation=how)
    for line, caption in enumerate(captions):
        length = cv2.getTextSize(caption, FONT, 0.4, 1)[0][0]
        place = (4, TILE + 18 + 15 * line)
        cv2.putText(tile, caption, place, FONT, 0.4 * min(1.0, TILE / max(1, length)), (20, 20, 20), 1, cv2.LINE_AA)
    return tile
