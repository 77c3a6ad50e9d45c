"""Which anchor learns which object.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4; every object's best anchor: Ren et al. 2015,
https://arxiv.org/abs/1506.01497, section 3.1.2. Reference: torchvision's `Matcher` with `allow_low_quality_matches`.

Of the many pairs of an object and an anchor, few overlap enough to matter. Overlaps are computed for all of them, some
objects at a time. A CPU then keeps only the pairs that can decide anything, and the rest works on a short list; where
shapes are fixed, the best of an anchor's pairs is kept, object by object.
"""

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from public.detectors.targets import FlatBoxes
from public.geometry.boxes import areas, pairwise_coverage, pairwise_intersections, pairwise_iou
from public.geometry.fixed_shapes import pieces, shapes_are_fixed
from public.geometry.labels import BACKGROUND, IGNORED

IGNORED_COVERAGE = 0.5
"""An anchor that lies in an ignored region with at least this share of its area learns nothing from it."""

_CPU_PAIRS = 2**19  # pairs at a time: a few arrays of float32 stay near the processor
_GPU_PAIRS = 2**25  # bounds the extra memory, at 128 MiB an array


class AnchorTargets(NamedTuple):
    """What each anchor of each image learns."""

    labels: Tensor
    """int64 [B, N]: the class, BACKGROUND or IGNORED."""
    boxes: Tensor
    """float32 [B, N, 4]: the boxes of the objects that the anchors with a class learn; 0 for the others."""


class _Pairs(NamedTuple):
    """Pairs of objects and anchors, all [K]."""

    objects: Tensor
    anchors: Tensor
    overlaps: Tensor
    are_best: Tensor  # bool: no anchor overlaps the object more


def match(
    anchors: Tensor,
    objects: FlatBoxes,
    ignored: FlatBoxes,
    *,
    batch_size: int,
    positive_iou: float,
    negative_iou: float,
) -> AnchorTargets:
    """The targets of a batch.

    An anchor learns the object that it overlaps most (of equals the first), if the overlap is at least `positive_iou`
    or if some object has no better anchor; ties count. It is background if the overlap is below `negative_iou`.
    Between the two it learns nothing, nor does background within an ignored region. Boxes of no area have no anchor.

    Args:
        anchors: float32 [N, 4], the same for each image.
        objects: T of them.
        ignored: regions.
        batch_size: B.
        positive_iou: see above.
        negative_iou: see above.
    """
    matched = _matched_densely if shapes_are_fixed(anchors.device) else _matched_by_pairs
    return matched(anchors, objects, ignored, batch_size, positive_iou, negative_iou)


def _matched_by_pairs(
    anchors: Tensor, objects: FlatBoxes, ignored: FlatBoxes, batch_size: int, positive_iou: float, negative_iou: float
) -> AnchorTargets:
    """See `match`: the way of a CPU."""
    num_anchors, num_objects = len(anchors), len(objects.boxes)
    pairs = _deciding_pairs(anchors, objects.boxes, negative_iou)
    places = objects.images[pairs.objects] * num_anchors + pairs.anchors  # [K], in [B * N]
    overlaps = anchors.new_zeros(batch_size * num_anchors).scatter_reduce_(0, places, pairs.overlaps, "amax")
    # Of the pairs with an anchor's greatest overlap the first object's; num_objects where there is no pair.
    first = torch.where(pairs.overlaps == overlaps[places], pairs.objects, num_objects)
    learned = first.new_full((len(overlaps),), num_objects).scatter_reduce_(0, places, first, "amin")
    is_best = torch.zeros_like(overlaps, dtype=torch.bool).index_fill_(0, places[pairs.are_best], True)

    # A best anchor below negative_iou may overlap other objects more, by pairs that were not kept.
    weak = torch.nonzero(is_best & (overlaps < negative_iou)).flatten()  # [W]
    learned[weak] = _most_overlapping(anchors[weak % num_anchors], weak // num_anchors, objects)

    labels = torch.where(overlaps >= negative_iou, IGNORED, BACKGROUND)
    labels[_within(anchors, ignored)] = IGNORED
    positives = torch.nonzero(is_best | (overlaps >= positive_iou)).flatten()  # [P]
    labels[positives] = objects.labels[learned[positives]]
    boxes = anchors.new_zeros(len(labels), 4)
    boxes[positives] = objects.boxes[learned[positives]]
    return AnchorTargets(labels.view(batch_size, num_anchors), boxes.view(batch_size, num_anchors, 4))


def _deciding_pairs(anchors: Tensor, boxes: Tensor, negative_iou: float) -> _Pairs:
    """The pairs that overlap by at least `negative_iou`, and for each box the anchors that overlap it most."""
    found = []
    for first, part in _parts(boxes, len(anchors)):
        overlaps = pairwise_iou(part, anchors)  # [t, N]
        best = overlaps.amax(dim=1)  # [t]
        # At least a tiny overlap: the best of a box without area is 0, with every anchor.
        enough = best.clamp(min=torch.finfo(best.dtype).tiny, max=negative_iou)
        rows, columns = torch.nonzero(overlaps >= enough[:, None], as_tuple=True)
        chosen = overlaps[rows, columns]
        found.append(_Pairs(first + rows, columns, chosen, chosen == best[rows]))
    return _Pairs(*(torch.cat(values) for values in zip(*found, strict=True)))


def _most_overlapping(anchors: Tensor, images: Tensor, objects: FlatBoxes) -> Tensor:
    """For each anchor [W, 4] of an image [W] the object of that image which overlaps it most: int64 [W]."""
    if len(anchors) == 0:
        return images
    found = []
    for first, part in _parts(anchors, len(objects.boxes)):
        of_part = images[first : first + len(part)]
        overlaps = pairwise_iou(part, objects.boxes)  # [w, T]
        found.append(overlaps.masked_fill_(of_part[:, None] != objects.images, -1).argmax(dim=1))
    return torch.cat(found)


def _within(anchors: Tensor, ignored: FlatBoxes) -> Tensor:
    """The places in [B * N] of the anchors that lie in an ignored region; one may come up more than once."""
    found = []
    for first, part in _parts(ignored.boxes, len(anchors)):
        rows, columns = torch.nonzero(pairwise_coverage(part, anchors) >= IGNORED_COVERAGE, as_tuple=True)
        found.append(ignored.images[first + rows] * len(anchors) + columns)
    return torch.cat(found)


def _matched_densely(
    anchors: Tensor, objects: FlatBoxes, ignored: FlatBoxes, batch_size: int, positive_iou: float, negative_iou: float
) -> AnchorTargets:
    """See `match`: in shapes that depend on no value. Objects and regions are of the same M rows of each image, and the
    boxes of those that are not of the kind have no area."""
    (object_boxes, object_labels), (ignored_boxes, labels) = _rows(objects, batch_size), _rows(ignored, batch_size)
    boxes, are_ignored = object_boxes + ignored_boxes, (labels == IGNORED)[..., None]  # [B, M, 4], [B, M, 1]
    parts = zip(_parts(boxes, len(anchors)), _parts(are_ignored, len(anchors)), strict=True)
    found = [_best_of_part(anchors, part, ignored_part, first) for (first, part), (_, ignored_part) in parts]
    overlaps, learned, is_best, is_ignored = reduce(_Best.or_better, found)

    is_positive = is_best | (overlaps >= positive_iou)
    labels = torch.where(is_ignored | (overlaps >= negative_iou), IGNORED, BACKGROUND)
    labels = torch.where(is_positive, object_labels.gather(1, learned), labels)
    boxes = object_boxes.gather(1, learned[..., None].expand(-1, -1, 4))  # [B, N, 4]
    return AnchorTargets(labels, torch.where(is_positive[..., None], boxes, 0))


class _Best(NamedTuple):
    """What was found for each anchor of each image among some of its boxes, all [B, N]."""

    overlaps: Tensor  # with the object that it overlaps most
    objects: Tensor  # int64, the row of that one
    are_best: Tensor  # bool: no anchor overlaps some object more
    are_ignored: Tensor  # bool: it lies in an ignored region

    def or_better(self, other: "_Best") -> "_Best":
        """The better of two: of equals the first."""
        return _Best(
            torch.maximum(self.overlaps, other.overlaps),
            torch.where(other.overlaps > self.overlaps, other.objects, self.objects),
            self.are_best | other.are_best,
            self.are_ignored | other.are_ignored,
        )


def _best_of_part(anchors: Tensor, boxes: Tensor, are_ignored: Tensor, first: int) -> _Best:
    """Of boxes [B, m, 4], with bool [B, m, 1] which of them are regions, that begin at a row of their images."""
    intersections, own, others = pairwise_intersections(boxes, anchors), areas(boxes), areas(anchors)
    is_ignored = ((intersections / others >= IGNORED_COVERAGE) & are_ignored).any(dim=1)
    unions = (own[..., None] + others).sub_(intersections)
    overlaps = intersections.masked_fill_(are_ignored, 0).div_(unions)  # [B, m, N]
    best = overlaps.amax(dim=2, keepdim=True).clamp(min=torch.finfo(overlaps.dtype).tiny)  # [B, m, 1]
    most, rows = overlaps.max(dim=1)  # [B, N] each
    return _Best(most, rows + first if first else rows, (overlaps == best).any(dim=1), is_ignored)


def _rows(flat: FlatBoxes, batch_size: int) -> tuple[Tensor, Tensor]:
    """Boxes [B, M, 4] and labels [B, M] of a list that has M for each image, and at least one row of zeros."""
    if len(flat.boxes) == 0:
        return flat.boxes.new_zeros(batch_size, 1, 4), flat.labels.new_zeros(batch_size, 1)
    return flat.boxes.view(batch_size, -1, 4), flat.labels.view(batch_size, -1)


def _parts(boxes: Tensor, num_others: int) -> list[tuple[int, Tensor]]:
    """Boxes [..., n, 4] cut so that each part's pairs with the others are not too many, and where each part begins."""
    num_pairs = _CPU_PAIRS if boxes.device.type == "cpu" else _GPU_PAIRS
    parts = pieces(boxes.shape[-2], num_pairs // max(1, num_others * boxes.shape[:-2].numel()))
    return [(part.start or 0, boxes[..., part, :] if len(parts) > 1 else boxes) for part in parts]
