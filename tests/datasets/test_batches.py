"""Batches that a step could not work on are refused before it."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from public.datasets.batches import ClassificationBatch, DataError, DetectionBatch, check_batch
from public.geometry.labels import IGNORED, PADDING
from public.recipes.classification import ClassificationTask
from public.recipes.detection import DetectionTask
from public.runtime.distributed import DistributedContext

NAN, INF = float("nan"), float("inf")


def detection_batch(labels: list[list[int]], box: tuple[float, float, float, float] = (1, 2, 8, 9)) -> DetectionBatch:
    """Images 70, 71, ... with objects that have the same box."""
    of_labels, numbers = torch.tensor(labels), torch.arange(70, 70 + len(labels))
    boxes = torch.tensor(box).expand(*of_labels.shape, 4)
    sizes = torch.full((len(labels), 2), 16)
    images = torch.zeros(len(labels), 3, 16, 16, dtype=torch.uint8)
    return DetectionBatch(images, boxes, of_labels, sizes, sizes, numbers, numbers)


class OwnBatch(NamedTuple):
    """What an experiment's own loader may give."""

    images: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    content_sizes: torch.Tensor
    original_sizes: torch.Tensor
    image_ids: torch.Tensor
    seeds: torch.Tensor
    more: int


def class_batch(labels: list[int]) -> ClassificationBatch:
    return ClassificationBatch(torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8), torch.tensor(labels).long())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            detection_batch([[0, 1], [2, 3]]),
            r"^image id 71 of a batch has the label 3, and there are 3 classes: 0 to 2\.$",
        ),
        (detection_batch([[-3]]), r"^image id 70 of a batch has the label -3"),
        (
            detection_batch([[PADDING], [0]], (1, 2, NAN, 9)),
            r"^image id 71 of a batch has the box \[1\.0, 2\.0, nan, 9\.0\]",
        ),
        (detection_batch([[IGNORED]], (1, 2, INF, 9)), r"the box \[1\.0, 2\.0, inf, 9\.0\], which is not finite"),
        (detection_batch([[0]], (8, 2, 1, 9)), r"the box \[8, 2, 1, 9\], which .* ends before it begins"),
        (OwnBatch(*detection_batch([[0]], (1, 2, NAN, 9)), 7), r"^image id 70 of a batch has the box"),
        (class_batch([0, 1])._replace(images=torch.zeros(0, 3, 4, 4)), r"^the loader gave a batch without images"),
        (class_batch([0, 1])._replace(images=torch.zeros(3, 3, 4, 4)), r"a batch of 3 images with the labels of 2\.$"),
        (class_batch([0, 2, 3]), r"^image 2 of a batch has the label 3"),
        (class_batch([-1]), r"^image 0 of a batch has the label -1"),
        (class_batch([]), r"^the loader gave a batch without images"),
    ],
)
def test_what_a_step_cannot_work_on_is_named(batch: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_batch(batch, 3)


def test_padding_and_ignored_regions_are_no_wrong_labels() -> None:
    """And what pads may hold anything, also in a batch of an experiment's own."""
    check_batch(OwnBatch(*detection_batch([[0, 2], [IGNORED, PADDING]]), 7), 3)
    check_batch(detection_batch([[0, 2], [IGNORED, PADDING]]), 3)
    check_batch(detection_batch([[PADDING]], (NAN, NAN, NAN, NAN)), 3)
    check_batch(class_batch([0, 2]), 3)


@pytest.mark.parametrize(
    ("task", "good", "bad"),
    [
        (ClassificationTask, class_batch([0, 2]), class_batch([0, 3])),
        (DetectionTask, detection_batch([[0, 2]]), detection_batch([[0, 3]])),
    ],
)
def test_a_run_is_told_before_the_step(task: Any, good: Any, bad: Any) -> None:
    """By both recipes, for whatever loader."""
    context = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    own = SimpleNamespace(_data=SimpleNamespace(class_names=["a", "b", "c"]), _context=context)
    batches = iter(task.agreed(own, [good, bad]))
    assert next(batches) is good
    with pytest.raises(DataError, match="the label 3"):
        next(batches)
