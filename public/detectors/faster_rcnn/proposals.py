"""The region proposal network: at each anchor of a pyramid, whether there is any object, and its box.

Paper: Ren et al. 2015, https://arxiv.org/abs/1506.01497, on a pyramid: Lin et al. 2016,
https://arxiv.org/abs/1612.03144. Referee: torchvision, whose key names these are.
Deviation from the first paper: one sigmoid for each anchor instead of two softmax outputs; the smooth L1 loss is
divided by the number of sampled anchors, as the other loss is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.config.checks import require
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.faster_rcnn.sampling import balanced_sample, draws
from public.detectors.postprocess import clip_to_content, pack, suppress
from public.detectors.retinanet.decode import join_levels
from public.detectors.retinanet.targets import AnchorTargets, match
from public.detectors.targets import flat_ignored, flat_objects
from public.geometry.anchors import RATIOS, AnchorLayout, pyramid_anchors
from public.geometry.boxes import BoxWeights, decode_boxes, encode_boxes
from public.layers.initialisation import small_normal_
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


class RPNOptions(NamedTuple):
    """How proposals are learned and chosen."""

    samples: int
    """Anchors of an image that a training step learns from."""
    num_candidates: tuple[int, int]
    """Boxes of a level that take part in the suppression, in training and afterwards."""
    num_proposals: tuple[int, int]
    """Proposals of an image, in training and afterwards."""
    smooth_l1_beta: float
    """See `smooth_l1_loss`."""

    def check(self) -> None:
        """Raises ValueError where a value is out of range."""
        require(self.samples >= 2, f"rpn_samples={self.samples} must be 2 or more.")
        for name in ("num_candidates", "num_proposals"):
            values: Any = getattr(self, name)
            two = len(values) == 2 and min(values) >= 1
            require(two, f"{name}={values} must be two numbers, 1 or more: in training, and afterwards.")
        require(self.smooth_l1_beta >= 0, f"smooth_l1_beta={self.smooth_l1_beta} must be 0 or more.")


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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, channels, H, W] -> [B, H, W, A], [B, H, W, A, 4], without a copy."""
        x = self.conv(x)
        return self.cls_logits(x).movedim(1, 3), self.bbox_pred(x).unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)


class RegionProposals(nn.Module):
    """The head with its anchors, targets, losses and the choice of proposals.

    Args:
        channels: of the pyramid.
        strides: of its levels.
        anchor_sizes: of its levels, pixels: the square root of an anchor's area.
        layout: see `pyramid_anchors`.
        options: see there.
    """

    def __init__(
        self,
        channels: int,
        strides: tuple[int, ...],
        anchor_sizes: tuple[float, ...],
        layout: AnchorLayout,
        options: RPNOptions,
    ) -> None:
        super().__init__()
        self.head = RPNHead(channels)
        self.strides, self.anchor_sizes, self.options = strides, anchor_sizes, options
        self.layout: AnchorLayout = layout

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """[B, channels, H, W] of each level -> [B, H, W, A] of each, [B, H, W, A, 4] of each."""
        objectness, codes = zip(*map(self.head, maps), strict=True)
        return objectness, codes

    def anchors(self, canvas_size: tuple[int, int], device: torch.device) -> Tensor:
        """All anchors of a canvas, float32 [N, 4], in the order of the outputs."""
        return pyramid_anchors(canvas_size, self.strides, self.anchor_sizes, device, self.layout, (1.0,))

    def losses(
        self,
        objectness: Sequence[Tensor],
        codes: Sequence[Tensor],
        batch: DetectionBatch,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the sampled anchors and smooth L1 of the positive ones among them.

        Returns:
            float32 scalars: sums over the images of each one's sum divided by the number of its sampled anchors.
        """
        anchors = self.anchors((batch.images.shape[-2], batch.images.shape[-1]), batch.boxes.device)
        targets = self._targets(anchors, batch)
        order = draws(batch.seeds, _PURPOSE, torch.arange(len(anchors), device=anchors.device))  # [B, N]
        places, taken = balanced_sample(
            targets.labels, order, size=self.options.samples, positive_fraction=POSITIVE_FRACTION
        )
        images, columns = torch.nonzero(taken, as_tuple=True)
        places = places[images, columns]  # [n]
        weights = (1 / taken.sum(1).clamp(min=1))[images]  # [n]
        is_object = targets.labels[images, places] >= 0
        logits = join_levels([x[..., None] for x in objectness])[images, places, 0].float()  # [n]
        object_losses = F.binary_cross_entropy_with_logits(logits, is_object.float(), reduction="none")

        images, places, of_objects = images[is_object], places[is_object], weights[is_object]  # [P] each
        rows = torch.searchsorted(targets.positives, images * len(anchors) + places)
        wanted = encode_boxes(targets.boxes[rows], anchors[places], _NO_WEIGHTS)  # [P, 4]
        chosen = join_levels(codes)[images, places].float()  # [P, 4]
        box_losses = smooth_l1_loss(chosen, wanted, beta=self.options.smooth_l1_beta)
        return (object_losses * weights).sum(), (box_losses * of_objects).sum()

    def _targets(self, anchors: Tensor, batch: DetectionBatch) -> AnchorTargets:
        return match(
            anchors,
            flat_objects(batch),
            flat_ignored(batch),
            batch_size=len(batch.images),
            positive_iou=POSITIVE_IOU,
            negative_iou=NEGATIVE_IOU,
        )

    @torch.no_grad()
    def propose(
        self,
        objectness: Sequence[Tensor],
        codes: Sequence[Tensor],
        canvas_size: tuple[int, int],
        sizes: ImageSizes,
        *,
        training: bool,
    ) -> Proposals:
        """The best boxes of each level, without those that a better one of the level covers; of these the best.

        Args:
            objectness: [B, H, W, A] of each level.
            codes: [B, H, W, A, 4] of each level.
            canvas_size: height and width of the images in pixels.
            sizes: of the images on the canvas.
            training: which of the numbers of proposals holds.
        """
        options = self.options
        top_k, limit = (x[0 if training else 1] for x in (options.num_candidates, options.num_proposals))
        batch_size, found, first = len(objectness[0]), [], 0
        for level, logits in enumerate(objectness):
            flat = logits.flatten(1).float()  # [B, H * W * A]
            best = flat.topk(min(top_k, flat.shape[1]))  # [B, k]
            images = torch.arange(batch_size, device=flat.device)[:, None].expand_as(best.indices)
            groups = images * len(objectness) + level
            found.append([x.flatten() for x in (best.values, best.indices + first, images, groups)])
            first += flat.shape[1]
        scores, places, images, groups = (torch.cat(parts) for parts in zip(*found, strict=True))  # [n] each

        chosen = join_levels(codes)[images, places].float()  # [n, 4]
        boxes = decode_boxes(chosen, self.anchors(canvas_size, chosen.device)[places], _NO_WEIGHTS)
        boxes = clip_to_content(boxes, images, sizes)
        kept = torch.nonzero((boxes[:, 2:] - boxes[:, :2] >= _SMALLEST_SIDE).all(dim=1)).flatten()
        kept = kept[suppress(boxes[kept], scores[kept], groups[kept], NMS_IOU)]
        packed = pack(
            boxes[kept], scores[kept], places[kept], images[kept], batch_size=batch_size, max_detections=limit
        )
        return Proposals(packed.boxes, packed.labels)
