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


def count(network: nn.Module, input_size: int) -> Complexity:
    """Counts on a copy, on the CPU.

    Args:
        network: takes images [B, 3, H, W].
        input_size: H and W in pixels.
    """
    probe = copy.deepcopy(network).to("cpu", memory_format=torch.contiguous_format).eval()  # pyright: ignore
    image = torch.zeros(1, 3, input_size, input_size)
    with torch.inference_mode():
        macs = thop.profile(probe, inputs=(image,), verbose=False)[0]
    return Complexity(sum(p.numel() for p in network.parameters()), int(macs))
