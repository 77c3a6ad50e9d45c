"""How boxes overlap, and boxes as deltas relative to anchors. Boxes are x1 y1 x2 y2; widths have no stray 1."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

BoxWeights = tuple[float, float, float, float]
"""What the four deltas of a box are multiplied by: x, y, width, height."""

LARGEST_LOG_RATIO = math.log(1000 / 16)
"""A decoded side is at most 62.5 times the anchor's, so that early, wild deltas cannot overflow exp."""


def pairwise_intersections(a: Tensor, b: Tensor) -> Tensor:
    """The common area of every pair: float [..., n, 4], float [..., m, 4] -> [..., n, m]."""
    ax1, ay1, ax2, ay2 = a[..., None].unbind(-2)  # [..., n, 1] each
    bx1, by1, bx2, by2 = b.mT.contiguous()[..., None, :].unbind(-3)  # [..., 1, m] each
    # In place: of all that is computed here, these arrays are the only large ones.
    widths = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)  # [..., n, m]
    heights = torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0)  # [..., n, m]
    return widths.mul_(heights)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair: float [..., n, 4], float [..., m, 4] -> [..., n, m]; NaN for two boxes
    of no area."""
    intersections = pairwise_intersections(a, b)
    unions = (areas(a)[..., None] + areas(b)[..., None, :]).sub_(intersections)  # [..., n, m]
    return intersections.div_(unions)


def pairwise_coverage(a: Tensor, b: Tensor) -> Tensor:
    """The share of each b that each a covers: float [..., n, 4], float [..., m, 4] -> [..., n, m], 0 to 1."""
    return pairwise_intersections(a, b).div_(areas(b)[..., None, :])


def areas(boxes: Tensor) -> Tensor:
    """Float [..., 4] -> [...]."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1) * (y2 - y1)


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: BoxWeights) -> Tensor:
    """What a network has to say at each anchor for each box.

    Paper: Girshick et al. 2013, https://arxiv.org/abs/1311.2524, appendix C.

    Args:
        boxes: float [..., 4], of positive width and height.
        anchors: float [..., 4], the anchor of each box.
        weights: of the deltas.

    Returns:
        float [..., 4]: the way from the anchor's center to the box's in anchor widths and heights, then the logarithms
        of the ratios of widths and heights, each times its weight.
    """
    box_centers, box_sizes = _centers_and_sizes(boxes)
    centers, sizes = _centers_and_sizes(anchors)
    deltas = torch.cat([(box_centers - centers) / sizes, torch.log(box_sizes / sizes)], dim=-1)
    return _by_column(deltas, weights, torch.mul)


def decode_boxes(deltas: Tensor, anchors: Tensor, weights: BoxWeights) -> Tensor:
    """The inverse of `encode_boxes`, with the ratios bounded: float [..., 4], float [..., 4] -> float [..., 4]."""
    deltas = _by_column(deltas, weights, torch.div)
    centers, sizes = _centers_and_sizes(anchors)
    shifts, log_ratios = deltas.split(2, dim=-1)
    centers = shifts * sizes + centers
    halves = log_ratios.clamp(max=LARGEST_LOG_RATIO).exp() * sizes * 0.5
    return torch.cat([centers - halves, centers + halves], dim=-1)


def _centers_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """[..., 4] -> x y [..., 2], width height [..., 2]."""
    lower, upper = boxes.split(2, dim=-1)
    sizes = upper - lower
    return lower + 0.5 * sizes, sizes


def _by_column(deltas: Tensor, weights: BoxWeights, operation: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Deltas [..., 4] times or divided by their weights, which as a tensor would have to be copied to a GPU first."""
    if weights == (1, 1, 1, 1):
        return deltas
    if weights[0] == weights[1] and weights[2] == weights[3]:
        centers, sizes = deltas.split(2, dim=-1)
        return torch.cat([operation(centers, weights[0]), operation(sizes, weights[2])], dim=-1)
    return torch.stack([operation(x, w) for x, w in zip(deltas.unbind(-1), weights, strict=True)], dim=-1)
