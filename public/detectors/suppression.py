"""Non-maximum suppression, hard and soft, of the boxes of each class in each image of a batch. All at once."""

import torch
from torch import Tensor
from torchvision import ops

from public.detectors.options import SoftNMS
from public.geometry.boxes import pairwise_iou
from public.geometry.fixed_shapes import shapes_are_fixed
from public.geometry.labels import PADDING
from public.runtime.tracing import is_exporting

SOFT_NMS_FLOOR = 0.001
"""A score that soft suppression leaves below this is no detection any more."""

_CPU_PIECE, _GPU_PIECE = 2**9, 2**16
"""Boxes that are compared with one another: the work of one call of `ops.nms` grows with the square."""


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, num_labels: int) -> Tensor:
    """Non-maximum suppression within each class of each image.

    The one step of decoding whose result has a number of rows that depends on values: here it ends in a mask. On a GPU
    it is one call of `ops.nms` for the batch, which is what the host waits for. In an exported graph it is one node.

    Args:
        boxes: float32 [B, N, 4], x1 y1 x2 y2.
        scores: float32 [B, N].
        labels: int64 [B, N], PADDING where there is no box.
        iou_threshold: a box that overlaps a better one of its class by more than this goes; of equally good ones the
            first stays.
        num_labels: labels are below it: how many classes an exported graph has to look at.

    Returns:
        bool [B, N], which stay.
    """
    if is_exporting():
        return suppress_op(boxes, scores, labels, iou_threshold, num_labels)
    return _stays(boxes, scores, labels, iou_threshold)


@torch.library.custom_op("public::suppress", mutates_args=())
def suppress_op(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, num_labels: int) -> Tensor:
    """`suppress` as one node of a graph, which `public.apps.export_graph` writes as ONNX's NonMaxSuppression."""
    return _stays(boxes, scores, labels, iou_threshold)


@suppress_op.register_fake
def _(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, num_labels: int) -> Tensor:
    return torch.empty_like(labels, dtype=torch.bool)


def _stays(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """See `suppress`."""
    there, num_rows = (labels != PADDING).flatten(), labels.shape[1]
    images = torch.arange(len(labels), device=labels.device)[:, None]
    groups = (images * (labels.max() + 2) + labels + 1).flatten()  # [B * N]; what is no box is in a group of its own
    boxes, scores, stays = boxes.flatten(0, 1), scores.flatten(), torch.zeros_like(there)
    if shapes_are_fixed(boxes.device):
        boxes, scores = _apart(boxes, groups), scores.double()
        size = max(1, _GPU_PIECE // num_rows) * num_rows  # whole images
        for first in range(0, len(stays), size):
            part = slice(first, first + size)
            stays.index_fill_(0, first + ops.nms(boxes[part], scores[part], iou_threshold), True)
        return (stays & there).view_as(labels)
    places = torch.nonzero(there).squeeze(1)
    kept = nms(boxes[places], scores[places], groups[places], iou_threshold)
    return stays.index_fill_(0, places[kept], True).view_as(labels)


def nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each group, for pieces of a few groups at a time, as a CPU does it.

    Args:
        boxes: float32 [n, 4], x1 y1 x2 y2.
        scores: float32 [n].
        groups: int64 [n].
        iou_threshold: a box that overlaps a better one of its group by more than this goes.

    Returns:
        int64 [m], indices of those that stay.
    """
    if len(boxes) == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    by_group = torch.argsort(groups, stable=True)  # [n]
    _, number, counts = torch.unique_consecutive(groups[by_group], return_inverse=True, return_counts=True)
    boxes, scores = _apart(boxes[by_group], number), scores[by_group].double()
    sizes = torch.bincount(counts.cumsum(0) // _CPU_PIECE, weights=counts).long().tolist()  # whole groups
    pieces = zip(boxes.split(sizes), scores.split(sizes), by_group.split(sizes), strict=True)
    return torch.cat([indices[ops.nms(x, s, iou_threshold)] for x, s, indices in pieces])


def _apart(boxes: Tensor, groups: Tensor) -> Tensor:
    """The boxes of each group so far from the others that they cannot overlap; in float64, because the far ones would
    lose some of a pixel in float32."""
    boxes = boxes.double()
    return boxes + (groups * (boxes.max() - boxes.min() + 1))[:, None]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    method: SoftNMS,
    iou_threshold: float,
    sigma: float,
    limit: int,
) -> Tensor:
    """Soft non-maximum suppression within each class of each image: a box keeps the less of its score the more it
    overlaps others.

    Paper: Bodla et al. 2017, https://arxiv.org/abs/1704.04503. Again and again the best box that is left is taken, and
    the scores of the others of its class are multiplied by 1 - IoU where the IoU with it is above the threshold
    ("linear"), or by exp(-IoU^2 / sigma) ("gaussian"). All images take their turn at once.

    Args:
        boxes: float32 [B, N, 4], x1 y1 x2 y2, of some area.
        scores: float32 [B, N], above 0.
        labels: int64 [B, N], PADDING where there is no box.
        method: see above.
        iou_threshold: of "linear".
        sigma: of "gaussian".
        limit: how many of each image are taken.

    Returns:
        float32 [B, N], the new scores, 0 of those that were not taken.
    """
    left = torch.where(labels != PADDING, scores, 0)  # [B, N]
    kept = torch.zeros_like(left)
    for _ in range(min(limit, left.shape[1])):
        best, place = left.max(dim=1, keepdim=True)  # [B, 1]
        if not shapes_are_fixed(left.device) and not (best >= SOFT_NMS_FLOOR).any():
            break
        kept.scatter_(1, place, torch.where(best >= SOFT_NMS_FLOOR, best, kept.gather(1, place)))
        taken = boxes.gather(1, place[..., None].expand(-1, -1, 4))  # [B, 1, 4]
        overlaps = pairwise_iou(taken, boxes).squeeze(1).nan_to_num()  # [B, N], not a number in the filling
        linear = torch.where(overlaps > iou_threshold, 1 - overlaps, 1)
        losses = linear if method == "linear" else torch.exp(-overlaps.square() / sigma)
        left = left * torch.where(labels == labels.gather(1, place), losses, 1)
        left.scatter_(1, place, 0)
    return kept
