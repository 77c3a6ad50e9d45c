"""From scored candidates to detections, for a whole batch at once.

Candidates of all images, levels and classes lie in one flat list; a group number says which of them compete. So
nothing loops over images or classes, and nothing is padded before the very end.
"""

import torch
from torch import Tensor
from torchvision.ops import nms

from public.datasets.batches import PADDING, ImageSizes
from public.detectors.detector import Detections

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
