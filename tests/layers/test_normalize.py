"""Pixels to network input."""

import torch
from torchvision.transforms.v2 import functional as reference

from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.layers.normalize import Normalize


def test_by_hand() -> None:
    """mean 0.5, std 0.25: pixel 0 -> -2, 255 -> 2, 51 (0.2) -> -1.2; a second channel with mean 0, std 1."""
    images = torch.tensor([[[[0, 255, 51]], [[0, 255, 51]]]], dtype=torch.uint8)
    output = Normalize((0.5, 0.0), (0.25, 1.0))(images)
    torch.testing.assert_close(output, torch.tensor([[[[-2.0, 2.0, -1.2]], [[0.0, 1.0, 0.2]]]]))


def test_equals_torchvision_for_every_pixel_value() -> None:
    """All 256 values of the three channels with ImageNet's numbers; 1e-6 is 4 units in the last place of 2.6."""
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    scaled = reference.to_dtype(images, torch.float32, scale=True)
    expected = reference.normalize(scaled, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(Normalize(IMAGENET_MEAN, IMAGENET_STD)(images), expected, rtol=0, atol=1e-6)


def test_layout_and_type() -> None:
    """float32 in the layout asked for."""
    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    for channels_last, layout in ((True, torch.channels_last), (False, torch.contiguous_format)):
        output = Normalize(IMAGENET_MEAN, IMAGENET_STD, channels_last=channels_last)(images)
        assert output.dtype == torch.float32
        assert output.is_contiguous(memory_format=layout)


def test_nothing_enters_the_state_dict() -> None:
    """A checkpoint's keys are those of the bare network."""
    assert not Normalize(IMAGENET_MEAN, IMAGENET_STD).state_dict()
