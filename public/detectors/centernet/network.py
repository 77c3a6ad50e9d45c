"""CenterNet: an object is a peak of its class's heatmap, with a size beside it.

Paper: Zhou et al. 2019, https://arxiv.org/abs/1904.07850, with the deformable upsampling of its ResNets.
Referee: parameter counts of the 2020 monorepo (ResNet-18 14.437 M, ResNet-101 49.67 M with 80 classes); targets and
decoding in loops in the tests.
Deviations from the paper, as in 2020: smooth L1 (beta 1/9) instead of L1 for offsets and sizes.
Deviations from the 2020 monorepo: losses are normalised over the global batch instead of each image, so that images
without objects teach background; any number of objects; logarithms from logits instead of clamped probabilities; no
peaks beside the image; of equal neighbours one is a peak; nothing is learned inside ignored regions.
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
from public.detectors.centernet.decode import DecodeOptions, decode
from public.detectors.centernet.targets import Centres, count, draw_heatmap, find_centres, leave_out_ignored
from public.detectors.detector import Detections, Detector
from public.detectors.targets import flat_objects, not_compiled
from public.layers.deform_conv import DeformConv
from public.layers.frozen_batch_norm import freeze_batch_norm
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
    """[B, 2, h, w], x and y of the centre from the cell's corner, in cells."""
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


def _upsampling(in_channels: int, channels: Sequence[int], deformable: bool) -> nn.Sequential:
    """Doubles height and width once for each of `channels`; six modules each, numbered through."""
    layers: list[nn.Module] = []
    for out in channels:
        conv = DeformConv(in_channels, out) if deformable else nn.Conv2d(in_channels, out, 3, padding=1, bias=False)
        up = nn.ConvTranspose2d(out, out, 4, stride=2, padding=1, bias=False)
        bilinear_(up)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True), up, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        in_channels = out
    return nn.Sequential(*layers)


def bilinear_(layer: nn.ConvTranspose2d) -> None:
    """Sets the weights, 4x4 with stride 2, such that each channel is enlarged bilinearly and none is mixed in."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.zero_()
        diagonal = torch.arange(layer.weight.shape[0])
        layer.weight[diagonal, diagonal] = torch.outer(line, line).to(layer.weight.device)


def _head(in_channels: int, channels: int, out_channels: int) -> nn.Sequential:
    """[B, in_channels, h, w] -> [B, out_channels, h, w]."""
    first = nn.Conv2d(in_channels, channels, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(inplace=True), nn.Conv2d(channels, out_channels, 1))


class CenterNet(Detector):
    """CenterNet on the deepest map of a backbone, enlarged to stride 4.

    Args:
        num_classes: object classes; background is none of them.
        backbone: a name from `public.backbones.catalog`.
        frozen_stages: levels of the backbone, from the stem on, that do not train.
        frozen_batch_norm: whether the backbone's batch norms keep statistics and weights.
        level: of the backbone, from which the map is enlarged.
        deformable: whether the convolutions of the enlargement are deformable; plain ones are faster on a CPU.
        upsample_channels: of each step of the enlargement, which halves the stride.
        head_channels: of the hidden layer of each head.
        score_threshold: detections with a lower score are left out.
        iou_threshold: of two boxes of one class with a higher overlap, the weaker goes; None: all stay.
        max_detections: of an image.

    Raises:
        ValueError: a value out of range, no such backbone or level, or a stride that cannot be halved so often.
    """

    class_prefixes = ("heatmap_head.2.",)
    loss_names = ("heatmap", "offset", "size")

    stride: int
    """Pixels to a cell of the outputs."""

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str = "resnet18",
        frozen_stages: int = 0,
        frozen_batch_norm: bool = False,
        level: str = "c5",
        deformable: bool = True,
        upsample_channels: Sequence[int] = (256, 128, 64),
        head_channels: int = 64,
        score_threshold: float = 0.05,
        iou_threshold: float | None = None,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        require(head_channels >= 1, f"head_channels={head_channels} must be 1 or more.")
        positive = all(channels >= 1 for channels in upsample_channels)
        require(positive, f"upsample_channels={tuple(upsample_channels)} must each be 1 or more.")
        self.decode_options = DecodeOptions(score_threshold, iou_threshold, max_detections)
        self.decode_options.check()
        self.num_classes = num_classes

        body = build_features(backbone, [level])
        if frozen_batch_norm:
            freeze_batch_norm(body)
        body.freeze(frozen_stages)
        self.backbone = _DeepestMap(body)
        self._body_stride, in_channels = body.strides[level], body.channels[level]
        self.stride = self._body_stride >> len(upsample_channels)
        require(
            self.stride << len(upsample_channels) == self._body_stride,
            f"upsample_channels={tuple(upsample_channels)} halves the stride {self._body_stride} of {level} "
            f"{len(upsample_channels)} times; it must stay 1 or more.",
        )
        self.upsample = _upsampling(in_channels, upsample_channels, deformable)
        channels = upsample_channels[-1] if upsample_channels else in_channels
        self.heatmap_head = _head(channels, head_channels, num_classes)
        self.offset_head = _head(channels, head_channels, 2)
        self.wh_head = _head(channels, head_channels, 2)
        self._initialise_heads()

    @property
    def body(self) -> Features:
        """The backbone, which classification weights fit."""
        return self.backbone.body

    def forward(self, images: Tensor) -> CenterNetOutputs:
        """Normalised images float [B, 3, H, W] -> raw outputs on maps of `stride` pixels a cell."""
        x = self.upsample(self.backbone(images))  # [B, C, h, w]
        canvas_size = (images.shape[-2], images.shape[-1])
        return CenterNetOutputs(self.heatmap_head(x), self.offset_head(x), self.wh_head(x), canvas_size)

    @not_compiled
    def normalisers(self, batch: DetectionBatch) -> Tensor:
        """float32 [2]: the numbers of peaks and of objects."""
        map_size = self._map_size(batch)
        return count(self._centres(batch, map_size), self.num_classes, map_size)

    @not_compiled
    def loss(
        self, outputs: CenterNetOutputs, batch: DetectionBatch, normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The focal loss of the heatmap by peak, the smooth L1 losses of offset and size by object.

        See `Detector.loss`.
        """
        batch_size, _, *map_size = outputs.heatmap.shape
        height, width = map_size
        centres = self._centres(batch, (height, width))
        if normalisers is None:
            normalisers = count(centres, self.num_classes, (height, width)).clamp(min=1)
        heatmap = draw_heatmap(centres, (batch_size, self.num_classes, height, width))
        leave_out_ignored(heatmap, batch.boxes, batch.labels, self.stride)
        place = (centres.images, slice(None), centres.rows, centres.columns)
        offset = F.smooth_l1_loss(outputs.offsets[place].float(), centres.offsets, beta=_BETA, reduction="sum")
        size = F.smooth_l1_loss(outputs.sizes[place].float(), centres.sizes, beta=_BETA, reduction="sum")
        return {
            "heatmap": gaussian_focal_loss_sum(outputs.heatmap, heatmap) / normalisers[0],
            "offset": offset / normalisers[1],
            "size": _SIZE_WEIGHT * size / normalisers[1],
        }

    @not_compiled
    def decode(self, outputs: CenterNetOutputs, sizes: ImageSizes) -> Detections:
        """Raw outputs to detections in the original images, see `public.detectors.centernet.decode`."""
        return decode(outputs.heatmap, outputs.offsets, outputs.sizes, self.stride, sizes, self.decode_options)

    def _map_size(self, batch: DetectionBatch) -> tuple[int, int]:
        """Height and width of the outputs: the backbone rounds up, and what it rounded is enlarged."""
        enlargement = self._body_stride // self.stride
        height, width = (-(-size // self._body_stride) * enlargement for size in batch.images.shape[-2:])
        return height, width

    def _centres(self, batch: DetectionBatch, map_size: tuple[int, int]) -> Centres:
        return find_centres(flat_objects(batch), self.stride, map_size)

    def _initialise_heads(self) -> None:
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
