"""The arrays of a split: the rows of an image, and what the log says of what is not there."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from public.datasets.annotations import DetectionAnnotations, describe_treated

ANNOTATIONS = DetectionAnnotations(
    folder=Path("images"),
    files=np.array([b"a.jpg", b"b.jpg", b"c.jpg"]),
    image_ids=np.array([5, 3, 9]),
    sizes=np.array([[30, 40]] * 3),
    offsets=np.array([0, 2, 2, 3]),
    boxes=np.array([[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]], dtype=np.float32),
    labels=np.array([1, 0, 1]),
    ignored=np.array([False, True, False]),
    class_names=["cat", "dog"],
    category_ids=[3, 90],
    source=Path("a.json"),
    skipped={},
)


def test_the_rows_of_an_image() -> None:
    """Two objects, of which the ignored one has label -2; none; one."""
    boxes, labels = ANNOTATIONS.of(0)
    assert boxes.tolist() == [[0, 0, 4, 4], [1, 1, 5, 5]]
    assert labels.tolist() == [1, -2]
    boxes, labels = ANNOTATIONS.of(1)
    assert (boxes.shape, boxes.dtype, labels.shape, labels.dtype) == ((0, 4), np.float32, (0,), np.int64)
    assert ANNOTATIONS.of(2)[0].tolist() == [[2, 2, 6, 6]]
    assert (ANNOTATIONS.num_images, ANNOTATIONS.num_boxes) == (3, 3)


def test_an_image_of_its_own() -> None:
    """Writing into what `of` gave leaves the split as it is."""
    ANNOTATIONS.of(0)[0][:] = 99
    assert ANNOTATIONS.boxes.max() == 6


def test_what_was_skipped_and_filled() -> None:
    """Each kind with its count; nothing to say where nothing was."""
    assert describe_treated(ANNOTATIONS) == ""
    some = replace(ANNOTATIONS, skipped={"boxes without area": 2, "boxes outside the image": 1})
    assert describe_treated(some) == "; skipped: boxes without area: 2, boxes outside the image: 1"
    filled = replace(ANNOTATIONS, filled={"image sizes that are not stated": 3})
    assert describe_treated(filled) == "; filled in: image sizes that are not stated: 3"
