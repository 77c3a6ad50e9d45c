"""The points that stand for the cells of a pyramid's maps, and those of them that lie near a place.

An object is learned by few points: those near its center. They are found by arithmetic on the grid, so the work
grows with the number of objects and not with objects times points, of which a canvas has thousands.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from public.geometry.layouts import Layout
from public.runtime.constants import tensor_on


class PointGrid(NamedTuple):
    """One point for each cell of each level: level after level, row after row."""

    centers: Tensor
    """float32 [P, 2], x y in pixels of the canvas."""
    levels: Tensor
    """int64 [P], the number of the point's level."""
    strides: Tensor
    """float32 [L], the nominal strides in pixels."""
    sizes: Tensor
    """int64 [L, 2], columns and rows."""
    steps: Tensor
    """float32 [L, 2], pixels from one column to the next and from one row to the next."""
    first: Tensor
    """int64 [L], the place of each level's first point."""
    offset: float
    """Where the first point lies, in steps from the canvas's corner."""
    stretch: float
    """The largest ratio of a nominal stride to a step, 1 or more."""


def map_sizes(canvas_size: tuple[int, int], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Height and width of each level's map: halving and rounding up again and again gives ceil(canvas / stride)."""
    height, width = canvas_size
    return [(-(-height // stride), -(-width // stride)) for stride in strides]


def point_grid(
    canvas_size: tuple[int, int], strides: tuple[int, ...], device: torch.device, layout: Layout = "centered"
) -> PointGrid:
    """The points of a canvas, kept for the next call with the same arguments.

    Args:
        canvas_size: height and width in pixels.
        strides: of each level.
        device: of the tensors.
        layout: "centered": (i + 0.5) * stride, the middle of the pixels that a cell covers. "torchvision":
            i * step, with the step rounded down from canvas / cells, which is the corner of the cell and off the
            nominal stride where the canvas is no multiple of it.
    """
    if torch.compiler.is_compiling():  # a graph is of any size, and makes the points of each
        return _make_grid(canvas_size, strides, device, layout)
    return _point_grid(tuple(canvas_size), tuple(strides), device, layout)


@lru_cache(maxsize=32)  # multi-scale training has as many canvas sizes
def _point_grid(
    canvas_size: tuple[int, int], strides: tuple[int, ...], device: torch.device, layout: Layout
) -> PointGrid:
    with torch.inference_mode(False):  # made while decoding, they may serve the next training step
        return _make_grid(canvas_size, strides, device, layout)


def _make_grid(
    canvas_size: tuple[int, int], strides: tuple[int, ...], device: torch.device, layout: Layout
) -> PointGrid:
    sizes = map_sizes(canvas_size, strides)
    steps = [(s, s) for s in strides]
    if layout == "torchvision":
        steps = [(canvas_size[0] // rows, canvas_size[1] // columns) for rows, columns in sizes]
    offset = 0.5 if layout == "centered" else 0.0
    numbers = [rows * columns for rows, columns in sizes]
    centers = [_cells(size, step, offset, device) for size, step in zip(sizes, steps, strict=True)]
    return PointGrid(
        centers=torch.cat(centers),
        levels=torch.cat([torch.full((n,), level, device=device) for level, n in enumerate(numbers)]),
        strides=tensor_on(device, strides, torch.float32),
        sizes=tensor_on(device, sizes).flip(1),
        steps=tensor_on(device, steps, torch.float32).flip(1),
        first=tensor_on(device, [sum(numbers[:i]) for i in range(len(numbers))]),
        offset=offset,
        stretch=1.0 if layout == "centered" else _stretch(strides, sizes, steps),
    )


def _stretch(strides: tuple[int, ...], sizes: list[tuple[int, int]], steps: list[tuple[int, int]]) -> float:
    """The largest ratio of a stride to a step. Where there is one cell, it is near whatever the step."""
    if torch.compiler.is_compiling():
        return 2.0  # of any canvas: n cells begin on more than n - 1 strides, and a step is a whole number
    ratios = [
        stride / step
        for stride, size, pair in zip(strides, sizes, steps, strict=True)
        for cells, step in zip(size, pair, strict=True)
        if cells > 1
    ]
    return max([1.0, *ratios])


def _cells(size: tuple[int, int], step: tuple[int, int], offset: float, device: torch.device) -> Tensor:
    """The points of one level: float32 [rows * columns, 2], x y."""
    y, x = ((torch.arange(n, dtype=torch.float32, device=device) + offset) * s for n, s in zip(size, step, strict=True))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def points_near(grid: PointGrid, places: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """The points of every level that may lie within some strides of each place, in either axis; and a few more.

    Args:
        grid: the points.
        places: float32 [T, 2], x y in pixels.
        radius: how far, in nominal strides of the point's level.

    Returns:
        int64 [T, N] places in the grid, and bool [T, N]: False where there is no such cell (the index is 0 then).
        N is the same for every place: a square window on each level.
    """
    # Points closer than the radius on both sides span less than 2 radii; one more for where the window begins,
    # one more for rounding.
    window = torch.arange(math.ceil(2 * radius * grid.stretch) + 2, device=places.device)  # [K]
    reach = radius * grid.strides[:, None]  # [L, 1]
    begin = ((places[:, None] - reach) / grid.steps - grid.offset).floor().long().clamp(min=0)  # [T, L, 2]
    cells = begin[..., None] + window  # [T, L, 2, K]
    exists = cells < grid.sizes[..., None]  # [T, L, 2, K]
    (column, row), (has_column, has_row) = cells.unbind(2), exists.unbind(2)  # [T, L, K] each
    index = grid.first[:, None, None] + row[..., None] * grid.sizes[:, 0, None, None] + column[..., None, :]
    exists = has_row[..., None] & has_column[..., None, :]  # [T, L, K, K]
    return (index * exists).flatten(1), exists.flatten(1)  # [T, L * K * K] each
