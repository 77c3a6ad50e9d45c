"""torchvision's transforms on pictures with boxes: by hand, by seed, and refused where they cannot work."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from public.datasets.batches import DataError
from public.datasets.detection_loaders import checked_transforms
from public.transforms.detection import DetectionSample, SquareResize
from public.transforms.with_boxes import WithBoxes, with_boxes


def sample() -> DetectionSample:
    """60 wide, 40 high; an object at the left, an ignored one at the right."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    boxes = np.array([[2, 4, 12, 24], [50, 10, 60, 40]], dtype=np.float32)
    return DetectionSample(image, boxes, np.array([3, -1]), (40, 60))


DRAWS = np.array([0.3])


def test_a_flip() -> None:
    """x becomes 60 - x: 2..12 is 48..58 and 50..60 is 0..10; labels stay with their boxes."""
    given = sample()
    found = with_boxes(v2.RandomHorizontalFlip(p=1.0))(given, DRAWS)
    assert np.array_equal(found.image, given.image[:, ::-1])
    assert found.boxes.tolist() == [[48, 4, 58, 24], [0, 10, 10, 40]]
    assert found.labels.tolist() == [3, -1]
    assert (found.content_size, found.image.dtype, found.boxes.dtype) == ((40, 60), np.uint8, np.float32)
    assert found.image.flags.c_contiguous


def test_what_is_cut_off_goes_with_its_label() -> None:
    """Of the middle 20 x 20 pixels, from column 20 and row 10, neither object is left; of 50 x 40 the first is whole,
    and of the second the columns 50 to 55: 45 to 50 after the cut."""
    assert with_boxes(v2.CenterCrop(20))(sample(), DRAWS).labels.tolist() == []
    found = with_boxes(v2.CenterCrop((40, 50)))(sample(), DRAWS)
    assert found.boxes.tolist() == [[0, 4, 7, 24], [45, 10, 50, 40]]
    assert found.labels.tolist() == [3, -1]


def test_a_transform_that_leaves_out_boxes_itself() -> None:
    """SanitizeBoundingBoxes wants sides of 15 pixels: both objects are 10 wide."""
    assert len(with_boxes(v2.SanitizeBoundingBoxes(min_size=15))(sample(), DRAWS).labels) == 0
    assert with_boxes(v2.SanitizeBoundingBoxes(min_size=10))(sample(), DRAWS).labels.tolist() == [3, -1]


AUGMENTATIONS = (
    v2.RandomIoUCrop(),
    v2.RandomZoomOut(),
    v2.ScaleJitter((40, 60)),
    v2.RandomPhotometricDistort(p=1.0),
    v2.RandomHorizontalFlip(),
    v2.RandomRotation((-20, 20)),
    v2.Compose([v2.RandomIoUCrop(), v2.RandomZoomOut()]),
)


@pytest.mark.slow
@pytest.mark.parametrize("transform", AUGMENTATIONS, ids=lambda one: type(one).__name__)
def test_every_draw_is_the_samples_own(transform: Any) -> None:
    """Whatever torch's generator has come to, which is left as it was; another draw gives another picture. Boxes lie in
    the picture and have an area; what was given is not written into."""
    adapted, given, found = with_boxes(transform), sample(), []
    for draw in (0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        torch.rand(1)
        state = torch.get_rng_state()
        found.append(adapted(given, np.array([draw])))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert any(one.image.shape != found[0].image.shape or (one.image != found[0].image).any() for one in found[2:])
    for one in found:
        height, width, _ = one.image.shape
        assert one.content_size == (height, width)
        assert len(one.boxes) == len(one.labels)
        assert (one.boxes >= 0).all()
        assert (one.boxes <= [width, height, width, height]).all()
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
    assert all(np.array_equal(a, b) for a, b in zip(given, sample(), strict=True))


def test_an_image_without_objects() -> None:
    """It stays without, cropped or not."""
    empty = sample()._replace(boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
    for transform in AUGMENTATIONS:
        assert WithBoxes(transform)(empty, DRAWS).boxes.shape == (0, 4)


class DrawsElsewhere(v2.Transform):
    """As older transforms do."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        random.random()
        return inpt


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (v2.ToDtype(torch.float32, scale=True), r"it gives pixels torch\.float32 \[3, 48, 64\], expected torch\.uint8"),
        (v2.Grayscale(), r"it gives pixels torch\.uint8 \[1, 48, 64\]"),
        (v2.MixUp(num_classes=3), "MixUp.* does not work on a picture and its boxes: "),
        (v2.RandAugment(), "RandAugment.* does not work on a picture and its boxes: "),
        (v2.FiveCrop(10), "FiveCrop.* does not work on a picture and its boxes: "),
        (DrawsElsewhere(), "draws from other generators than torch's"),
    ],
)
def test_what_cannot_work_is_refused_before_training(transform: Any, message: str) -> None:
    """By a try on a small picture when the loader is made."""
    with pytest.raises(DataError, match=f"^data.train_transforms holds .*{message}"):
        checked_transforms("data.train_transforms", (transform, SquareResize(size=32)))


def test_torchvisions_do_not_make_the_canvas() -> None:
    """The last one is ours, also after a ScaleJitter; evaluation has no other."""
    chain = (v2.ScaleJitter((40, 60)), SquareResize(size=32))
    assert [type(one) for one in checked_transforms("data.train_transforms", chain)] == [WithBoxes, SquareResize]
    with pytest.raises(DataError, match="must hold one resize, as the last"):
        checked_transforms("data.train_transforms", (v2.Resize((32, 32)),))
    with pytest.raises(DataError, match="which may draw; evaluation takes one resize alone"):
        checked_transforms("data.val_transforms", chain, random=False)
