"""Non-maximum suppression, hard and soft, of groups of boxes: of each class in each image, say. All groups at once."""

import torch
from torch import Tensor
from torchvision import ops

from public.detectors.options import SoftNMS
from public.detectors.postprocess import rank_in_group
from public.geometry.boxes import pairwise_iou

SOFT_NMS_FLOOR = 0.001
"""A score that soft suppression leaves below this is no detection any more."""

_CPU_PIECE, _GPU_PIECE = 2**9, 2**14
"""Boxes that are compared with one another: the work of one call of `ops.nms` grows with the square."""


def nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
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
    kept = torch.cat([indices[ops.nms(x, s, iou_threshold)] for x, s, indices in pieces])
    return kept[scores[kept].argsort(descending=True, stable=True)]


def soft_nms(
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
