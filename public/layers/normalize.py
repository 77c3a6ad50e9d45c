"""Pixels to network input, on the device."""

from collections.abc import Sequence

import torch
from torch import nn


class Normalize(nn.Module):
    """(pixels / 255 - mean) / std, as one multiplication and one addition a channel.

    Args:
        mean: of pixels scaled to 0..1, one value a channel.
        std: likewise.
        channels_last: give NHWC memory layout.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = False) -> None:
        super().__init__()
        mean_, std_ = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        # Not persistent: the numbers belong to the config, and a state dict stays that of the bare network.
        self.register_buffer("scale", (1 / (255 * std_)).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean_ / std_).float().view(1, -1, 1, 1), persistent=False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, C, H, W] -> float32 [B, C, H, W]."""
        images = images.to(torch.float32, memory_format=self.memory_format)
        scale, shift = self.scale, self.shift
        if self.memory_format == torch.channels_last:
            # One row of numbers instead of one pixel: a CPU's inner loop would be 3 numbers long.
            shape = (1, images.shape[1], 1, images.shape[3])
            scale, shift = (x.expand(shape).contiguous(memory_format=self.memory_format) for x in (scale, shift))
        return torch.addcmul(shift, images, scale)
