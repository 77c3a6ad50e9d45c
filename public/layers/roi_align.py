"""RoI Align: each region of a map becomes a square of cells, each cell the mean of points that are read bilinearly.

Paper: He et al. 2017, https://arxiv.org/abs/1703.06870, section 3.
Reference: torchvision.ops.roi_align.

torchvision's operator is made for CUDA, where its gradients are added in any order; on a CPU it goes from channel to
channel with one thread. A cell is a weighted sum of pixels, though, and `embedding_bag` adds up weighted rows of a
table, on all threads: the map's pixels are the rows, as they lie in NHWC. The points of a cell are rows times columns,
and so are the weights. Positions are rounded as in torchvision's; the order of additions differs.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from public.geometry.fixed_shapes import shapes_are_fixed
from public.layers.autograd_state import is_followed
from public.runtime.device import must_add_in_order

_FEW_POINTS = 2
"""Of a cell in each direction, up to which the pixels beside each are listed; more points share theirs."""
_MOST_PIXELS = 128
"""Of a cell in each direction; regions beyond are far larger than a map."""


class _Direction(NamedTuple):
    """The cells of n regions along the height or the width, in pixels of the map."""

    begin: Tensor
    """[n] of the first cell."""
    step: Tensor
    """[n] from one cell to the next."""
    num_points: Tensor
    """int64 [n] of each cell."""

    def of(self, chosen: Tensor) -> "_Direction":
        """Of some of the regions."""
        return _Direction(*(part[chosen] for part in self))


def roi_align(x: Tensor, boxes: Tensor, size: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    """As torchvision.ops.roi_align.

    Args:
        x: float [B, C, H, W].
        boxes: float [n, 5], the number of an image, then x1 y1 x2 y2.
        size: cells of a region in each direction.
        scale: pixels of the map per unit of a box.
        sampling_ratio: points of a cell in each direction; 0: as many as the cell has pixels there.
        aligned: whether regions are read where they are, or half a pixel of the map off.

    Returns:
        [n, C, size, size], which on a CPU lies in NHWC.
    """
    is_known = x.dtype in (torch.float32, torch.float64) and boxes.dtype == x.dtype
    is_for_torchvision = shapes_are_fixed(x.device) and not must_add_in_order(x.device)
    if not is_known or is_for_torchvision or is_followed():
        return ops.roi_align(x, boxes, size, scale, sampling_ratio, aligned)
    with torch.no_grad():
        height, width = (_direction(boxes[:, i::2], size, scale, sampling_ratio, aligned) for i in (2, 1))
    if 0 < sampling_ratio <= _FEW_POINTS or len(boxes) == 0:
        sides = (height, x.shape[2]), (width, x.shape[3])
        pixels = [_pixels_of_points(one, number, size, max(1, sampling_ratio)) for one, number in sides]
        return _sums(x, [_cells(x, boxes[:, 0], *pixels)], size)
    return _by_reach(x, boxes, (height, width), (size, scale, sampling_ratio, aligned))


def _direction(sides: Tensor, size: int, scale: float, sampling_ratio: int, aligned: bool) -> _Direction:
    """Of sides [n, 2], which begin and end."""
    begin, end = (sides * scale - (0.5 if aligned else 0.0)).unbind(dim=1)
    step = ((end - begin) if aligned else (end - begin).clamp(min=1)) / size
    pixels = step.ceil().nan_to_num(0, 0, 0).clamp(0, 2**20).long()
    return _Direction(begin, step, torch.full_like(pixels, sampling_ratio) if sampling_ratio > 0 else pixels)


def _points(direction: _Direction, num_pixels: int, size: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Whole pixels, what a point is behind them, and how much it counts: [n, size, most] each; none where all is 0."""
    begin, step, num_points = (part[:, None, None] for part in direction)
    device = begin.device
    cells, numbers = torch.arange(size, device=device)[:, None], torch.arange(most, device=device)
    at = begin + cells * step + (numbers + 0.5) * step / num_points
    exists = (at >= -1) & (at <= num_pixels) & (numbers < num_points)  # and is a number
    at = torch.where(exists, at, 0).clamp(0, num_pixels - 1)
    whole = at.floor()
    return whole.long(), at - whole, exists / num_points.clamp(min=1).to(at.dtype)


@torch.no_grad()
def _pixels_of_points(direction: _Direction, num_pixels: int, size: int, points: int) -> tuple[Tensor, Tensor]:
    """Pixels that cells are made of, two for each point, and their weights: [n, size, 2 * points] each."""
    whole, behind, shares = _points(direction, num_pixels, size, points)
    pixels = torch.cat([whole, (whole + 1).clamp(max=num_pixels - 1)], dim=2)
    return pixels, torch.cat([(1 - behind) * shares, behind * shares], dim=2)


@torch.no_grad()
def _pixels_of_cells(direction: _Direction, num_pixels: int, size: int, reach: int) -> tuple[Tensor, Tensor]:
    """The same, `reach` in a row for each cell: [n, size, reach] each."""
    most = int(direction.num_points.max())
    whole, behind, shares = _points(direction, num_pixels, size, most)
    first = torch.where(shares > 0, whole, num_pixels - 1).amin(dim=2, keepdim=True) if most else whole.new_zeros(())
    place = (whole - first).clamp(0, reach - 2)  # of a point that does not count, any
    weights = behind.new_zeros(*whole.shape[:2], reach)
    weights.scatter_add_(2, place, (1 - behind) * shares).scatter_add_(2, place + 1, behind * shares)
    return (first + torch.arange(reach, device=first.device)).clamp(max=num_pixels - 1).expand_as(weights), weights


def _by_reach(
    x: Tensor, boxes: Tensor, directions: tuple[_Direction, _Direction], options: tuple[int, float, int, bool]
) -> Tensor:
    """Regions whose cells have as many pixels in either direction are listed together."""
    # Floors of points that are less than a cell apart, the pixel behind the last, and one for rounding.
    reaches = torch.stack([one.step.abs().ceil().nan_to_num(0, 0, 0).clamp(max=_MOST_PIXELS) for one in directions])
    reaches = reaches.long() + 2  # [2, n]
    if int(reaches.max()) > _MOST_PIXELS:
        return ops.roi_align(x, boxes, *options)
    found, kinds = torch.unique(reaches, dim=1, return_inverse=True)  # [2, kinds], [n]
    order, bags = kinds.argsort(stable=True), []
    counts = torch.bincount(kinds, minlength=found.shape[1]).tolist()
    for chosen, pair in zip(order.split(counts), found.T.tolist(), strict=True):
        pixels = [
            _pixels_of_cells(one.of(chosen), number, options[0], reach)
            for one, number, reach in zip(directions, x.shape[2:], pair, strict=True)
        ]
        bags.append(_cells(x, boxes[chosen, 0], *pixels))
    return _sums(x, bags, options[0])[order.argsort()]


@torch.no_grad()
def _cells(
    x: Tensor, images: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """What the cells of regions are made of, pixels of a batch by their numbers, and weights: [n * size * size, k]."""
    (y, of_y), (across, of_x) = rows, columns
    first = (images.long()[:, None, None] * x.shape[2] + y) * x.shape[3]  # [n, size, rows]
    pixels = first.int()[:, :, None, :, None] + across.int()[:, None, :, None, :]  # [n, size, size, rows, columns]
    weights = of_y[:, :, None, :, None] * of_x[:, None, :, None, :]
    return pixels.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)


def _sums(x: Tensor, bags: list[tuple[Tensor, Tensor]], size: int) -> Tensor:
    """[B, C, H, W] and cells -> [n, C, size, size]."""
    table = x.permute(0, 2, 3, 1).flatten(0, 2)  # [B * H * W, C]
    lengths = torch.cat([pixels.new_full((len(pixels),), pixels.shape[1], dtype=torch.int32) for pixels, _ in bags])
    pixels, weights = (torch.cat([one.flatten() for one in part]) for part in zip(*bags, strict=True))
    offsets = lengths.cumsum(0, dtype=torch.int32) - lengths
    cells = F.embedding_bag(pixels, table, offsets, per_sample_weights=weights, mode="sum")
    return cells.view(-1, size, size, x.shape[1]).permute(0, 3, 1, 2)
