"""MobileNet (v1) at width 1.0.

Paper: Howard et al. 2017, https://arxiv.org/abs/1704.04861, table 1.
Reference: timm's `mobilenetv1_100` (key names, logits).
Deviations from the paper: ReLU6 where it writes ReLU, as in its authors' code and timm's weights; the last block has
stride 1, as the paper's figures of 7x7 maps need, not the 2 that its table prints.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.backbones.options import given
from public.config.options import NetworkOptions
from public.layers.depthwise import DepthwiseConv2d
from public.layers.initialization import kaiming_fan_out_
from public.layers.relu6 import ReLU6
from public.layers.winograd import Convolutions

_STEM_CHANNELS = 32
_ROWS = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))  # channels, number of blocks; all but the first row stride


def separable(in_channels: int, out_channels: int, stride: int) -> Convolutions:
    """3x3 depthwise and 1x1, each with norm and ReLU6.

    [B, in_channels, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)] with s the stride.
    """
    layers: dict[str, nn.Module] = OrderedDict(conv_dw=DepthwiseConv2d(in_channels, stride))
    layers.update(bn1=nn.BatchNorm2d(in_channels), act1=ReLU6())
    layers["conv_pw"] = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    layers.update(bn2=nn.BatchNorm2d(out_channels), act2=ReLU6())
    return Convolutions(layers)


@dataclass(frozen=True, kw_only=True)
class MobileNetV1Options(NetworkOptions):
    """What can be set on MobileNet."""

    kind: ClassVar[str] = "mobilenet_v1"
    dropout: float | None = None
    """Share of the pooled features that are dropped before the classifier. None: 0."""


class MobileNetV1(Backbone):
    """A 3x3 stem, 13 depthwise separable blocks, a linear classifier. Levels c1 to c5."""

    classifier_prefix = "classifier."

    def __init__(self, *, num_classes: int = 1000, dropout: float = 0.0) -> None:
        """Takes the number of classes and the options."""
        super().__init__()
        self.conv_stem = nn.Conv2d(3, _STEM_CHANNELS, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_CHANNELS)
        self.act1 = ReLU6()
        self.blocks, self.levels, in_channels = nn.Sequential(), {}, _STEM_CHANNELS
        for row, (channels, repeats) in enumerate(_ROWS):
            first = separable(in_channels, channels, 1 if row == 0 else 2)
            self.blocks.append(nn.Sequential(first, *(separable(channels, channels, 1) for _ in range(repeats - 1))))
            self.levels[f"c{row + 1}"] = Level(2 ** (row + 1), channels, (f"blocks.{row}",))
            in_channels = channels
        self.levels["c1"] = self.levels["c1"]._replace(modules=("conv_stem", "bn1", "act1", "blocks.0"))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(in_channels, num_classes)
        kaiming_fan_out_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, 1024, H/32, W/32] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, 1024]
        return self.classifier(self.dropout(x))


def mobilenet_v1(num_classes: int = 1000, options: MobileNetV1Options | None = None) -> MobileNetV1:
    """4.232 M parameters, 0.569 GMACs at 224."""
    return MobileNetV1(num_classes=num_classes, **given(options))
