"""What is cut out of a pyramid for each region, what a head makes of it, and which region learns which object.

Papers: Girshick 2015, https://arxiv.org/abs/1504.08083; on a pyramid: Lin et al. 2016,
https://arxiv.org/abs/1612.03144, section 4.2; RoI Align: He et al. 2017, https://arxiv.org/abs/1703.06870.
Reference: torchvision, whose key names these are.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.detectors.anchor_matching import IGNORED_COVERAGE
from public.detectors.faster_rcnn.options import TwoStageOptions
from public.detectors.postprocess import clip_to_content
from public.geometry.boxes import BoxWeights, areas, decode_boxes, encode_boxes, pairwise_coverage, pairwise_iou
from public.geometry.fixed_shapes import Chosen, shapes_are_fixed
from public.geometry.labels import BACKGROUND, IGNORED
from public.layers.roi_align import roi_align
from public.losses.box import smooth_l1_loss
from public.runtime.device import autocast

_OFF_THE_MAP = -1e6
"""Where a region has all its corners that a level has no part in, pixels."""
_CANONICAL_SIZE, _CANONICAL_LEVEL = 224, 4
"""A region of 224 x 224 pixels belongs to P4, as an ImageNet picture does to C4 in a detector without a pyramid."""


class Stage(NamedTuple):
    """What one head is trained for."""

    iou: float
    """A region learns an object from this overlap on."""
    box_weights: BoxWeights
    """What a box's four deltas are multiplied by."""
    loss_weight: float
    """Of the head's losses."""


class Regions(NamedTuple):
    """Where a head is to look; n of them."""

    boxes: Tensor
    """float32 [n, 4], x1 y1 x2 y2 in pixels of the canvas."""
    images: Tensor
    """int64 [n], their images in the batch."""


def regions_of(boxes: Tensor, chosen: Chosen) -> Regions:
    """Those of [B, R, 4] that are chosen."""
    images = torch.arange(boxes.shape[0], device=boxes.device)
    return Regions(chosen.of(boxes), chosen.of_images(images))


class RegionTargets(NamedTuple):
    """What each region learns."""

    labels: Tensor
    """int64 [...]: the class, BACKGROUND or IGNORED."""
    boxes: Tensor
    """float32 [..., 4]: the box of the object that it overlaps most; of no meaning without a class."""


class RegionHead(nn.Module):
    """What lies in each region through two hidden layers, then its class and its box.

    Args:
        levels: the numbers of the pyramid's levels, 2 for p2, and their strides, fine to coarse.
        num_classes: background is none of them.
        stage: what the head is trained for.
        options: of the detector.
    """

    def __init__(self, levels: Mapping[int, int], num_classes: int, stage: Stage, options: TwoStageOptions) -> None:
        super().__init__()
        channels = options.head_channels
        fc6, fc7 = nn.Linear(options.channels * options.pool_size**2, channels), nn.Linear(channels, channels)
        # torchvision, too, has an unused box for background.
        num_boxes = 1 if options.has_one_box else num_classes + 1
        classes, boxes = nn.Linear(channels, num_classes + 1), nn.Linear(channels, num_boxes * 4)
        for layer in (fc6, fc7):
            nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.normal_(classes.weight, std=0.01)
        nn.init.normal_(boxes.weight, std=0.001)
        for layer in (fc6, fc7, classes, boxes):
            nn.init.zeros_(layer.bias)
        self.box_head = nn.ModuleDict({"fc6": fc6, "fc7": fc7})
        self.box_predictor = nn.ModuleDict({"cls_score": classes, "bbox_pred": boxes})
        self.levels, self.stage, self.options = levels, stage, options

    def forward(self, maps: Sequence[Tensor], regions: Regions) -> tuple[Tensor, Tensor]:
        """A class and boxes for each region, computed in the precision of the maps.

        Args:
            maps: [B, channels, H, W] of each level of the pyramid; those behind the head's own are left aside.
            regions: n of them.

        Returns:
            float32 logits [n, 1 + num_classes], background first, and box deltas [n, 1 + num_classes or 1, 4].
        """
        levels = region_levels(regions.boxes, min(self.levels), max(self.levels))  # [n]
        if shapes_are_fixed(levels.device):
            return self._said(self._cut_out(maps, regions, levels), maps[0].dtype)
        order = _reading_order(levels, regions)
        pooled = self._cut_out_in_order(maps, Regions(regions.boxes[order], regions.images[order]), levels)
        # Only behind the layers back into the order of the regions: what was cut out is far larger.
        back = order.argsort()
        logits, deltas = self._said(pooled, maps[0].dtype)
        return logits[back], deltas[back]

    def _said(self, pooled: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What was cut out [n, C, size, size] -> float32 logits and deltas, computed in a precision."""
        with autocast(pooled.device, dtype):
            x = pooled.flatten(1)
            for layer in self.box_head.values():
                x = F.relu(layer(x))
            logits, deltas = (layer(x) for layer in self.box_predictor.values())
        return logits.float(), deltas.float().unflatten(1, (-1, 4))

    def _cut_out_in_order(self, maps: Sequence[Tensor], regions: Regions, levels: Tensor) -> Tensor:
        """What lies in the regions, which are ordered by level: float32 [n, C, size, size]."""
        boxes = torch.cat([regions.images[:, None].float(), regions.boxes], dim=1)  # [n, 5]
        counts = torch.bincount(levels, minlength=len(self.levels)).tolist()
        return torch.cat([self._roi_align(maps, number, part) for number, part in enumerate(boxes.split(counts))])

    def _cut_out(self, maps: Sequence[Tensor], regions: Regions, levels: Tensor) -> Tensor:
        """The same in any order, in shapes that depend on no value: each level cuts out all, with those of the others
        far off its map, where nothing is read. What comes of these is 0, but a pixel of the map where torchvision
        computes without its kernel, as it does in a compiled graph that has to add in a fixed order."""
        cut = maps[0].new_zeros((), dtype=torch.float32)
        for number in range(len(self.levels)):
            here = (levels == number)[:, None]  # [n, 1]
            boxes = torch.where(here, regions.boxes, _OFF_THE_MAP)
            boxes = torch.cat([regions.images[:, None].float(), boxes], dim=1)  # [n, 5]
            cut = torch.where(here[..., None, None], self._roi_align(maps, number, boxes), cut)
        return cut

    def _roi_align(self, maps: Sequence[Tensor], number: int, boxes: Tensor) -> Tensor:
        """What a level has for boxes [n, 5], each with its image before it: float32 [n, C, size, size]."""
        stride, options = list(self.levels.values())[number], self.options
        return roi_align(
            maps[number].float(), boxes, options.pool_size, 1 / stride, options.sampling_ratio, options.aligned
        )

    def losses(
        self, logits: Tensor, deltas: Tensor, regions: Regions, targets: RegionTargets, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the classes and smooth L1 of the positive regions' boxes.

        Args:
            logits: [n, 1 + num_classes].
            deltas: [n, 1 + num_classes or 1, 4].
            regions: n of them.
            targets: of each.
            weights: float32 [n], what the loss of each is multiplied by.

        Returns:
            Two float32 scalars, weighted sums.
        """
        labels = targets.labels + 1  # [n], background is 0
        class_losses = F.cross_entropy(logits, labels, ignore_index=IGNORED + 1, reduction="none")  # [n]
        positives = Chosen((labels > 0)[None])  # P of them
        numbers = positives.of_columns(torch.arange(len(labels), device=labels.device))  # [P]
        chosen = deltas[numbers, labels[numbers].clamp(min=0) if deltas.shape[1] > 1 else 0]  # [P, 4]
        boxes = positives.of(targets.boxes[None])
        target_deltas = positives.only(encode_boxes(boxes, regions.boxes[numbers], self.stage.box_weights))
        box_losses = smooth_l1_loss(chosen, target_deltas, beta=self.options.smooth_l1_beta)  # [P]
        box_losses = positives.only(box_losses * weights[numbers])
        sums = (class_losses * weights).sum(), box_losses.sum()
        return self.stage.loss_weight * sums[0], self.stage.loss_weight * sums[1]

    @torch.no_grad()
    def refine(self, deltas: Tensor, regions: Regions, content_sizes: Tensor) -> Regions:
        """The regions that class-agnostic deltas [n, 1, 4] lead to, cut at the edges of the image."""
        # Of a network that has diverged a delta may be no number, and its region is none; the loss will tell.
        boxes = decode_boxes(deltas[:, 0], regions.boxes, self.stage.box_weights).nan_to_num()
        return regions._replace(boxes=clip_to_content(boxes, content_sizes[regions.images]))


def _reading_order(levels: Tensor, regions: Regions) -> Tensor:
    """Regions by level, image and upper edge, int64 [n]: what a CPU reads for one is in its cache for the next."""
    tops = regions.boxes[:, 1].clamp(min=0, max=2**20 - 1).long()
    return ((levels << 40) + (regions.images << 20) + tops).argsort(stable=True)


def region_levels(boxes: Tensor, first: int, last: int) -> Tensor:
    """The level of each region, by its size: float32 [n, 4] -> int64 [n], counted from the first that there is.

    Args:
        boxes: x1 y1 x2 y2.
        first: the number of the finest level, 2 for p2.
        last: the number of the coarsest.
    """
    levels = _CANONICAL_LEVEL + torch.log2(areas(boxes).clamp(min=0).sqrt() / _CANONICAL_SIZE) + 1e-6
    return levels.floor().clamp(min=first, max=last).long() - first


def match_regions(
    boxes: Tensor, exist: Tensor, object_boxes: Tensor, object_labels: Tensor, iou: float
) -> RegionTargets:
    """Each region learns the object that it overlaps most (of equals the first), if by `iou` or more.

    The others are background, but those in an ignored region learn nothing. Boxes of no area teach nothing.

    Args:
        boxes: float32 [B, R, 4].
        exist: bool [B, R]; the others are no regions and learn nothing.
        object_boxes: float32 [B, M, 4].
        object_labels: int64 [B, M], PADDING or IGNORED where there is no object to learn.
        iou: see above.
    """
    overlaps = pairwise_iou(object_boxes, boxes)  # [B, M, R]
    overlaps.masked_fill_(~are_objects(object_boxes, object_labels)[..., None], -1)
    best, rows = overlaps.max(dim=1)  # [B, R] each
    in_ignored = pairwise_coverage(object_boxes, boxes) >= IGNORED_COVERAGE  # [B, M, R]
    in_ignored = (in_ignored & (object_labels == IGNORED)[..., None]).any(dim=1)  # [B, R]
    labels = torch.where(best >= iou, object_labels.gather(1, rows), torch.where(in_ignored, IGNORED, BACKGROUND))
    labels = torch.where(exist, labels, IGNORED)
    return RegionTargets(labels, object_boxes.gather(1, rows[..., None].expand(-1, -1, 4)))


def are_objects(boxes: Tensor, labels: Tensor) -> Tensor:
    """Which rows [B, M, 4], [B, M] of a batch hold an object of some area: bool [B, M]."""
    return (labels >= 0) & (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
