"""Augmentation of a whole batch of small images at once, as CIFAR needs it.

A transform is called with uint8 images [B, 3, H, W] on any device and uniform draws [B, num_draws], one row for each
image, which come from (seed, epoch, image) alone; it gives the new images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F

from public.runtime.constants import tensor_on
from public.runtime.seeding import drawing_for
from public.transforms.image import IMAGENET_MEAN_COLOR


class BatchTransform(Protocol):
    """What a whole-batch transform looks like."""

    num_draws: ClassVar[int]

    def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """New images [B, 3, H', W'] from images [B, 3, H, W] and draws [B, num_draws] in [0, 1)."""
        ...


@dataclass(frozen=True, kw_only=True)
class BatchRandomCrop:
    """Pads every side, then cuts a window of the given size at a random place, another one for each image."""

    size: int
    """Height and width of the window, pixels."""
    padding: int
    """Pixels added on every side."""
    reflect: bool = True
    """Whether the border is mirrored into the padding (without repeating the edge pixel); else it is black."""
    num_draws: ClassVar[int] = 2

    def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W], [B, 2] -> [B, 3, size, size]."""
        padded = self._pad(images).contiguous()  # [B, 3, PH, PW], PH = H + 2 padding, PW = W + 2 padding
        batch, channels, height, width = padded.shape
        y = (draws[:, 0] * (height - self.size + 1)).long()  # [B]
        x = (draws[:, 1] * (width - self.size + 1)).long()  # [B]
        # A view of every window, by the place in memory of its first pixel: copying the chosen ones out of it moves
        # whole rows, six times as fast on a CPU as indexing pixel by pixel.
        image_stride, channel_stride, row_stride, _ = padded.stride()
        window = (channels - 1) * channel_stride + (self.size - 1) * (row_stride + 1) + 1
        windows = padded.as_strided(
            (padded.numel() - window + 1, channels, self.size, self.size), (1, channel_stride, row_stride, 1)
        )
        first = torch.arange(batch, device=images.device) * image_stride + y * row_stride + x  # [B]
        return windows.index_select(0, first)  # [B, 3, size, size]

    def _pad(self, images: torch.Tensor) -> torch.Tensor:
        if not self.reflect:
            return F.pad(images, [self.padding] * 4)
        return _mirror(_mirror(images, 3, self.padding), 2, self.padding)


def _mirror(images: torch.Tensor, dim: int, padding: int) -> torch.Tensor:
    """Reflection padding of one dimension, which torch's own does not do for uint8: 2 1 | 0 1 2 3 | 2 1."""
    before = images.narrow(dim, 1, padding).flip(dim)
    after = images.narrow(dim, images.shape[dim] - 1 - padding, padding).flip(dim)
    return torch.cat((before, images, after), dim)


@dataclass(frozen=True, kw_only=True)
class BatchRandomHorizontalFlip:
    """Mirrors each image left to right with a given probability."""

    probability: float = 0.5
    num_draws: ClassVar[int] = 1

    def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W], [B, 1] -> [B, 3, H, W]."""
        flipped = draws[:, 0] < self.probability  # [B]
        # Whole images are copied out of both versions: on a CPU five times as fast as choosing pixel by pixel.
        both = torch.cat((images, images.flip(3)))  # [2 B, 3, H, W]
        return both.index_select(0, torch.arange(len(images), device=images.device) + len(images) * flipped)


@dataclass(frozen=True, kw_only=True)
class BatchCutout:
    """Covers a square of each image, around a pixel that is as likely as any other: `Cutout` for a batch.

    DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552: what lies outside the image is lost, so that some images
    keep nearly all of themselves. The paper's size is 16 for CIFAR-10 and 8 for CIFAR-100.
    """

    size: int
    """Side of the square, pixels."""
    fill: tuple[int, int, int] = IMAGENET_MEAN_COLOR
    """Its color, red green blue: the data set's mean, which normalization makes zero."""
    num_draws: ClassVar[int] = 2

    def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W], [B, 2] -> [B, 3, H, W]."""
        top = (draws[:, 0] * images.shape[2]).long() - self.size // 2  # [B]
        left = (draws[:, 1] * images.shape[3]).long() - self.size // 2  # [B]
        return _filled(images, top, left, top + self.size, left + self.size, self.fill)


@dataclass(frozen=True, kw_only=True)
class BatchRandomErasing:
    """Covers a rectangle of some of the images with one color.

    Zhong et al. 2017, https://arxiv.org/abs/1708.04896, algorithm 1, with the mean color (their RE-M): rectangles are
    drawn until one lies within the image, here ten times at most.
    """

    probability: float = 0.5
    """Share of the images that are covered."""
    scale: tuple[float, float] = (0.02, 0.4)
    """Smallest and largest share of the image's area."""
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    """Smallest and largest height / width."""
    fill: tuple[int, int, int] = IMAGENET_MEAN_COLOR
    """The color, red green blue."""
    num_draws: ClassVar[int] = 1 + 10 * 4

    def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W], [B, 41] -> [B, 3, H, W]."""
        image_height, image_width = images.shape[2:]
        area, ratio, y, x = draws[:, 1:].unflatten(1, (10, 4)).unbind(2)  # [B, 10] each
        area = (self.scale[0] + area * (self.scale[1] - self.scale[0])) * image_height * image_width
        ratio = self.ratio[0] + ratio * (self.ratio[1] - self.ratio[0])
        height, width = (area * ratio).sqrt().long(), (area / ratio).sqrt().long()
        top, left = (y * image_height).long(), (x * image_width).long()
        fits = (top + height <= image_height) & (left + width <= image_width)  # [B, 10]
        first = fits.int().argmax(1, keepdim=True)  # [B, 1], 0 where none fits
        top, left, height, width = (v.gather(1, first)[:, 0] for v in (top, left, height, width))  # [B] each
        height = height * (fits.any(1) & (draws[:, 0] < self.probability))  # no rows: nothing is covered
        return _filled(images, top, left, top + height, left + width, self.fill)


def _filled(
    images: torch.Tensor,
    top: torch.Tensor,
    left: torch.Tensor,
    bottom: torch.Tensor,
    right: torch.Tensor,
    color: tuple[int, int, int],
) -> torch.Tensor:
    """Images [B, 3, H, W] with a rectangle in a color, its sides [B] in pixels, the last two exclusive."""
    height, width = images.shape[2:]
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = (y >= top[:, None]) & (y < bottom[:, None])  # [B, H]
    columns = (x >= left[:, None]) & (x < right[:, None])  # [B, W]
    covered = rows[:, None, :, None] & columns[:, None, None, :]  # [B, 1, H, W]
    return torch.where(covered, tensor_on(images.device, color, torch.uint8).view(1, 3, 1, 1), images)


@dataclass(frozen=True, kw_only=True)
class EachImage:
    """Any transform of one image, applied to each image of a batch: torchvision's RandAugment, RandomRotation, ...

    Its draws come from torch's generator, which each image's own number seeds. It takes about a millisecond per image.
    """

    transform: Callable[[Any], Any]
    """Takes uint8 [3, H, W] and gives such an image."""
    num_draws: ClassVar[int] = 1

    def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W], [B, 1] -> [B, 3, H', W']."""
        numbers = (draws[:, 0] * 2**53).long().tolist()
        return torch.stack([self._apply(image, number) for image, number in zip(images, numbers, strict=True)])

    def _apply(self, image: torch.Tensor, number: int) -> torch.Tensor:
        with drawing_for(0, 0, number):
            return self.transform(image)
