"""Anchors: boxes of some shapes at every cell of every level, which a network moves and stretches."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from public.geometry.layouts import Layout
from public.geometry.points import map_sizes

RATIOS = (0.5, 1.0, 2.0)
"""Width to height."""
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""What a level's size is multiplied by."""
NUM_SHAPES = len(RATIOS) * len(SCALES)
"""Anchors at each cell, with all scales."""


def pyramid_anchors(
    canvas_size: tuple[int, int],
    strides: Sequence[int],
    sizes: Sequence[float],
    device: torch.device,
    layout: Layout = "centered",
    scales: Sequence[float] = SCALES,
) -> Tensor:
    """The anchors of a canvas, kept for the next call with the same arguments.

    Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4.

    Args:
        canvas_size: height and width in pixels.
        strides: of each level.
        sizes: of each level: the square root of the area of its anchors of scale 1, pixels.
        device: of the anchors.
        layout: "centered": around the middle (i + 0.5) * stride of each cell, to the last digit. "torchvision": around
            i * (canvas // cells), with scaled sizes cut to whole pixels, corners rounded to whole pixels, and the
            tall shapes' place taken by the wide ones.
        scales: what the sizes are multiplied by, one shape for each.

    Returns:
        float32 [N, 4], x1 y1 x2 y2: level after level, row after row; in a cell ratio by ratio (tall, square, wide),
        each in all scales. None is skipped or cut at the border.
    """
    if torch.compiler.is_compiling():  # a graph is of any size, and makes the anchors of each
        return _make_anchors(canvas_size, strides, sizes, device, layout, scales)
    return _pyramid_anchors(tuple(canvas_size), tuple(strides), tuple(sizes), device, layout, tuple(scales))


@lru_cache(maxsize=32)  # multi-scale training has as many canvas sizes
def _pyramid_anchors(
    canvas_size: tuple[int, int],
    strides: tuple[int, ...],
    sizes: tuple[float, ...],
    device: torch.device,
    layout: Layout,
    scales: tuple[float, ...],
) -> Tensor:
    with torch.inference_mode(False):  # made while decoding, they may serve the next training step
        return _make_anchors(canvas_size, strides, sizes, torch.device("cpu"), layout, scales).to(
            device, non_blocking=True
        )


def _make_anchors(
    canvas_size: tuple[int, int],
    strides: Sequence[int],
    sizes: Sequence[float],
    device: torch.device,
    layout: Layout,
    scales: Sequence[float],
) -> Tensor:
    levels = []
    for stride, size, (rows, columns) in zip(strides, sizes, map_sizes(canvas_size, tuple(strides)), strict=True):
        if layout == "centered":
            shapes, offset, steps = _shapes(size, scales), 0.5, (stride, stride)
        else:
            shapes, offset, steps = (
                _torchvision_shapes(size, scales),
                0.0,
                (canvas_size[0] // rows, canvas_size[1] // columns),
            )
        y, x = ((torch.arange(n, device=device) + offset) * s for n, s in zip((rows, columns), steps, strict=True))
        centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # [rows, columns, 2]
        corners = centers.repeat(1, 1, 2)[:, :, None] + shapes.to(device, non_blocking=True)  # [rows, columns, A, 4]
        levels.append(corners.reshape(-1, 4))
    return torch.cat(levels).float()


def _shapes(size: float, scales: Sequence[float]) -> Tensor:
    """Anchors around the origin: float64 [A, 4], because most numbers are roots and are rounded once, at the end."""
    sides = size * torch.tensor(scales, dtype=torch.float64)
    roots = torch.tensor(RATIOS, dtype=torch.float64).sqrt()
    return _around_origin(roots[:, None] * sides, sides / roots[:, None])


def _torchvision_shapes(size: float, scales: Sequence[float]) -> Tensor:
    """Anchors around the origin as torchvision has them, to the same roundings: float32 [A, 4]."""
    sides = torch.tensor([int(size * scale) for scale in scales], dtype=torch.float32)
    roots = torch.tensor(RATIOS).sqrt()  # of height to width
    return _around_origin((1 / roots)[:, None] * sides, roots[:, None] * sides).round()


def _around_origin(widths: Tensor, heights: Tensor) -> Tensor:
    """[ratios, scales] each -> [ratios * scales, 4]."""
    widths, heights = widths.flatten(), heights.flatten()
    return torch.stack([-widths, -heights, widths, heights], dim=1) / 2
