"""Augmentation of a whole batch of small images at once, as CIFAR needs it.

A transform is called with uint8 images [B, 3, H, W] on any device and uniform draws [B, num_draws], one row for each
image, which come from (seed, epoch, image) alone; it gives the new images.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F


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
