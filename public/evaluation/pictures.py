"""Pictures of detections: a grid beside the ground truth, precision-recall curves; no display."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from public.datasets.annotations import DetectionAnnotations
from public.datasets.decoding import decode_annotated
from public.datasets.drawing import FONT, class_color, draw_boxes, encoded, in_rows, name_in_plot, new_figure, png_of
from public.datasets.predictions import Predictions, rows_of_images
from public.evaluation.evaluator import DetectionResult
from public.runtime.run_folder import replace_bytes, write_or_warn

PANEL = (320, 440)
"""Height and width in pixels of one image of the grid."""
MOST_CURVES = 20
"""Classes that have a color and a name in the precision-recall plot."""


class GridEntry(NamedTuple):
    """One image of the grid with what is in it and what was found."""

    image: np.ndarray
    """uint8 [H, W, 3] RGB."""
    gt_boxes: np.ndarray
    """float32 [N, 4], x1 y1 x2 y2 in pixels."""
    gt_labels: np.ndarray
    """int64 [N]; IGNORED for what need not be found."""
    pred_boxes: np.ndarray
    """float32 [D, 4]."""
    pred_scores: np.ndarray
    """float32 [D]."""
    pred_labels: np.ndarray
    """int64 [D]."""


def spread(annotations: DetectionAnnotations, num_images: int = 8) -> np.ndarray:
    """Images spread evenly over a split, the same ones every time, int64; all, where there are fewer."""
    count = min(num_images, annotations.num_images)
    return np.linspace(0, annotations.num_images - 1, count).round().astype(np.int64)


def grid_entries(
    annotations: DetectionAnnotations, predictions: Predictions, images: np.ndarray, min_score: float
) -> list[GridEntry]:
    """Images with their objects and predictions.

    Args:
        annotations: of the split.
        predictions: for the split.
        images: int64 [K], which of the split.
        min_score: weaker predictions are not shown.
    """
    image_of = rows_of_images(predictions, annotations)
    entries = []
    for index in images.tolist():
        path = annotations.folder / os.fsdecode(bytes(annotations.files[index]))
        height, width = annotations.sizes[index].tolist()
        pixels = decode_annotated(path, (height, width), annotations.reading)
        shown = (image_of == index) & (predictions.scores >= min_score)
        found = predictions.boxes[shown], predictions.scores[shown], predictions.labels[shown]
        entries.append(GridEntry(pixels, *annotations.of(index), *found))
    return entries


def draw_grid(path: Path, entries: Sequence[GridEntry], class_names: list[str], *, columns: int = 2) -> None:
    """Writes a picture: for each image, its ground truth on the left and the predictions on the right.

    Args:
        path: .jpg or .png. A full disk is a warning, and no file.
        entries: of `grid_entries`, or others.
        class_names: of the labels.
        columns: images side by side, of two panels each.
    """
    pairs = [_pair(entry, class_names) for entry in entries]
    whole = in_rows(pairs, columns) if pairs else np.full((64, 64, 3), 255, np.uint8)
    write_or_warn(path, encoded(path.suffix, whole))


def _pair(entry: GridEntry, class_names: list[str]) -> np.ndarray:
    """The two panels of one image, uint8 [H, W, 3]."""
    truth = _panel(entry.image, entry.gt_boxes, entry.gt_labels, None, class_names)
    found = _panel(entry.image, entry.pred_boxes, entry.pred_labels, entry.pred_scores, class_names)
    both = np.concatenate([truth, found], axis=1)
    return cv2.copyMakeBorder(both, 4, 8, 6, 6, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _panel(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None, class_names: list[str]
) -> np.ndarray:
    """One image with its boxes, resized into PANEL before anything is drawn, under a caption."""
    scale = min(PANEL[0] / image.shape[0], PANEL[1] / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    factors = np.array([width / image.shape[1], height / image.shape[0]] * 2)
    drawn = draw_boxes(small, boxes * factors, labels, scores, class_names)
    panel = np.full((PANEL[0] + 22, PANEL[1] + 6, 3), 255, np.uint8)
    top, left = 22 + (PANEL[0] - height) // 2, 3 + (PANEL[1] - width) // 2
    panel[top : top + height, left : left + width] = drawn
    caption = f"ground truth: {len(boxes)}" if scores is None else f"predictions: {len(boxes)}"
    cv2.putText(panel, caption, (left, 15), FONT, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return panel


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] RGB as the file type of the path's ending, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    replace_bytes(path, encoded(path.suffix, image))


def draw_precision_recall(path: Path, result: DetectionResult, title: str = "precision over recall at IoU 0.5") -> None:
    """Draws the curve of each class, and their mean in bold, as a PNG. A full disk is a warning, and no file.

    Each class is named with its AP50, the best first. Of more than 20 classes the ten best and the ten worst have a
    color and a name; the others are thin and gray.
    """
    figure = new_figure(8.6, 5.4)
    axes = figure.add_subplot()
    present = np.flatnonzero(~np.isnan(result.curves.precision).any(axis=1))
    of_class = {row["class"]: row["AP50"] for row in result.per_class}
    scores = {label: of_class[result.class_names[label]] for label in present.tolist()}
    best_first = sorted(scores, key=lambda label: -scores[label])
    half = MOST_CURVES // 2
    named = best_first if len(best_first) <= MOST_CURVES else best_first[:half] + best_first[-half:]
    for label in best_first:
        precision = result.curves.precision[label]
        name = f"{name_in_plot(result.class_names[label])} {scores[label]:.3f}"
        color = [0.9 * part / 255 for part in class_color(label)]
        look: dict[str, Any] = {"color": color, "linewidth": 1.2, "label": name}
        axes.plot(result.curves.recall, precision, **look if label in named else {"color": "0.8", "linewidth": 0.6})
    if best_first:
        mean = result.curves.precision[present].mean(axis=0)
        name = f"mean of {len(present)}: {np.mean([*scores.values()]):.3f}"
        axes.plot(result.curves.recall, mean, color="black", linewidth=3, label=name)
        figure.legend(loc="outside right upper", fontsize=8)
    axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    write_or_warn(path, png_of(figure))
