"""RetinaNet: at each anchor of a pyramid a score for every class, and how the anchor becomes the box.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002.
Referee: torchvision, whose key names these are; with the options `TORCHVISION` this is its `retinanet_resnet50_fpn`.
Deviations from the paper: every object has at least its best anchor; the smooth L1 loss turns at 1/9 and is the mean
over a box's four numbers (as in 2020: a quarter of the sum of other implementations); the numbers are multiplied by
10, 10, 5, 5 (as in 2020 and Faster R-CNN).
Deviations from the 2020 monorepo: no anchor is left out at the border; every object's best anchor; losses are
normalised over the global batch instead of each image, so that images without objects teach background; ignored
regions; probabilities are not clamped; every (anchor, class) pair is a candidate, not each anchor's best, and
suppression is class by class; sides grow at most 62.5 times.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from public.backbones.features import Features
from public.config.checks import require, require_one_of
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.detector import Detections, Detector
from public.detectors.fcos.decode import DecodeOptions
from public.detectors.pyramid import PyramidBackbone
from public.detectors.retinanet.decode import decode, join_levels
from public.detectors.retinanet.targets import AnchorTargets, match
from public.detectors.targets import flat_ignored, flat_objects, not_compiled
from public.geometry.anchors import NUM_SHAPES, AnchorLayout, pyramid_anchors
from public.geometry.boxes import BoxWeights, decode_boxes, encode_boxes
from public.layers.initialisation import set_prior_, small_normal_
from public.losses.box import giou_loss, l1_loss, smooth_l1_loss
from public.losses.focal import sigmoid_focal_loss_sums

BoxLoss = Literal["smooth_l1", "l1", "giou"]
Normalisation = Literal["batch", "image"]

TORCHVISION: dict[str, Any] = {
    "p6_from": "p5",
    "anchors": "torchvision",
    "box_weights": (1.0, 1.0, 1.0, 1.0),
    "box_loss": "l1",
    "normalise": "image",
    "max_detections": 300,
}
"""The options that make this torchvision's `retinanet_resnet50_fpn`."""

SMOOTH_L1_BETA = 1 / 9
_PRIOR = 0.01
"""The probability that a new network gives every class."""


class RetinaNetOutputs(NamedTuple):
    """Raw outputs, one tensor a level."""

    class_logits: tuple[Tensor, ...]
    """float [B, H, W, A, num_classes] each, views of the convolution's output."""
    box_codes: tuple[Tensor, ...]
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
    """A tower, then the classes of each anchor."""

    def __init__(self, channels: int, num_convs: int, num_classes: int) -> None:
        super().__init__()
        self.conv = _tower(channels, num_convs)
        self.cls_logits = nn.Conv2d(channels, NUM_SHAPES * num_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, H, W, A, num_classes]."""
        return _by_anchor(self.cls_logits(self.conv(x)))


class RegressionHead(nn.Module):
    """A tower, then the code of each anchor's box."""

    def __init__(self, channels: int, num_convs: int) -> None:
        super().__init__()
        self.conv = _tower(channels, num_convs)
        self.bbox_reg = nn.Conv2d(channels, NUM_SHAPES * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, H, W, A, 4]."""
        return _by_anchor(self.bbox_reg(self.conv(x)))


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
        return tuple(map(self.classification_head, maps)), tuple(map(self.regression_head, maps))


class RetinaNet(Detector):
    """RetinaNet on a feature pyramid, nine anchors a cell.

    Args:
        num_classes: object classes; background is none of them.
        backbone: a name from `public.backbones.catalog`, with the levels that the pyramid's need.
        frozen_stages: levels of the backbone, from the stem on, that do not train.
        frozen_batch_norm: whether the backbone's batch norms keep statistics and weights.
        batch_norm_eps: what they add to a variance; None: 1e-5. torchvision trained its COCO_V1 weights with 0.
        channels: of the pyramid and the heads.
        num_convs: 3x3 convolutions in each tower.
        levels: of the pyramid.
        p6_from: what P6 comes from, the backbone's deepest map or the pyramid's.
        anchor_sizes: of each level, pixels: the square root of the area of the smallest anchors; the others are 1.26
            and 1.59 times as large. None: four strides.
        anchors: see `pyramid_anchors`.
        positive_iou: an anchor learns an object from this overlap on.
        negative_iou: an anchor is background below this overlap; in between it learns nothing.
        focal_alpha: weight of the positives in the focal loss.
        focal_gamma: exponent of the focal loss.
        box_weights: what the four numbers of a box's code are multiplied by.
        box_loss: "smooth_l1": beta 1/9, the mean over the four numbers; "l1": the sum over them; "giou": of the boxes.
        normalise: what a loss is summed over and divided by: "batch", all images by all positives; or "image", each
            image by its own positives, or 1, and then the mean over the images.
        score_threshold: detections with a lower score are left out.
        iou_threshold: of two boxes of one class with a higher overlap, the weaker goes.
        top_k: candidates of each level.
        max_detections: of an image.

    Raises:
        ValueError: a value out of range, or no such backbone or levels.
    """

    class_prefixes = ("head.classification_head.cls_logits.",)
    loss_names = ("classification", "box")

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str = "resnet50",
        frozen_stages: int = 0,
        frozen_batch_norm: bool = False,
        batch_norm_eps: float | None = None,
        channels: int = 256,
        num_convs: int = 4,
        levels: Sequence[str] = ("p3", "p4", "p5", "p6", "p7"),
        p6_from: Literal["c5", "p5"] = "c5",
        anchor_sizes: Sequence[float] | None = None,
        anchors: AnchorLayout = "centred",
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        box_weights: BoxWeights = (10.0, 10.0, 5.0, 5.0),
        box_loss: BoxLoss = "smooth_l1",
        normalise: Normalisation = "batch",
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        top_k: int = 1000,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        require(num_convs >= 0, f"num_convs={num_convs} must be 0 or more.")
        require(channels >= 1, f"channels={channels} must be 1 or more.")
        require(0 <= focal_alpha <= 1, f"focal_alpha={focal_alpha} must lie within [0, 1].")
        require(focal_gamma >= 0, f"focal_gamma={focal_gamma} must be 0 or more.")
        require(
            0 < negative_iou <= positive_iou <= 1,
            f"negative_iou={negative_iou} and positive_iou={positive_iou} must rise and lie within (0, 1].",
        )
        require(
            len(box_weights) == 4 and min(box_weights) > 0,
            f"box_weights={box_weights} must be four numbers greater than 0: of x, y, width and height.",
        )
        require_one_of("p6_from", p6_from, ("c5", "p5"))
        require_one_of("anchors", anchors, get_args(AnchorLayout))
        require_one_of("box_loss", box_loss, get_args(BoxLoss))
        require_one_of("normalise", normalise, get_args(Normalisation))
        self.decode_options = DecodeOptions(score_threshold, iou_threshold, top_k, max_detections)
        self.decode_options.check()
        self.backbone = PyramidBackbone(
            backbone,
            tuple(levels),
            channels=channels,
            extra=p6_from,
            frozen_stages=frozen_stages,
            frozen_batch_norm=frozen_batch_norm,
            batch_norm_eps=batch_norm_eps,
        )
        self.head = Head(channels, num_convs, num_classes)
        self.anchor_sizes = _anchor_sizes(anchor_sizes, self.backbone.strides)
        self.anchor_layout: AnchorLayout = anchors
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma
        self.box_weights, self.box_loss, self.normalise = box_weights, box_loss, normalise

    @property
    def body(self) -> Features:
        """The backbone, which classification weights fit."""
        return self.backbone.body

    def anchors(self, canvas_size: tuple[int, int], device: torch.device) -> Tensor:
        """All anchors of a canvas, float32 [N, 4], in the order of the outputs."""
        return pyramid_anchors(canvas_size, self.backbone.strides, self.anchor_sizes, device, self.anchor_layout)

    def forward(self, images: Tensor) -> RetinaNetOutputs:
        """Normalised images float [B, 3, H, W] -> raw outputs."""
        class_logits, box_codes = self.head(self.backbone(images))
        return RetinaNetOutputs(class_logits, box_codes, (images.shape[-2], images.shape[-1]))

    @not_compiled
    def normalisers(self, batch: DetectionBatch) -> Tensor:
        """float32 [1]: the number of positive anchors; with normalise="image" the number of images."""
        return self._normalisation(self._targets(batch))[1]

    @not_compiled
    def loss(
        self, outputs: RetinaNetOutputs, batch: DetectionBatch, normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The focal loss of the classes and the loss of the positive anchors' boxes. See `Detector.loss`."""
        targets = self._targets(batch)
        weights, own = self._normalisation(targets)
        normaliser = own[0].clamp(min=1) if normalisers is None else normalisers[0]
        class_losses = self._class_losses(outputs.class_logits, targets.labels)  # [B]
        images, box_losses = self._box_losses(outputs, targets)  # [P] each
        sums = {"classification": (class_losses * weights).sum(), "box": (box_losses * weights[images]).sum()}
        return {name: value / normaliser for name, value in sums.items()}

    @not_compiled
    def decode(self, outputs: RetinaNetOutputs, sizes: ImageSizes) -> Detections:
        """Raw outputs to detections in the original images, see `public.detectors.retinanet.decode`."""
        class_logits, box_codes, canvas_size = outputs
        anchors = self.anchors(canvas_size, class_logits[0].device)
        return decode(class_logits, box_codes, anchors, self.box_weights, sizes, self.decode_options)

    def _targets(self, batch: DetectionBatch) -> AnchorTargets:
        return match(
            self.anchors((batch.images.shape[-2], batch.images.shape[-1]), batch.boxes.device),
            flat_objects(batch),
            flat_ignored(batch),
            batch_size=len(batch.images),
            positive_iou=self.positive_iou,
            negative_iou=self.negative_iou,
        )

    def _normalisation(self, targets: AnchorTargets) -> tuple[Tensor, Tensor]:
        """What each image's sums are multiplied by, float32 [B], and the normaliser, float32 [1]."""
        num_positives = (targets.labels >= 0).sum(1).float()  # [B]
        if self.normalise == "batch":
            return torch.ones_like(num_positives), num_positives.sum(0, keepdim=True)
        return 1 / num_positives.clamp(min=1), num_positives.new_full((1,), len(num_positives))

    def _class_losses(self, class_logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """The focal loss of each image [B], level by level: joining the levels would copy all logits."""
        labels_of_levels = labels.split([x.shape[1:4].numel() for x in class_logits], dim=1)
        sums = [
            sigmoid_focal_loss_sums(
                logits, of_level.unflatten(1, logits.shape[1:4]), alpha=self.focal_alpha, gamma=self.focal_gamma
            )
            for logits, of_level in zip(class_logits, labels_of_levels, strict=True)
        ]
        return torch.stack(sums).sum(0)

    def _box_losses(self, outputs: RetinaNetOutputs, targets: AnchorTargets) -> tuple[Tensor, Tensor]:
        """Of each positive: its image in the batch, int64 [P], and the loss of its box, float32 [P]."""
        joined = join_levels(outputs.box_codes)  # [B, N, 4]
        codes = joined.flatten(0, 1)[targets.positives].float()  # [P, 4]
        num_anchors = joined.shape[1]
        anchors = self.anchors(outputs.canvas_size, joined.device)[targets.positives % num_anchors]  # [P, 4]
        images = targets.positives // num_anchors
        if self.box_loss == "giou":
            return images, giou_loss(decode_boxes(codes, anchors, self.box_weights), targets.boxes)
        wanted = encode_boxes(targets.boxes, anchors, self.box_weights)  # [P, 4]
        if self.box_loss == "l1":
            return images, l1_loss(codes, wanted)
        return images, smooth_l1_loss(codes, wanted, beta=SMOOTH_L1_BETA) / 4


def _anchor_sizes(sizes: Sequence[float] | None, strides: tuple[int, ...]) -> tuple[float, ...]:
    if sizes is None:
        return tuple(4.0 * stride for stride in strides)
    require(
        len(sizes) == len(strides) and min(sizes) > 0,
        f"anchor_sizes={tuple(sizes)} must be {len(strides)} numbers greater than 0, one for each level.",
    )
    return tuple(map(float, sizes))
