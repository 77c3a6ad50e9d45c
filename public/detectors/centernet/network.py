"""CenterNet: an object is a peak of its class's heatmap, with a size beside it.

Paper: Zhou et al. 2019, https://arxiv.org/abs/1904.07850, with the deformable upsampling of its ResNets.
Reference: parameter counts of the 2020 monorepo (ResNet-18 14.437 M, ResNet-101 49.67 M with 80 classes); targets and
decoding in loops in the tests.
Deviations from the paper, as in 2020: smooth L1 (beta 1/9) instead of L1 for offsets and sizes, and the sum over the
two numbers of each instead of their mean; with regression_loss="l1" neither.
Deviations from the 2020 monorepo: losses are normalized over the global batch instead of each image, so that images
without objects teach background; any number of objects; logarithms from logits instead of clamped probabilities; no
peaks beside the image; of equal neighbors one is a peak; nothing is learned inside ignored regions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.backbones.catalog import build_features
from public.backbones.features import Features
from public.config.checks import require
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.centernet.decode import decode
from public.detectors.centernet.options import CenterNetOptions
from public.detectors.centernet.targets import CenterNetTargets, targets_of
from public.detectors.detector import Detections, Detector
from public.geometry.fixed_shapes import Chosen
from public.layers.deform_conv import DeformConv
from public.layers.frozen_batch_norm import freeze_batch_norm
from public.layers.winograd import Convolutions
from public.losses.gaussian_focal import gaussian_focal_loss_sum

_PRIOR_LOGIT = -2.19
"""Of every class everywhere in a new network: a probability of 0.1."""
_SIZE_WEIGHT = 0.1
"""Of the sizes' loss, which is in cells and so the largest by far."""
_BETA = 1 / 9
"""Error in cells from which on the losses of offsets and sizes grow linearly."""


class CenterNetOutputs(NamedTuple):
    """Raw outputs, on a map of `stride` pixels a cell that may reach beyond the canvas on the right and below."""

    heatmap: Tensor
    """Logits [B, num_classes, h, w]."""
    offsets: Tensor
    """[B, 2, h, w], x and y of the center from the cell's corner, in cells."""
    sizes: Tensor
    """[B, 2, h, w], width and height, in cells."""
    canvas_size: tuple[int, int]
    """Height and width of the images in pixels."""


class _DeepestMap(nn.Module):
    """Images [B, 3, H, W] -> the one map of the features, under the name that detectors with a pyramid use too."""

    def __init__(self, body: Features) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, ceil(H/stride), ceil(W/stride)]."""
        (deepest,) = self.body(images).values()
        return deepest


def _upsampling(in_channels: int, channels: Sequence[int], deformable: bool) -> Convolutions:
    """Doubles height and width once for each of `channels`; six modules each, numbered through."""
    layers: list[nn.Module] = []
    for out in channels:
        conv = DeformConv(in_channels, out) if deformable else nn.Conv2d(in_channels, out, 3, padding=1, bias=False)
        up = nn.ConvTranspose2d(out, out, 4, stride=2, padding=1, bias=False)
        bilinear_(up)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True), up, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        in_channels = out
    return Convolutions(*layers)


def bilinear_(layer: nn.ConvTranspose2d) -> None:
    """Sets the weights, 4x4 with stride 2, such that each channel is enlarged bilinearly and none is mixed in."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.zero_()
        diagonal = torch.arange(layer.weight.shape[0])
        layer.weight[diagonal, diagonal] = torch.outer(line, line).to(layer.weight.device)


def _head(in_channels: int, channels: int, out_channels: int) -> Convolutions:
    """[B, in_channels, h, w] -> [B, out_channels, h, w]."""
    first = nn.Conv2d(in_channels, channels, 3, padding=1)
    return Convolutions(first, nn.ReLU(inplace=True), nn.Conv2d(channels, out_channels, 1))


class CenterNet(Detector):
    """CenterNet on the deepest map of a backbone, enlarged to stride 4.

    Args:
        num_classes: object classes; background is none of them.
        options: see there.

    Raises:
        ValueError: no such backbone or level, or a stride that cannot be halved so often.
    """

    class_prefixes = ("heatmap_head.2.",)
    loss_names = ("heatmap", "offset", "size")

    stride: int
    """Pixels to a cell of the outputs."""

    def __init__(self, num_classes: int, options: CenterNetOptions) -> None:
        super().__init__()
        self.options, self.num_classes = options, num_classes
        body = build_features(options.backbone, [options.level])
        if options.frozen_batch_norm:
            freeze_batch_norm(body)
        body.freeze(options.frozen_stages)
        self.backbone = _DeepestMap(body)
        self._body_stride, channels = body.strides[options.level], body.channels[options.level]
        num_doublings = len(options.upsample_channels)
        self.stride = self._body_stride >> num_doublings
        require(
            self.stride << num_doublings == self._body_stride,
            f"detector.upsample_channels={options.upsample_channels} halves the stride {self._body_stride} of "
            f"{options.level} {num_doublings} times; it must stay 1 or more.",
        )
        self.upsample = _upsampling(channels, options.upsample_channels, options.deformable)
        channels = (channels, *options.upsample_channels)[-1]
        self.heatmap_head = _head(channels, options.head_channels, num_classes)
        self.offset_head = _head(channels, options.head_channels, 2)
        self.wh_head = _head(channels, options.head_channels, 2)
        self._initialize_heads()

    @property
    def body(self) -> Features:
        """The backbone, which classification weights fit."""
        return self.backbone.body

    def forward(self, images: Tensor) -> CenterNetOutputs:
        """Normalized images float [B, 3, H, W] -> raw outputs on maps of `stride` pixels a cell."""
        x = self.upsample(self.backbone(images))  # [B, C, h, w]
        canvas_size = (images.shape[-2], images.shape[-1])
        return CenterNetOutputs(self.heatmap_head(x), self.offset_head(x), self.wh_head(x), canvas_size)

    @torch.no_grad()
    def targets(self, batch: DetectionBatch) -> CenterNetTargets:
        """A heatmap for each class, and where the objects' centers lie in it, see `targets_of`."""
        # The backbone rounds up, and what it rounded is enlarged.
        enlargement = self._body_stride // self.stride
        height, width = (-(-size // self._body_stride) * enlargement for size in batch.images.shape[-2:])
        return targets_of(batch, self.num_classes, self.stride, (height, width))

    def counts(self, targets: CenterNetTargets) -> Tensor:
        """float32 [B, 2]: the numbers of peaks (objects of one class in one cell share theirs) and of objects."""
        num_peaks = (targets.heatmap == 1).sum((1, 2, 3))
        return torch.stack([num_peaks, targets.are_objects.sum(1)], dim=1).float()

    def loss(
        self, outputs: CenterNetOutputs, targets: CenterNetTargets, normalizer: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The focal loss of the heatmap by peak, the losses of offset and size by object, see `regression_loss`.

        See `Detector.loss`.
        """
        if normalizer is None:
            normalizer = self.normalizer(targets)
        objects = Chosen(targets.are_objects)  # T of them
        cells, width = objects.of(targets.places), targets.heatmap.shape[3]  # [T]
        images = objects.of_images(torch.arange(len(targets.places), device=cells.device))  # [T]
        at_centers = (images, slice(None), cells // width, cells % width)
        offsets, sizes = outputs.offsets[at_centers].float(), outputs.sizes[at_centers].float()  # [T, 2] each
        offset = self._losses_of_pairs(offsets, objects.of(targets.offsets))  # [T, 2]
        size = self._losses_of_pairs(sizes, objects.of(targets.sizes))  # [T, 2]
        return {
            "heatmap": gaussian_focal_loss_sum(outputs.heatmap, targets.heatmap) / normalizer[0],
            "offset": objects.only(offset).sum() / normalizer[1],
            "size": _SIZE_WEIGHT * objects.only(size).sum() / normalizer[1],
        }

    def decode(self, outputs: CenterNetOutputs, sizes: ImageSizes) -> Detections:
        """Raw outputs to detections in the original images, see `public.detectors.centernet.decode`."""
        return decode(outputs.heatmap, outputs.offsets, outputs.sizes, self.stride, sizes, self.options)

    def _losses_of_pairs(self, found: Tensor, wanted: Tensor) -> Tensor:
        """What the two numbers of each object add to a loss: [T, 2], [T, 2] -> [T, 2]."""
        if self.options.regression_loss == "l1":
            return F.l1_loss(found, wanted, reduction="none") / 2
        return F.smooth_l1_loss(found, wanted, beta=_BETA, reduction="none")

    def _initialize_heads(self) -> None:
        last = self.heatmap_head[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, _PRIOR_LOGIT)
        for head in (self.offset_head, self.wh_head):
            for layer in head:
                if isinstance(layer, nn.Conv2d):
                    nn.init.normal_(layer.weight, std=0.001)
                    assert layer.bias is not None
                    nn.init.zeros_(layer.bias)
