"""RetinaNet: at each anchor of a pyramid a score for every class, and how the anchor becomes the box.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002.
Reference: torchvision, whose key names these are; with `RetinaNetOptions.torchvision()` this is its
`retinanet_resnet50_fpn`.
Deviations from the paper: every object has at least its best anchor; the smooth L1 loss turns at 1/9 and is the mean
over a box's four numbers (as in 2020: a quarter of the sum of other implementations); the numbers are multiplied by
10, 10, 5, 5 (as in 2020 and Faster R-CNN).
Deviations from the 2020 monorepo: no anchor is skipped at the border; every object's best anchor; losses are
normalized over the global batch instead of each image, so that images without objects teach background; ignored
regions; probabilities are not clamped; every (anchor, class) pair is a candidate, not each anchor's best, and
suppression is class by class; sides grow at most 62.5 times.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from public.backbones.features import Features
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.anchor_matching import AnchorTargets, match
from public.detectors.detector import Detections, Detector
from public.detectors.levels import join_anchors
from public.detectors.pyramid import PyramidBackbone
from public.detectors.retinanet.decode import decode
from public.detectors.retinanet.options import RetinaNetOptions
from public.detectors.targets import flat_ignored, flat_objects
from public.detectors.towers import over_levels
from public.geometry.anchors import NUM_SHAPES, pyramid_anchors
from public.geometry.boxes import decode_boxes, encode_boxes
from public.geometry.fixed_shapes import Chosen
from public.layers.initialization import set_prior_, small_normal_
from public.losses.box import giou_loss, l1_loss, smooth_l1_loss
from public.losses.focal import sigmoid_focal_loss_sums_of_levels
from public.weights.class_rows import ClassRows

SMOOTH_L1_BETA = 1 / 9
_PRIOR = 0.01
"""The probability that a new network gives every class."""


class RetinaNetOutputs(NamedTuple):
    """Raw outputs, one tensor a level."""

    class_logits: tuple[Tensor, ...]
    """float [B, H, W, A, num_classes] each, views of the convolution's output."""
    box_deltas: tuple[Tensor, ...]
    """float [B, H, W, A, 4] each, see `encode_boxes`."""
    canvas_size: tuple[int, int]
    """Height and width of the images in pixels."""


def _tower(channels: int, num_convs: int) -> nn.Sequential:
    # Sequences within the sequence carry the "0" of torchvision's names.
    layers = (
        nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)) for _ in range(num_convs)
    )
    return nn.Sequential(*layers)


def _by_anchor(maps: Tensor) -> Tensor:
    """[B, A * K, H, W] -> [B, H, W, A, K], without a copy."""
    return maps.unflatten(1, (NUM_SHAPES, -1)).permute(0, 3, 4, 1, 2)


class ClassificationHead(nn.Module):
    """A tower, then the classes of each anchor, for all levels."""

    def __init__(self, channels: int, num_convs: int, num_classes: int) -> None:
        super().__init__()
        self.conv = _tower(channels, num_convs)
        self.cls_logits = nn.Conv2d(channels, NUM_SHAPES * num_classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[B, channels, H, W] of each level -> [B, H, W, A, num_classes] of each."""
        return tuple(map(_by_anchor, over_levels(maps, self.conv, self.cls_logits)[0]))


class RegressionHead(nn.Module):
    """A tower, then the deltas of each anchor's box, for all levels."""

    def __init__(self, channels: int, num_convs: int) -> None:
        super().__init__()
        self.conv = _tower(channels, num_convs)
        self.bbox_reg = nn.Conv2d(channels, NUM_SHAPES * 4, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[B, channels, H, W] of each level -> [B, H, W, A, 4] of each."""
        return tuple(map(_by_anchor, over_levels(maps, self.conv, self.bbox_reg)[0]))


class Head(nn.Module):
    """Both heads, shared by all levels."""

    def __init__(self, channels: int, num_convs: int, num_classes: int) -> None:
        super().__init__()
        self.classification_head = ClassificationHead(channels, num_convs, num_classes)
        self.regression_head = RegressionHead(channels, num_convs)
        small_normal_(self)
        # So that at first the many background anchors do not drown the few others.
        set_prior_(self.classification_head.cls_logits, _PRIOR)

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """[B, channels, H, W] of each level -> [B, H, W, A, num_classes] of each, [B, H, W, A, 4] of each."""
        return self.classification_head(maps), self.regression_head(maps)


class RetinaNet(Detector):
    """RetinaNet on a feature pyramid, nine anchors a cell.

    Args:
        num_classes: object classes; background is none of them.
        options: see there.

    Raises:
        ValueError: no such backbone, or one without the levels.
    """

    class_prefixes = ("head.classification_head.cls_logits.",)
    loss_names = ("classification", "box")

    def __init__(self, num_classes: int, options: RetinaNetOptions) -> None:
        super().__init__()
        self.options = options
        self.backbone = PyramidBackbone(
            options.backbone,
            options.levels,
            channels=options.channels,
            extra=options.p6_from,
            frozen_stages=options.frozen_stages,
            frozen_batch_norm=options.frozen_batch_norm,
            batch_norm_eps=options.batch_norm_eps,
        )
        self.head = Head(options.channels, options.num_convs, num_classes)
        sizes = options.anchor_sizes or [4 * stride for stride in self.backbone.strides]
        self.anchor_sizes = tuple(map(float, sizes))

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """All classes of an anchor, anchor after anchor."""
        return dict.fromkeys(self.class_prefixes, ClassRows(groups=NUM_SHAPES))

    @property
    def body(self) -> Features:
        """The backbone, which classification weights fit."""
        return self.backbone.body

    def anchors(self, canvas_size: tuple[int, int], device: torch.device) -> Tensor:
        """All anchors of a canvas, float32 [N, 4], in the order of the outputs."""
        return pyramid_anchors(canvas_size, self.backbone.strides, self.anchor_sizes, device, self.options.anchors)

    def forward(self, images: Tensor) -> RetinaNetOutputs:
        """Normalized images float [B, 3, H, W] -> raw outputs."""
        class_logits, box_deltas = self.head(self.backbone(images))
        return RetinaNetOutputs(class_logits, box_deltas, (images.shape[-2], images.shape[-1]))

    @torch.no_grad()
    def targets(self, batch: DetectionBatch) -> AnchorTargets:
        """What each anchor learns, see `match`."""
        return match(
            self.anchors((batch.images.shape[-2], batch.images.shape[-1]), batch.boxes.device),
            flat_objects(batch),
            flat_ignored(batch),
            batch_size=len(batch.images),
            positive_iou=self.options.positive_iou,
            negative_iou=self.options.negative_iou,
        )

    def counts(self, targets: AnchorTargets) -> Tensor:
        """float32 [B, 1]: the number of positive anchors; with normalize="image" 1."""
        num_positives = _num_positives(targets)[:, None]
        return num_positives if self.options.normalize == "batch" else torch.ones_like(num_positives)

    def loss(
        self, outputs: RetinaNetOutputs, targets: AnchorTargets, normalizer: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The focal loss of the classes and the loss of the positive anchors' boxes. See `Detector.loss`."""
        if normalizer is None:
            normalizer = self.normalizer(targets)
        alpha, gamma = self.options.focal_alpha, self.options.focal_gamma
        class_losses = sigmoid_focal_loss_sums_of_levels(
            outputs.class_logits, targets.labels, alpha=alpha, gamma=gamma
        ).sum(0)  # [B]
        positives = Chosen(targets.labels >= 0)  # P of them
        box_losses = self._box_losses(outputs, targets, positives)  # [P]
        if self.options.normalize == "image":
            weights = 1 / _num_positives(targets).clamp(min=1)  # [B]
            class_losses, box_losses = class_losses * weights, box_losses * positives.of_images(weights)
        sums = {"classification": class_losses.sum(), "box": positives.only(box_losses).sum()}
        divisor = normalizer[0]
        return {name: value / divisor for name, value in sums.items()}

    def decode(self, outputs: RetinaNetOutputs, sizes: ImageSizes) -> Detections:
        """Raw outputs to detections in the original images, see `public.detectors.retinanet.decode`."""
        anchors = self.anchors(outputs.canvas_size, outputs.class_logits[0].device)
        return decode(outputs.class_logits, outputs.box_deltas, anchors, sizes, self.options)

    def _box_losses(self, outputs: RetinaNetOutputs, targets: AnchorTargets, positives: Chosen) -> Tensor:
        """The loss of each positive's box, float32 [P]."""
        weights = self.options.box_weights
        deltas = positives.of(join_anchors(outputs.box_deltas)).float()  # [P, 4]
        anchors = positives.of_columns(self.anchors(outputs.canvas_size, deltas.device))  # [P, 4]
        boxes = positives.of(targets.boxes)  # [P, 4]
        if self.options.box_loss == "giou":
            return giou_loss(decode_boxes(deltas, anchors, weights), boxes)
        target_deltas = positives.only(encode_boxes(boxes, anchors, weights))  # [P, 4]
        if self.options.box_loss == "l1":
            return l1_loss(deltas, target_deltas)
        return smooth_l1_loss(deltas, target_deltas, beta=SMOOTH_L1_BETA) / 4


def _num_positives(targets: AnchorTargets) -> Tensor:
    """How many anchors of each image learn an object: float32 [B]."""
    return (targets.labels >= 0).sum(1, dtype=torch.float32)
