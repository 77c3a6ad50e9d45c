"""What a detector says about the images of a split, in a few arrays: what evaluators judge and formats write."""

from typing import NamedTuple

import numpy as np

from public.datasets.annotations import DetectionAnnotations


class Predictions(NamedTuple):
    """D detections in the images of a split."""

    image_ids: np.ndarray
    """int64 [D], the data set's own."""
    boxes: np.ndarray
    """float32 [D, 4], x1 y1 x2 y2 in pixels of the original image: pixel i covers [i, i + 1)."""
    scores: np.ndarray
    """float32 [D]."""
    labels: np.ndarray
    """int64 [D], 0-based."""


def rows_of_images(predictions: Predictions, annotations: DetectionAnnotations) -> np.ndarray:
    """Which image of the annotations each prediction belongs to, int64 [D]."""
    order = np.argsort(annotations.image_ids)
    sorted_ids = annotations.image_ids[order]
    places = np.searchsorted(sorted_ids, predictions.image_ids).clip(max=len(sorted_ids) - 1)
    assert np.array_equal(sorted_ids[places], predictions.image_ids), "predictions in images of another split"
    return order[places]
