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
        padded = self._pad(images)  # [B, 3, H + 2 padding, W + 2 padding]
        windows = padded.unfold(2, self.size, 1).unfold(3, self.size, 1)  # a view: [B, 3, Y, X, size, size]
        y = (draws[:, 0] * windows.shape[2]).long()  # [B]
        x = (draws[:, 1] * windows.shape[3]).long()  # [B]
        return windows[torch.arange(len(images), device=images.device), :, y, x]  # [B, 3, size, size]

    def _pad(self, images: torch.Tensor) -> torch.Tensor:
        if not self.reflect:
            return F.pad(images, [self.padding] * 4)
        # torch's reflection padding does not take uint8, so the mirrored rows and columns are picked by number.
        rows = _mirrored(images.shape[2], self.padding, images.device)
        columns = _mirrored(images.shape[3], self.padding, images.device)
        return images.index_select(2, rows).index_select(3, columns)


def _mirrored(length: int, padding: int, device: torch.device) -> torch.Tensor:
    """Where each of length + 2 padding places reads from: 2 1 | 0 1 2 3 | 2 1 for length 4, padding 2."""
    places = torch.arange(-padding, length + padding, device=device).abs()
    return torch.where(places >= length, 2 * (length - 1) - places, places)


@dataclass(frozen=True, kw_only=True)
class BatchRandomHorizontalFlip:
    """Mirrors each image left to right with a given probability."""

    probability: float = 0.5
    num_draws: ClassVar[int] = 1

    def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W], [B, 1] -> [B, 3, H, W]."""
        flipped = draws[:, 0] < self.probability  # [B]
        return torch.where(flipped[:, None, None, None], images.flip(3), images)
