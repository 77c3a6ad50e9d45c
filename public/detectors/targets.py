"""The objects of a whole batch in one flat list, which is what targets are computed from.

The images of a batch have very different numbers of objects, and its rows are filled up to the largest: with the
objects in one list nothing is computed for the filling, and nothing loops over images. Where shapes are fixed, the
filling stays in the list, as boxes of no area.
"""

from typing import NamedTuple

from torch import Tensor

from public.datasets.batches import DetectionBatch
from public.geometry.fixed_shapes import Chosen
from public.geometry.labels import IGNORED


class FlatBoxes(NamedTuple):
    """Boxes of all images of a batch, by image, then in the order of the image's rows.

    Where shapes are fixed (`public.geometry.fixed_shapes`), T = B * M, and every other row is a box of zeros.
    """

    boxes: Tensor
    """float32 [T, 4], x1 y1 x2 y2 in pixels of the canvas."""
    labels: Tensor
    """int64 [T]."""
    images: Tensor
    """int64 [T], rising: the image in the batch."""


def flat_objects(batch: DetectionBatch) -> FlatBoxes:
    """The objects to find."""
    return _flat(batch, batch.labels >= 0)


def flat_ignored(batch: DetectionBatch) -> FlatBoxes:
    """The regions where nothing is to be learned: neither objects nor background."""
    return _flat(batch, batch.labels == IGNORED)


def _flat(batch: DetectionBatch, chosen: Tensor) -> FlatBoxes:
    rows = Chosen(chosen)
    return FlatBoxes(rows.only(rows.of(batch.boxes)).float(), rows.of(batch.labels), rows.images)
