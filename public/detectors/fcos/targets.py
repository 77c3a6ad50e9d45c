"""Which point learns which object.

Paper: Tian et al. 2019, https://arxiv.org/abs/1904.01355, section 3.2; center sampling: the same authors 2020,
https://arxiv.org/abs/2006.09214.
References: plain loops in the tests; torchvision's `FCOS.compute_loss`.
Deviation from torchvision: areas are compared exactly; there 1e8 - area is, which float32 rounds to 8 square pixels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from public.detectors.fcos.options import CenterSampling
from public.detectors.targets import FlatBoxes
from public.geometry.fixed_shapes import pieces
from public.geometry.labels import BACKGROUND, IGNORED
from public.geometry.points import PointGrid, points_near

CENTER_RADIUS = 1.5
"""Within how many strides of an object's center its points lie."""
_REGIONS = 256
"""Ignored regions at a time, which bounds the memory: the filling of a batch is among them where shapes are fixed."""
RANGE_STRIDES = 8.0
"""A point takes a box whose farthest side is up to this many strides away; beyond it, the next level does."""


class PointTargets(NamedTuple):
    """What each point of each image learns."""

    labels: Tensor
    """int64 [B, P]: the class, BACKGROUND or IGNORED."""
    boxes: Tensor
    """float32 [B, P, 4]: the boxes of the objects that the points with a class learn; 0 for the others."""


def side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """From points [..., 2] to the left, top, right and bottom of boxes [..., 4], positive inside: [..., 4]."""
    lower, upper = boxes.split(2, dim=-1)
    return torch.cat([points - lower, upper - points], dim=-1)


def centerness(distances: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)): float32 [N, 4] of points inside -> [N], in (0, 1]."""
    pairs = distances.unflatten(-1, (2, 2))  # [N, near and far side, axis]
    return (pairs.amin(dim=1) / pairs.amax(dim=1)).prod(dim=1).sqrt()


def size_ranges(strides: Tensor) -> tuple[Tensor, Tensor]:
    """Float [L] -> the limits [L], [L] of max(l, t, r, b), both excluded: 0, 64, ... and 64, 128, ..., infinity."""
    limits = RANGE_STRIDES * strides[:-1]
    return F.pad(limits, (1, 0)), F.pad(limits, (0, 1), value=torch.inf)


def assign(
    grid: PointGrid, objects: FlatBoxes, ignored: FlatBoxes, *, batch_size: int, center_sampling: CenterSampling
) -> PointTargets:
    """The targets of a batch.

    A point learns an object if it lies inside the box, near the box's center, and on the level of the box's size; of
    several, the smallest, and of equally small ones the first.

    Args:
        grid: the points.
        objects: all those of the batch.
        ignored: the regions within which a point without object learns nothing.
        batch_size: B.
        center_sampling: whether "near" is a circle or a square of 1.5 strides around the center.
    """
    smallest_first = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(dim=1).argsort(stable=True)
    boxes, labels, images = (x[smallest_first] for x in objects)
    points, learns = _points_of_objects(grid, boxes, center_sampling)  # [T, N] each
    num_objects, num_points = len(boxes), len(grid.centers)
    rank = torch.where(learns, torch.arange(num_objects, device=boxes.device)[:, None], num_objects)  # [T, N]
    place = images[:, None] * num_points + points  # [T, N]
    chosen = torch.full((batch_size * num_points,), num_objects, device=boxes.device)
    chosen.scatter_reduce_(0, place.flatten(), rank.flatten(), "amin")  # [B * P]
    chosen = chosen.view(batch_size, num_points)
    # One more row, for those without an object.
    classes, of_points = F.pad(labels, (0, 1))[chosen], F.pad(boxes, (0, 0, 0, 1))[chosen]  # [B, P], [B, P, 4]
    classes = torch.where(chosen < num_objects, classes, _background(grid, ignored, batch_size))
    return PointTargets(classes, of_points)


def _points_of_objects(grid: PointGrid, boxes: Tensor, center_sampling: CenterSampling) -> tuple[Tensor, Tensor]:
    """Boxes [T, 4] -> points that might learn them, int64 [T, N], and whether they would, bool [T, N]."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2  # [T, 2]
    points, exists = points_near(grid, middle, CENTER_RADIUS)  # [T, N]
    centers, levels = grid.centers[points], grid.levels[points]  # [T, N, 2], [T, N]
    distances = side_distances(centers, boxes[:, None])  # [T, N, 4]
    lower, upper = size_ranges(grid.strides)
    farthest = distances.amax(dim=2)  # [T, N]
    on_level = (farthest > lower[levels]) & (farthest < upper[levels])
    order = 2 if center_sampling == "circle" else torch.inf
    from_middle = torch.linalg.vector_norm(centers - middle[:, None], ord=order, dim=2)  # [T, N]
    near = from_middle < CENTER_RADIUS * grid.strides[levels]
    return points, exists & near & on_level & (distances.amin(dim=2) > 0)


def _background(grid: PointGrid, ignored: FlatBoxes, batch_size: int) -> Tensor:
    """BACKGROUND everywhere but inside the ignored regions, where it is IGNORED: int64 [B, P]."""
    hits = torch.zeros(batch_size, len(grid.centers), dtype=torch.int64, device=ignored.boxes.device)  # [B, P]
    for part in pieces(len(ignored.boxes), _REGIONS):
        inside = side_distances(grid.centers, ignored.boxes[part, None]).amin(dim=2) > 0  # [r, P]
        hits.index_add_(0, ignored.images[part], inside.long())
    return torch.where(hits > 0, IGNORED, BACKGROUND)
