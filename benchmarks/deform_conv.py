"""Forward and backward of CenterNet's three deformable convolutions: our way on a CPU against torchvision's operator.

    python -m benchmarks.deform_conv

The layers of a canvas of 512 pixels with ResNet-18, float32, offsets of about a pixel; both ways have the same weights
and must give the same output.
"""

import time
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor, nn

from benchmarks.compare import alternate, report
from public.layers.deform_conv import DeformConv

LAYERS = ((512, 256, 16), (256, 128, 32), (128, 64, 64))
"""Channels in and out, height and width."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 7
    """Counted rounds."""
    batch_size: int = 2
    """Images."""


class ByTorchvision(DeformConv):
    """The same layer, as it computes on a GPU."""

    _by_rows = DeformConv._by_torchvision


def measure(layers: list[DeformConv], maps: list[Tensor]) -> float:
    """Images per second through all layers and back."""
    began = time.perf_counter()
    for layer, x in zip(layers, maps, strict=True):
        layer(x).sum().backward()
    return len(maps[0]) / (time.perf_counter() - began)


def main(options: Options) -> None:
    """Compares, prints and records."""
    torch.manual_seed(0)
    ours = [DeformConv(i, o) for i, o, _ in LAYERS]
    maps = [torch.randn(options.batch_size, i, side, side, requires_grad=True) for i, _, side in LAYERS]
    theirs = []
    for layer, x in zip(ours, maps, strict=True):
        nn.init.normal_(layer.conv_offset_mask.weight, std=(layer.weight.shape[1] * 9) ** -0.5)
        theirs.append(ByTorchvision(layer.weight.shape[1], layer.weight.shape[0]))
        theirs[-1].load_state_dict(layer.state_dict())
        torch.testing.assert_close(theirs[-1](x), layer(x), rtol=1e-4, atol=1e-4)
    ways = {"ours": lambda: measure(ours, maps), "torchvision": lambda: measure(theirs, maps)}
    comparison = alternate(ways, options.rounds, "images/s")
    report("deform_conv", comparison, 4, torch.device("cpu"), f"noise, batch {options.batch_size}")


if __name__ == "__main__":
    main(tyro.cli(Options))
