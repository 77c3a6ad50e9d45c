"""What a detector says about the images of a split, in a few arrays: what evaluators judge and formats write."""

from typing import NamedTuple

import numpy as np

from public.datasets.annotations import DetectionAnnotations


class Predictions(NamedTuple):
    """D detections in the images of a split."""

    image_ids: np.ndarray
    """int64 [D], the data set's own."""
    boxes: np.ndarray
    """float32 [D, 4], x1 y1 x2 y2 in pixels of the original image: pixel i covers [i, i + 1). From a file float64."""
    scores: np.ndarray
    """float32 [D]. From a file float64."""
    labels: np.ndarray
    """int64 [D], 0-based."""


class WrittenPredictions(NamedTuple):
    """D detections in the numbers of a file of results."""

    predictions: Predictions
    """Boxes and scores in float64."""
    sides: np.ndarray
    """float64 [D, 2], width and height: where a file states them, x + width - x need not give them back."""


def with_sides(predictions: Predictions) -> WrittenPredictions:
    """The same as a file states them that is written with every digit.

    Subtracted in float64, where differences of float32 coordinates of one magnitude are exact: an evaluation of the
    file gives the numbers that we give.
    """
    boxes = predictions.boxes.astype(np.float64)
    return WrittenPredictions(predictions._replace(boxes=boxes), boxes[:, 2:] - boxes[:, :2])


def rows_of_images(predictions: Predictions, annotations: DetectionAnnotations) -> np.ndarray:
    """Which image of the annotations each prediction belongs to, int64 [D]."""
    order = np.argsort(annotations.image_ids)
    sorted_ids = annotations.image_ids[order]
    places = np.searchsorted(sorted_ids, predictions.image_ids).clip(max=len(sorted_ids) - 1)
    assert np.array_equal(sorted_ids[places], predictions.image_ids), "predictions in images of another split"
    return order[places]
