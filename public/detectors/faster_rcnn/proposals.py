"""The region proposal network: at each anchor of a pyramid, whether there is any object, and its box.

Paper: Ren et al. 2015, https://arxiv.org/abs/1506.01497, on a pyramid: Lin et al. 2016,
https://arxiv.org/abs/1612.03144. Reference: torchvision, whose key names these are.
Deviation from the first paper: one sigmoid for each anchor instead of two softmax outputs; the smooth L1 loss is
divided by the number of sampled anchors, as the other loss is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.datasets.batches import DetectionBatch
from public.detectors.anchor_matching import AnchorTargets, match
from public.detectors.faster_rcnn.options import TwoStageOptions
from public.detectors.faster_rcnn.sampling import balanced_sample, draws
from public.detectors.levels import join_anchors
from public.detectors.postprocess import best_places, clip_to_content, rows_at
from public.detectors.suppression import suppress
from public.detectors.targets import flat_ignored, flat_objects
from public.detectors.towers import over_levels
from public.geometry.anchors import RATIOS, pyramid_anchors
from public.geometry.boxes import BoxWeights, decode_boxes, encode_boxes
from public.geometry.fixed_shapes import Chosen
from public.geometry.labels import PADDING
from public.layers.initialization import small_normal_
from public.losses.box import smooth_l1_loss

POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3
"""An anchor learns an object from the first overlap on, and is background below the second."""
POSITIVE_FRACTION = 0.5
"""Of a sample, at most."""
NMS_IOU = 0.7
"""Of two proposals of one level with a higher overlap, the weaker goes."""
_SMALLEST_SIDE = 1e-3
"""Of a proposal, pixels."""
_NO_WEIGHTS: BoxWeights = (1.0, 1.0, 1.0, 1.0)
_PURPOSE = 0
"""Of the draws."""


class Proposals(NamedTuple):
    """Where objects may be, best first."""

    boxes: Tensor
    """float32 [B, R, 4], x1 y1 x2 y2 in pixels of the canvas, inside the image."""
    anchors: Tensor
    """int64 [B, R], the anchors they come from; PADDING in the rows that only fill up."""


class RPNHead(nn.Module):
    """A 3x3 convolution, then two of 1x1, shared by all levels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The sequence within the sequence carries the "0.0" of torchvision's name.
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)))
        self.cls_logits = nn.Conv2d(channels, len(RATIOS), 1)
        self.bbox_pred = nn.Conv2d(channels, len(RATIOS) * 4, 1)
        small_normal_(self)

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """[B, channels, H, W] of each level -> [B, H, W, A] of each, [B, H, W, A, 4] of each, without a copy."""
        objectness, deltas = over_levels(maps, self.conv, self.cls_logits, self.bbox_pred)
        deltas = (x.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2) for x in deltas)
        return tuple(x.movedim(1, 3) for x in objectness), tuple(deltas)


class RegionProposals(nn.Module):
    """The head with its anchors, targets, losses and the choice of proposals.

    Args:
        strides: of the pyramid's levels.
        numbers: of the levels, 2 for p2.
        options: of the detector.
    """

    def __init__(self, strides: tuple[int, ...], numbers: Sequence[int], options: TwoStageOptions) -> None:
        super().__init__()
        self.head = RPNHead(options.channels)
        self.strides, self.options = strides, options
        self.anchor_sizes = tuple(map(float, options.anchor_sizes or [8 * 2**number for number in numbers]))

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """[B, channels, H, W] of each level -> [B, H, W, A] of each, [B, H, W, A, 4] of each."""
        return self.head(maps)

    def anchors(self, canvas_size: tuple[int, int], device: torch.device) -> Tensor:
        """All anchors of a canvas, float32 [N, 4], in the order of the outputs."""
        return pyramid_anchors(canvas_size, self.strides, self.anchor_sizes, device, self.options.anchors, (1.0,))

    def targets(self, batch: DetectionBatch) -> AnchorTargets:
        """What each anchor of each image learns, whether it is sampled or not."""
        return match(
            self.anchors((batch.images.shape[-2], batch.images.shape[-1]), batch.boxes.device),
            flat_objects(batch),
            flat_ignored(batch),
            batch_size=len(batch.images),
            positive_iou=POSITIVE_IOU,
            negative_iou=NEGATIVE_IOU,
        )

    def losses(
        self,
        objectness: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Tensor,
        targets: AnchorTargets,
        seeds: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the sampled anchors and smooth L1 of the positive ones among them.

        Args:
            objectness: [B, H, W, A] of each level.
            deltas: [B, H, W, A, 4] of each level.
            anchors: float32 [N, 4].
            targets: of the anchors.
            seeds: int64 [B], of the draws.

        Returns:
            float32 scalars: sums over the images of each one's sum divided by the number of its sampled anchors.
        """
        order = draws(seeds, _PURPOSE, torch.arange(len(anchors), device=anchors.device))  # [B, N]
        places, taken = balanced_sample(
            targets.labels, order, size=self.options.rpn_samples, positive_fraction=POSITIVE_FRACTION
        )
        weights, images = 1 / taken.sum(1).clamp(min=1), torch.arange(len(taken), device=taken.device)  # [B] each
        are_objects = taken & (targets.labels.gather(1, places) >= 0)  # [B, S]
        samples, positives = Chosen(taken), Chosen(are_objects)  # n and P of them
        at_samples = samples.of_images(images), samples.of(places)  # [n] each
        logits = join_anchors([x[..., None] for x in objectness])[(*at_samples, 0)].float()  # [n]
        object_losses = F.binary_cross_entropy_with_logits(logits, samples.of(are_objects).float(), reduction="none")
        object_losses = samples.only(object_losses * samples.of_images(weights))

        at_positives = positives.of_images(images), positives.of(places)  # [P] each
        own_anchors = anchors[at_positives[1]]  # [P, 4]
        boxes = positives.of(rows_at(targets.boxes, places))  # [P, 4]
        target_deltas = positives.only(encode_boxes(boxes, own_anchors, _NO_WEIGHTS))
        chosen = join_anchors(deltas)[at_positives].float()  # [P, 4]
        box_losses = smooth_l1_loss(chosen, target_deltas, beta=self.options.smooth_l1_beta)
        return object_losses.sum(), positives.only(box_losses * positives.of_images(weights)).sum()

    @torch.no_grad()
    def propose(
        self,
        objectness: Sequence[Tensor],
        deltas: Sequence[Tensor],
        canvas_size: tuple[int, int],
        content_sizes: Tensor,
        *,
        training: bool,
    ) -> Proposals:
        """The best boxes of each level, without those that a better one of the level covers; of these the best.

        Args:
            objectness: [B, H, W, A] of each level.
            deltas: [B, H, W, A, 4] of each level.
            canvas_size: height and width of the images in pixels.
            content_sizes: int64 [B, 2], of the images on the canvas, see `ImageSizes`.
            training: which of the numbers of proposals holds.
        """
        options = self.options
        top_k, limit = (x[0 if training else 1] for x in (options.num_candidates, options.num_proposals))
        found, first = [], 0
        for level, logits in enumerate(objectness):
            flat = logits.flatten(1).float()  # [B, H * W * A]
            best = flat.topk(min(top_k, flat.shape[1]))  # [B, k]
            found.append((best.values, best.indices + first, torch.full_like(best.indices, level)))
            first += flat.shape[1]
        scores, places, levels = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))  # [B, n] each

        chosen = rows_at(join_anchors(deltas), places).float()  # [B, n, 4]
        boxes = decode_boxes(chosen, self.anchors(canvas_size, chosen.device)[places], _NO_WEIGHTS)
        boxes = clip_to_content(boxes, content_sizes[:, None])
        are_boxes = (boxes[..., 2:] - boxes[..., :2] >= _SMALLEST_SIDE).all(dim=2)
        stays = suppress(boxes, scores, torch.where(are_boxes, levels, PADDING), NMS_IOU, len(objectness))
        best = best_places(torch.where(stays, scores, -torch.inf), limit)  # [B, R]
        stays = stays.gather(1, best)
        boxes = torch.where(stays[..., None], rows_at(boxes, best), 0)
        return Proposals(boxes, torch.where(stays, places.gather(1, best), PADDING))
