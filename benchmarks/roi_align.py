"""Forward and backward of RoI Align on a pyramid: our way on a CPU against torchvision's operator.

    python -m benchmarks.roi_align

What a step of Faster R-CNN cuts out: 512 regions an image of P2 to P5 of a canvas of 640 pixels, 256 channels, float32,
7 x 7 cells of 2 x 2 points (`--sampling-ratio 0`: as many as a cell has pixels). Each has the maps in the layout that
suits it, and both must give the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor
from torchvision import ops

from benchmarks.compare import alternate, report
from public.detectors.faster_rcnn.regions import region_levels
from public.layers.roi_align import roi_align
from public.runtime.device import choose_device

CANVAS, CHANNELS, CELLS = 640, 256, 7
LEVELS = (2, 3, 4, 5)
CLAIMED = 4.0

RoiAlign = Callable[[Tensor, Tensor, int, float, int, bool], Tensor]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 7
    """Counted rounds."""
    batch_size: int = 2
    """Images."""
    regions: int = 512
    """Of each image."""
    sampling_ratio: int = 2
    """Points of a cell in each direction."""


def random_regions(options: Options) -> list[Tensor]:
    """Of each level [n, 5], sides from 8 pixels to the canvas, all sizes as often by their logarithm."""
    count = options.batch_size * options.regions
    sides = 8 * (CANVAS / 8) ** torch.rand(count, 2)
    begins = torch.rand(count, 2) * (CANVAS - sides)
    images = torch.arange(options.batch_size).repeat_interleave(options.regions)
    boxes = torch.cat([images[:, None], begins, begins + sides], dim=1)
    levels = region_levels(boxes[:, 1:], LEVELS[0], LEVELS[-1])
    return [boxes[levels == number] for number in range(len(LEVELS))]


@dataclass(frozen=True)
class Way:
    """A function, and maps as they suit it."""

    function: RoiAlign
    maps: list[Tensor]
    boxes: list[Tensor]
    options: Options

    def outputs(self) -> list[Tensor]:
        """Of each level."""
        levels = zip(LEVELS, self.maps, self.boxes, strict=True)
        ratio = self.options.sampling_ratio
        return [self.function(x, boxes, CELLS, 2.0**-level, ratio, True) for level, x, boxes in levels]

    def __call__(self) -> float:
        """Images per second, forward and back."""
        for x in self.maps:
            x.grad = None
        began = time.perf_counter()
        torch.stack([out.sum() for out in self.outputs()]).sum().backward()
        return self.options.batch_size / (time.perf_counter() - began)


def main(options: Options) -> None:
    """Compares, prints and records."""
    torch.manual_seed(0)
    device = choose_device("cpu")
    boxes = random_regions(options)
    sides = [CANVAS >> level for level in LEVELS]
    maps = [torch.randn(options.batch_size, CHANNELS, side, side) for side in sides]
    last = [x.contiguous(memory_format=torch.channels_last).requires_grad_() for x in maps]
    ways = {
        "ours": Way(roi_align, last, boxes, options),
        "torchvision": Way(ops.roi_align, [x.requires_grad_() for x in maps], boxes, options),
    }
    torch.testing.assert_close(ways["ours"].outputs(), ways["torchvision"].outputs(), rtol=1e-4, atol=1e-4)
    points = f"{options.sampling_ratio} x {options.sampling_ratio} points" if options.sampling_ratio else "adaptive"
    words = f"noise, batch {options.batch_size}, {points}"
    report("roi_align", alternate(ways, options.rounds, "images/s"), CLAIMED, device, words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
