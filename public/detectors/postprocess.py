"""From scored candidates to detections, for a whole batch at once.

Candidates of all images, levels and classes lie in one flat list; a group number says which of them compete. So
nothing loops over images or classes, and nothing is padded before the very end.
"""

import torch
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.geometry.labels import PADDING


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


def clip_to_content(boxes: Tensor, images: Tensor, content_sizes: Tensor) -> Tensor:
    """Cuts boxes [n, 4] on the canvas at the edges of the image that lies on it; `images` [n] says on which of [B, 2],
    see `ImageSizes`."""
    limits = content_sizes.to(boxes.dtype).flip(1).repeat(1, 2)[images]  # [n, 4], w h w h
    return torch.minimum(boxes.clamp(min=0), limits)


def to_original(boxes: Tensor, images: Tensor, sizes: ImageSizes) -> Tensor:
    """Boxes [n, 4] from the canvas to the original images; `images` [n] says to which."""
    original = sizes.original.to(boxes.dtype).flip(1).repeat(1, 2)  # [B, 4], w h w h
    content = sizes.content.to(boxes.dtype).flip(1).repeat(1, 2)
    return torch.minimum(boxes * (original / content)[images], original[images])  # rounding may lead 1e-4 px outside


def pack(
    boxes: Tensor, scores: Tensor, labels: Tensor, images: Tensor, *, batch_size: int, max_detections: int
) -> Detections:
    """The flat list as one row per image.

    Args:
        boxes: float32 [n, 4], in the original images.
        scores: float32 [n], falling.
        labels: int64 [n].
        images: int64 [n], the image in the batch.
        batch_size: B.
        max_detections: D; what comes behind the first D of an image is skipped.
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
