"""3x3 convolutions that train in float32 on a CPU: ours against torch's, with the rounding of both.

    python -m benchmarks.convolution

Forward and backward pass of a convolution with bias, in NHWC, for maps of the heads and pyramids of detectors on
canvases of 640 pixels. How far both are from float64 is printed for outputs and for gradients of weights, as a part of
the norm.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from benchmarks.compare import alternate, report
from public.layers.winograd import trained_convolution
from public.runtime.heap import keep_freed_memory

SHAPES = ((256, 256, 160), (256, 256, 80), (256, 819, 80), (256, 256, 40), (128, 128, 80))
"""Channels in and out, height and width: a proposal network's, a tower's, RetinaNet's classes, a coarser level's."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 5
    """Counted rounds."""
    repeats: int = 3
    """Passes in a turn."""
    batch_size: int = 2
    """Images."""


def words_of(channels: int, out_channels: int, side: int) -> str:
    """How records call a shape."""
    return f"{channels} to {out_channels} channels, {side} x {side}"


def torchs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What nn.Conv2d calls."""
    return F.conv2d(x, weight, bias, padding=1)


def deviation(way: Callable[..., Tensor], leaves: list[Tensor], exact: tuple[Tensor, Tensor]) -> str:
    """Of outputs and of the weights' gradient."""
    out = way(*leaves)
    (of_weight,) = torch.autograd.grad(out.square().sum(), leaves[1])
    parts = [((one - right).norm() / right.norm()).item() for one, right in zip((out, of_weight), exact, strict=True)]
    return " and ".join(f"{part:.1e}" for part in parts)


def compare(channels: int, out_channels: int, side: int, options: Options) -> None:
    """Measures one shape, prints and records."""
    shapes = (options.batch_size, channels, side, side), (out_channels, channels, 3, 3)
    x, weight = (torch.randn(one).contiguous(memory_format=torch.channels_last) for one in shapes)
    leaves = [one.requires_grad_() for one in (x, weight / (9 * channels) ** 0.5, torch.randn(out_channels))]
    slopes = torchs(*leaves).detach()

    def speed(way: Callable[..., Tensor]) -> float:
        start = time.perf_counter()
        for _ in range(options.repeats):
            torch.autograd.grad(way(*leaves), leaves, slopes)
        return options.repeats * options.batch_size / (time.perf_counter() - start)

    ways = {"ours": lambda: speed(trained_convolution), "torch": lambda: speed(torchs)}
    words = f"{words_of(channels, out_channels, side)}, batch {options.batch_size}"
    report("convolution", alternate(ways, options.rounds, "images/s"), 1.0, torch.device("cpu"), words)
    doubles = [one.double() for one in leaves]
    out = torchs(*doubles)
    exact = out, torch.autograd.grad(out.square().sum(), doubles[1])[0]
    print(
        f"deviation: ours {deviation(trained_convolution, leaves, exact)}, torch {deviation(torchs, leaves, exact)}\n"
    )


def main(options: Options) -> None:
    """All shapes."""
    torch.manual_seed(0)
    keep_freed_memory()
    for shape in SHAPES:
        compare(*shape, options)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
