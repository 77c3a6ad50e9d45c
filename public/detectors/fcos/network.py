"""FCOS: each point of a pyramid says which class it lies in, how far the sides of the box are, and how central it is.

Paper: Tian et al. 2019, https://arxiv.org/abs/1904.01355, with center sampling and the centerness beside the boxes of
the same authors' https://arxiv.org/abs/2006.09214.
Reference: torchvision, whose key names these are; with `FCOSOptions.torchvision()` this is its
`fcos_resnet50_fpn`.
Deviations from the paper: the GIoU of a positive counts by its centerness and the sum is divided by the number of
positives, not by the sum of the centernesses, times 2; distances are exp of the output, in pixels, as in 2019.
Deviations from the 2020 monorepo: losses are normalized over the global batch instead of each image, so that images
without objects teach background; GIoU without a stray 1; every (point, class) pair is a candidate and suppression is
class by class; the exponent is bounded.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.backbones.features import Features
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.detector import Detections, Detector
from public.detectors.fcos.decode import boxes_around, decode
from public.detectors.fcos.options import FCOSOptions
from public.detectors.fcos.targets import PointTargets, assign, centerness, side_distances
from public.detectors.levels import join_points
from public.detectors.pyramid import PyramidBackbone
from public.detectors.targets import flat_ignored, flat_objects
from public.detectors.towers import over_levels
from public.geometry.fixed_shapes import Chosen
from public.geometry.points import PointGrid, point_grid
from public.layers.initialization import set_prior_, small_normal_
from public.losses.box import giou_loss
from public.losses.focal import sigmoid_focal_loss_sums_of_levels

_PRIOR = 0.01
"""The probability that a new network gives every class."""
_LARGEST_EXPONENT = math.log(1e5)
"""A side is at most 100 000 pixels away, beyond any canvas; in float32, exp overflows at 88."""


class FCOSOutputs(NamedTuple):
    """Raw outputs, one tensor a level."""

    class_logits: tuple[Tensor, ...]
    """float [B, num_classes, H, W] each."""
    box_logits: tuple[Tensor, ...]
    """float [B, 5, H, W] each: left, top, right, bottom before exp or ReLU, then centerness before the sigmoid."""
    canvas_size: tuple[int, int]
    """Height and width of the images in pixels."""


def num_groups(channels: int) -> int:
    """Of the group norms: 32; where those do not divide the channels or hold one each, the next lower power of 2."""
    return next((g for g in (32, 16, 8, 4, 2) if channels % g == 0 and channels > g), 1)


class _GroupNorm(nn.GroupNorm):
    """A group norm in float32: as autocast has it on a GPU, and on a CPU twice as fast in NHWC as one in bf16."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape, type and memory layout."""
        return super().forward(input.float()).to(input.dtype)


def _tower(channels: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        norm = _GroupNorm(num_groups(channels), channels)
        layers += [nn.Conv2d(channels, channels, 3, padding=1), norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class ClassificationHead(nn.Module):
    """A tower, then the classes, for all levels."""

    def __init__(self, channels: int, num_convs: int, num_classes: int) -> None:
        super().__init__()
        self.conv = _tower(channels, num_convs)
        self.cls_logits = nn.Conv2d(channels, num_classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[B, channels, H, W] of each level -> [B, num_classes, H, W] of each."""
        return over_levels(maps, self.conv, self.cls_logits)[0]


class RegressionHead(nn.Module):
    """A tower, then the distances and the centerness, for all levels."""

    def __init__(self, channels: int, num_convs: int) -> None:
        super().__init__()
        self.conv = _tower(channels, num_convs)
        self.bbox_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.bbox_ctrness = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[B, channels, H, W] of each level -> [B, 5, H, W] of each."""
        # One convolution with the weights of two: each alone would be as slow, having far fewer outputs than a
        # processor computes at a time.
        weight = torch.cat([self.bbox_reg.weight, self.bbox_ctrness.weight])  # [5, channels, 3, 3]
        bias = torch.cat([cast(Tensor, self.bbox_reg.bias), cast(Tensor, self.bbox_ctrness.bias)])  # [5]
        return over_levels(maps, self.conv, (weight, bias))[0]


class Head(nn.Module):
    """Both heads, shared by all levels."""

    def __init__(self, channels: int, num_convs: int, num_classes: int) -> None:
        super().__init__()
        self.classification_head = ClassificationHead(channels, num_convs, num_classes)
        self.regression_head = RegressionHead(channels, num_convs)
        small_normal_(self)
        # So that at first the many background points do not drown the few others.
        set_prior_(self.classification_head.cls_logits, _PRIOR)

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """[B, channels, H, W] of each level -> [B, num_classes, H, W] of each, [B, 5, H, W] of each."""
        return self.classification_head(maps), self.regression_head(maps)


class FCOS(Detector):
    """FCOS on a feature pyramid whose P6 comes from P5.

    Args:
        num_classes: object classes; background is none of them.
        options: see there.

    Raises:
        ValueError: no such backbone, or one without the levels.
    """

    class_prefixes = ("head.classification_head.cls_logits.",)
    loss_names = ("classification", "box", "centerness")

    def __init__(self, num_classes: int, options: FCOSOptions) -> None:
        super().__init__()
        self.options = options
        self.backbone = PyramidBackbone(
            options.backbone,
            options.levels,
            channels=options.channels,
            extra="p5",
            frozen_stages=options.frozen_stages,
            frozen_batch_norm=options.frozen_batch_norm,
        )
        self.head = Head(options.channels, options.num_convs, num_classes)
        # exp(scale) multiplies; torchvision's ReLU is in strides and has none.
        scaled = options.distances == "exp"
        self.scales = nn.Parameter(torch.ones(len(self.backbone.strides))) if scaled else None

    @property
    def body(self) -> Features:
        """The backbone, which classification weights fit."""
        return self.backbone.body

    def forward(self, images: Tensor) -> FCOSOutputs:
        """Normalized images float [B, 3, H, W] -> raw outputs."""
        class_logits, box_logits = self.head(self.backbone(images))
        return FCOSOutputs(class_logits, box_logits, (images.shape[-2], images.shape[-1]))

    @torch.no_grad()
    def targets(self, batch: DetectionBatch) -> PointTargets:
        """What each point learns, see `assign`."""
        return assign(
            self._grid((batch.images.shape[-2], batch.images.shape[-1]), batch.boxes.device),
            flat_objects(batch),
            flat_ignored(batch),
            batch_size=len(batch.images),
            center_sampling=self.options.center_sampling,
        )

    def counts(self, targets: PointTargets) -> Tensor:
        """float32 [B, 1]: the number of positive points."""
        return (targets.labels >= 0).sum(1, keepdim=True, dtype=torch.float32)

    def loss(self, outputs: FCOSOutputs, targets: PointTargets, normalizer: Tensor | None = None) -> dict[str, Tensor]:
        """The focal loss of the classes, the GIoU loss of the boxes, and the cross-entropy of the centerness.

        Each is a sum over the points (the last two: over the positive ones) divided by the number of positives. See
        `Detector.loss`.
        """
        if normalizer is None:
            normalizer = self.normalizer(targets)
        box, center = self._positive_losses(outputs, targets)
        sums = {"classification": self._class_loss(outputs.class_logits, targets), "box": box, "centerness": center}
        divisor = normalizer[0]
        return {name: value / divisor for name, value in sums.items()}

    def decode(self, outputs: FCOSOutputs, sizes: ImageSizes) -> Detections:
        """Raw outputs to detections in the original images, see `public.detectors.fcos.decode`."""
        grid = self._grid(outputs.canvas_size, outputs.box_logits[0].device)
        factors = self._factors(grid)

        def to_sides(logits: Tensor, levels: Tensor) -> Tensor:
            return self._sides(logits, factors[levels])

        return decode(outputs.class_logits, outputs.box_logits, grid, to_sides, sizes, self.options)

    def _grid(self, canvas_size: tuple[int, int], device: torch.device) -> PointGrid:
        return point_grid(canvas_size, self.backbone.strides, device, self.options.points)

    def _class_loss(self, class_logits: tuple[Tensor, ...], targets: PointTargets) -> Tensor:
        """The summed focal loss."""
        levels = [logits.movedim(1, 3) for logits in class_logits]  # [B, H, W, C] each
        alpha, gamma = self.options.focal_alpha, self.options.focal_gamma
        return sigmoid_focal_loss_sums_of_levels(levels, targets.labels, alpha=alpha, gamma=gamma).sum(1).sum()

    def _positive_losses(self, outputs: FCOSOutputs, targets: PointTargets) -> tuple[Tensor, Tensor]:
        """The summed losses of boxes and centernesses."""
        joined = join_points(outputs.box_logits)  # [B, P, 5]
        grid = self._grid(outputs.canvas_size, joined.device)
        positives = Chosen(targets.labels >= 0)  # N of them
        # One factor for each point and not one that all points of a level look up: a GPU would add up the gradient of
        # what so many look up one after the other.
        sizes = [x.shape[2] * x.shape[3] for x in outputs.box_logits]
        factors = torch.cat([one.expand(size) for one, size in zip(self._factors(grid), sizes, strict=True)])  # [P]
        centers, factors = positives.of_columns(grid.centers), positives.of_columns(factors)  # [N, 2], [N]
        boxes = positives.of(targets.boxes)  # [N, 4]
        chosen = positives.of(joined).float()  # [N, 5]
        side_logits, center_logits = chosen.split((4, 1), dim=1)
        found = boxes_around(centers, self._sides(side_logits, factors))  # [N, 4]
        target_centerness = positives.only(centerness(side_distances(centers, boxes)))  # [N]
        losses = giou_loss(found, boxes)  # [N]
        box_losses = losses * target_centerness if self.options.centerness_weighted else losses
        center_losses = F.binary_cross_entropy_with_logits(
            center_logits.squeeze(1), target_centerness, reduction="none"
        )
        return self.options.box_weight * positives.only(box_losses).sum(), positives.only(center_losses).sum()

    def _factors(self, grid: PointGrid) -> Tensor:
        """What the sides' outputs are multiplied by, float32 [L] for the levels."""
        return grid.strides if self.scales is None else self.scales.float().exp()

    def _sides(self, logits: Tensor, factors: Tensor) -> Tensor:
        """Outputs float32 [..., 4] and factors [...] of points -> left, top, right, bottom in pixels [..., 4]."""
        if self.scales is None:
            return logits.relu() * factors[..., None]
        return (logits * factors[..., None]).clamp(max=_LARGEST_EXPONENT).exp()
