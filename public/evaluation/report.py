"""What an evaluation of a detector leaves: a page, its numbers and pictures as files, and the detections themselves."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from public.config.detection import DetectionData
from public.datasets.annotations import DetectionAnnotations
from public.datasets.coco import write_coco_json
from public.datasets.formats import format_of
from public.datasets.predictions import Predictions
from public.evaluation.classification_report import csv_of
from public.evaluation.detection import EVALUATORS, format_table
from public.evaluation.evaluator import DetectionResult, Evaluator, existing
from public.evaluation.mistakes import Mistakes, find_mistakes
from public.evaluation.operating_points import THRESHOLDS, OperatingPoint, OperatingPoints, judged, operating_points
from public.evaluation.outcomes import confused_pairs
from public.evaluation.pictures import draw_grid, draw_precision_recall, grid_entries, spread
from public.runtime.page import MOST_NAMED, Section, chart, matrix, page, picture, table, text
from public.runtime.run_folder import going_on_when_disk_is_full, going_on_without_plot, write_or_warn

USUAL_THRESHOLD = 0.3
"""Of pictures, where nothing says which is best."""
NUM_WORST = 8
"""Images with the most mistakes that are shown."""


def write_report(
    folder: Path,
    result: DetectionResult,
    predictions: Predictions,
    annotations: DetectionAnnotations,
    *,
    data: DetectionData | None,
    evaluator: Evaluator,
    title: str,
    picture: str | None = "pictures.jpg",
) -> OperatingPoints:
    """Writes everything; a full disk is one warning for each kind of file.

    Args:
        folder: made if missing.
        result: of the evaluator.
        predictions: for the split.
        annotations: of the split.
        data: of which it is; its format writes the detections once more as they are handed in. None: they are of files
            already, and are not written.
        evaluator: gives the files of its rules; those that an evaluation by other rules may have left are removed.
        title: of the page: what was evaluated on what.
        picture: name of the picture grid; None: the images are not there, and none are shown.

    Returns:
        The thresholds of the best F1: what is shown in the pictures has the one of all classes together.
    """
    counted = judged(predictions, annotations)
    points = operating_points(counted, annotations)
    threshold = points.best.threshold if points.best else USUAL_THRESHOLD
    mistakes = find_mistakes(counted, annotations, threshold)
    with going_on_without_plot("precision_recall.png"):
        draw_precision_recall(folder / "precision_recall.png", result)
    shown = spread(annotations), np.argsort(-mistakes.by_image, kind="stable")[:NUM_WORST]
    for name, images in zip((picture, "worst.jpg") if picture else (), shown, strict=picture is not None):
        with going_on_without_plot(name):
            draw_grid(folder / name, grid_entries(annotations, predictions, images, threshold), annotations.class_names)
    rows = _class_rows(result, points)
    metrics = existing(result.metrics) | {"score_threshold": threshold} | _at(points.best)
    texts: dict[str, str | None] = {name: None for one in EVALUATORS.values() for name in one.report_names}
    texts |= {
        "table.txt": format_table(result),
        "metrics.json": json.dumps(metrics, indent=2) + "\n",
        "per_class.csv": csv_of([*rows[0]] if rows else ["class"], [[*row.values()] for row in rows]),
        "report.html": page(title, _sections(folder, metrics, rows, points, mistakes, annotations, picture)),
        **evaluator.reports(result),
    }
    for name, content in texts.items():
        if content is not None:
            write_or_warn(folder / name, content)
            continue
        with going_on_when_disk_is_full(name):
            (folder / name).unlink(missing_ok=True)
    if data is not None:
        write_coco_json(folder / "predictions.json", predictions, annotations)
        format_of(data).write(folder, predictions, annotations)
    return points


def _at(point: OperatingPoint | None) -> dict[str, float]:
    """What a threshold gives, for tables; nothing where there is none."""
    return {} if point is None else {"precision": point.precision, "recall": point.recall, "F1": point.f1}


def _class_rows(result: DetectionResult, points: OperatingPoints) -> list[dict[str, Any]]:
    """The result's rows with each class's own best threshold; None for what does not exist."""
    rows = []
    for row in result.per_class:
        point = points.per_class[result.class_names.index(row["class"])]
        own = dict.fromkeys(("score_threshold", "precision", "recall", "F1"))
        if point is not None:
            own = {"score_threshold": point.threshold, **_at(point)}
        rows.append({name: None if value == -1 else value for name, value in row.items()} | own)
    return rows


def _sections(
    folder: Path,
    metrics: dict[str, float],
    rows: list[dict[str, Any]],
    points: OperatingPoints,
    mistakes: Mistakes,
    annotations: DetectionAnnotations,
    grid: str | None,
) -> list[Section]:
    kinds = ("kind", "what it is", "how often", "AP50 lost")
    classes = [table([*rows[0]], [[*row.values()] for row in rows])] if rows else []
    return [
        Section("Numbers", [table(("metric", "value"), metrics.items())]),
        Section("Threshold", _thresholds(points)),
        Section("Precision over recall", _picture(folder / "precision_recall.png")),
        Section("Kinds of error", [table(kinds, mistakes.errors)]),
        Section("Confusion matrix", _confusion(mistakes.confusion, annotations.class_names)),
        Section("Most mistakes", _picture(folder / "worst.jpg") if grid else []),
        Section("Images across the split", _picture(folder / grid) if grid else []),
        Section("Classes", classes),
    ]


def _thresholds(points: OperatingPoints) -> list[str]:
    if points.best is None:
        return []
    precision, recall = points.precision, points.recall
    with np.errstate(invalid="ignore"):
        curves = {"precision": precision, "recall": recall, "F1": 2 * precision * recall / (precision + recall)}
    lines = {name: list(zip(THRESHOLDS.tolist(), values.tolist(), strict=True)) for name, values in curves.items()}
    words = f"F1 of all classes together is best at the score {points.best.threshold:.3f}, which the pictures show."
    return [text(words), chart("score threshold", "at IoU 0.5", lines)]


def _confusion(confusion: np.ndarray, class_names: list[str]) -> list[str]:
    """With names where they have room; of more classes the pairs that are confused most."""
    if len(class_names) <= MOST_NAMED:
        return [matrix("truth, taken for", [*class_names, "background"], confusion.tolist())]
    return [table(("truth", "taken for", "objects"), confused_pairs(confusion[:-1, :-1], class_names))]


def _picture(path: Path) -> list[str]:
    """A picture that was written; none where the disk was full."""
    return [picture(path.read_bytes(), path.stem.replace("_", " "))] if path.is_file() else []
