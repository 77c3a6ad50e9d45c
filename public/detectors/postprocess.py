"""From scored candidates to detections, for a whole batch at once.

Candidates of all images, levels and classes lie in one flat list; a group number says which of them compete. So
nothing loops over images or classes, and nothing is padded before the very end.
"""

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import nms

from public.datasets.batches import PADDING, ImageSizes
from public.detectors.detector import Detections
from public.geometry.boxes import pairwise_iou

SoftNMS = Literal["linear", "gaussian"]
SOFT_NMS_FLOOR = 0.001
"""A score that soft suppression leaves below this is no detection any more."""

_CPU_PIECE, _GPU_PIECE = 2**9, 2**14
"""Boxes that are compared with one another: the work of one call of `nms` grows with the square."""


def rank_in_group(groups: Tensor) -> Tensor:
    """How many earlier entries are of the same group: int64 [n] -> int64 [n]. (7, 3, 7, 7) -> (0, 0, 1, 2)."""
    order = torch.argsort(groups, stable=True)  # [n]
    place = torch.arange(len(groups), device=groups.device)
    in_order = groups[order]
    is_first = torch.ones_like(in_order, dtype=torch.bool)
    is_first[1:] = in_order[1:] != in_order[:-1]
    first = torch.where(is_first, place, 0).cummax(0).values  # [n], where the entry's group begins
    return torch.empty_like(place).index_copy_(0, order, place - first)


def best_of_group(scores: Tensor, groups: Tensor, limit: int) -> Tensor:
    """The entries that are among the `limit` best of their group, best first.

    Args:
        scores: float [n].
        groups: int64 [n].
        limit: how many of each group stay.

    Returns:
        int64 [m], indices by falling score.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    return order[rank_in_group(groups[order]) < limit]


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each group, for pieces of a few groups at a time.

    The groups of a piece are moved so far apart that their boxes cannot overlap; in float64, because the far ones
    would lose some of a pixel in float32.

    Args:
        boxes: float32 [n, 4], x1 y1 x2 y2.
        scores: float32 [n].
        groups: int64 [n].
        iou_threshold: a box that overlaps a better one of its group by more than this goes.

    Returns:
        int64 [m], indices of those that stay, by falling score.
    """
    if len(boxes) == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    by_group = torch.argsort(groups, stable=True)  # [n]
    _, number, counts = torch.unique_consecutive(groups[by_group], return_inverse=True, return_counts=True)
    boxes, ordered = boxes[by_group].double(), scores[by_group].double()
    boxes += (number * (boxes.max() - boxes.min() + 1))[:, None]
    limit = _CPU_PIECE if boxes.device.type == "cpu" else _GPU_PIECE
    sizes = torch.bincount(counts.cumsum(0) // limit, weights=counts).long().tolist()  # whole groups
    pieces = zip(boxes.split(sizes), ordered.split(sizes), by_group.split(sizes), strict=True)
    kept = torch.cat([indices[nms(x, s, iou_threshold)] for x, s, indices in pieces])
    return kept[scores[kept].argsort(descending=True, stable=True)]


def soft_suppress(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    *,
    method: SoftNMS,
    iou_threshold: float,
    sigma: float,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Soft non-maximum suppression within each group: a box keeps the less of its score the more it overlaps others.

    Paper: Bodla et al. 2017, https://arxiv.org/abs/1704.04503. Again and again the best box that is left is taken, and
    the scores of the others are multiplied by 1 - IoU where the IoU with it is above the threshold ("linear"), or by
    exp(-IoU^2 / sigma) ("gaussian"). All groups take their turn at once.

    Args:
        boxes: float32 [n, 4], x1 y1 x2 y2, of some area.
        scores: float32 [n], above 0.
        groups: int64 [n].
        method: see above.
        iou_threshold: of "linear".
        sigma: of "gaussian".
        limit: how many of each group stay.

    Returns:
        int64 [m], indices of those that stay, and their new scores, float32 [m], falling.
    """
    if len(boxes) == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device), scores
    rows, columns = torch.unique(groups, return_inverse=True)[1], rank_in_group(groups)  # [n] each
    size = (int(rows.max()) + 1, int(columns.max()) + 1)  # G, K
    left, rivals = scores.new_zeros(size), boxes.new_zeros(*size, 4)
    left[rows, columns], rivals[rows, columns] = scores, boxes
    kept = torch.zeros_like(left)
    for _ in range(min(limit, size[1])):
        best, place = left.max(dim=1, keepdim=True)  # [G, 1]
        kept.scatter_(1, place, torch.where(best >= SOFT_NMS_FLOOR, best, kept.gather(1, place)))
        taken = rivals.gather(1, place[..., None].expand(-1, -1, 4))  # [G, 1, 4]
        overlaps = pairwise_iou(taken, rivals).squeeze(1).nan_to_num()  # [G, K], not a number in the filling
        linear = torch.where(overlaps > iou_threshold, 1 - overlaps, 1)
        left *= linear if method == "linear" else torch.exp(-overlaps.square() / sigma)
        left.scatter_(1, place, 0)
    new_scores = kept[rows, columns]  # [n]
    order = new_scores.argsort(descending=True, stable=True)
    order = order[new_scores[order] > 0]
    return order, new_scores[order]


def clip_to_content(boxes: Tensor, images: Tensor, sizes: ImageSizes) -> Tensor:
    """Cuts boxes [n, 4] on the canvas at the edges of the image that lies on it; `images` [n] says on which."""
    limits = sizes.content.to(boxes.dtype).flip(1).repeat(1, 2)[images]  # [n, 4], w h w h
    return torch.minimum(boxes.clamp(min=0), limits)


def to_original(boxes: Tensor, images: Tensor, sizes: ImageSizes) -> Tensor:
    """Boxes [n, 4] from the canvas to the original images; `images` [n] says to which."""
    original = sizes.original.to(boxes.dtype).flip(1).repeat(1, 2)  # [B, 4], w h w h
    content = sizes.content.to(boxes.dtype).flip(1).repeat(1, 2)
    return torch.minimum(boxes * (original / content)[images], original[images])  # rounding may lead 1e-4 px outside


def pack(
    boxes: Tensor, scores: Tensor, labels: Tensor, images: Tensor, *, batch_size: int, max_detections: int
) -> Detections:
    """The flat list as one row an image.

    Args:
        boxes: float32 [n, 4], in the original images.
        scores: float32 [n], falling.
        labels: int64 [n].
        images: int64 [n], the image in the batch.
        batch_size: B.
        max_detections: D; what comes behind the first D of an image is left out.
    """
    rank = rank_in_group(images)
    kept = rank < max_detections
    place = (images[kept], rank[kept])
    packed = Detections(
        boxes.new_zeros(batch_size, max_detections, 4),
        scores.new_zeros(batch_size, max_detections),
        labels.new_full((batch_size, max_detections), PADDING),
    )
    for into, values in zip(packed, (boxes, scores, labels), strict=True):
        into.index_put_(place, values[kept])
    return packed
