"""Parameters and multiply-adds of a network, counted by thop."""

import copy
from typing import NamedTuple

import thop
import torch
from torch import nn


class Complexity(NamedTuple):
    """The size of a network."""

    num_parameters: int
    macs: int
    """Multiply-adds of one image: convolutions, linear layers and what thop counts beside them."""

    def __str__(self) -> str:
        return f"{self.num_parameters / 1e6:.3f} M parameters, {self.macs / 1e9:.3f} G MACs"


def count(network: nn.Module, input_size: int | tuple[int, int], *, macs_behind: int = 0) -> Complexity:
    """Counts on a copy, on the CPU.

    Args:
        network: takes images [B, 3, H, W].
        input_size: H and W in pixels, one number where they are equal.
        macs_behind: multiply-adds that follow `forward`, such as those of a detector's second stage.
    """
    probe = copy.deepcopy(network).to("cpu", memory_format=torch.contiguous_format).eval()  # pyright: ignore
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    image = torch.zeros(1, 3, height, width)
    with torch.inference_mode():
        macs = thop.profile(probe, inputs=(image,), verbose=False)[0]
    return Complexity(sum(p.numel() for p in network.parameters()), int(macs) + macs_behind)
