"""GhostNet at widths 1.0 and 1.3.

Paper: Han et al. 2020, https://arxiv.org/abs/1911.11907, table 1 (1.3 is the width of its table 7).
Reference: timm's `ghostnet_100` and `ghostnet_130` (logits; key names but for squeeze-and-excitation's, which
`public/weights/key_maps_mobile.py` renames).
Deviations from the paper: none known; as in its authors' code squeeze-and-excitation has a hard sigmoid, and stands
behind the strided convolution.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone
from public.backbones.levels import Step, levels_by_stride
from public.backbones.options import given
from public.config.options import NetworkOptions
from public.layers.channels import to_multiple
from public.layers.conv_norm_act import ConvNormAct
from public.layers.initialization import kaiming_fan_out_
from public.layers.squeeze_excite import SqueezeExcite
from public.layers.winograd import Convolutions


class Row(NamedTuple):
    """One block at width 1.0."""

    kernel_size: int
    hidden: int
    channels: int
    squeeze_excite: bool
    stride: int


# table 1, in stages as timm counts them
_STAGES = (
    (Row(3, 16, 16, False, 1),),
    (Row(3, 48, 24, False, 2),),
    (Row(3, 72, 24, False, 1),),
    (Row(5, 72, 40, True, 2),),
    (Row(5, 120, 40, True, 1),),
    (Row(3, 240, 80, False, 2),),
    (
        Row(3, 200, 80, False, 1),
        Row(3, 184, 80, False, 1),
        Row(3, 184, 80, False, 1),
        Row(3, 480, 112, True, 1),
        Row(3, 672, 112, True, 1),
    ),
    (Row(5, 672, 160, True, 2),),
    (Row(5, 960, 160, False, 1), Row(5, 960, 160, True, 1), Row(5, 960, 160, False, 1), Row(5, 960, 160, True, 1)),
)
_STEM_CHANNELS, _LAST_HIDDEN, _HEAD_CHANNELS = 16, 960, 1280

ReLU = partial(nn.ReLU, inplace=True)


class GhostModule(nn.Module):
    """Half of the channels by a 1x1, the other half from those by a 3x3 depthwise.

    [B, C, H, W] -> [B, out_channels, H, W], an even number of channels.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: type[nn.Module] | partial[nn.ReLU]) -> None:
        super().__init__()
        half = out_channels // 2
        assert out_channels == 2 * half, "the networks below have even channels only"
        self.primary_conv = ConvNormAct(in_channels, half, 1, activation=activation)
        self.cheap_operation = ConvNormAct(half, half, 3, groups=half, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_channels, H, W]."""
        x = self.primary_conv(x)  # [B, out_channels / 2, H, W]
        return torch.cat([x, self.cheap_operation(x)], 1)


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int = 1) -> list[nn.Module]:
    """A convolution and its norm, apart: timm gives them separate names."""
    return list(ConvNormAct(in_channels, out_channels, kernel_size, stride, groups))[:2]


class GhostBottleneck(nn.Module):
    """Ghost module up, depthwise where it strides, squeeze-and-excitation in some, ghost module down, a shortcut.

    [B, C, H, W] -> [B, channels, ceil(H/s), ceil(W/s)] with s the stride.
    """

    def __init__(self, in_channels: int, row: Row, width: float) -> None:
        super().__init__()
        hidden, channels = to_multiple(row.hidden * width, 4), to_multiple(row.channels * width, 4)
        self.ghost1 = GhostModule(in_channels, hidden, ReLU)
        self.conv_dw, self.bn_dw, self.se = nn.Identity(), nn.Identity(), nn.Identity()
        if row.stride > 1:
            self.conv_dw, self.bn_dw = _conv_norm(hidden, hidden, row.kernel_size, row.stride, groups=hidden)
        if row.squeeze_excite:
            self.se = SqueezeExcite(hidden, to_multiple(hidden / 4, 4), gate=nn.Hardsigmoid)
        self.ghost2 = GhostModule(hidden, channels, nn.Identity)
        self.shortcut = Convolutions()
        if row.stride > 1 or in_channels != channels:
            self.shortcut.extend(_conv_norm(in_channels, in_channels, row.kernel_size, row.stride, groups=in_channels))
            self.shortcut.extend(_conv_norm(in_channels, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, channels, ceil(H/s), ceil(W/s)]."""
        out = self.bn_dw(self.conv_dw(self.ghost1(x)))  # [B, hidden, H/s, W/s]
        return self.ghost2(self.se(out)) + self.shortcut(x)  # [B, channels, H/s, W/s]


@dataclass(frozen=True, kw_only=True)
class GhostNetOptions(NetworkOptions):
    """What can be set on every GhostNet."""

    kind: ClassVar[str] = "ghostnet"
    dropout: float | None = None
    """Share of the last hidden features that are dropped before the classifier. None: 0.2."""


class GhostNet(Backbone):
    """A 3x3 stem, 16 ghost bottlenecks, a 1x1 convolution and a classifier of two layers. Levels c1 to c5.

    The 1x1 convolution counts as the head: c5 is the last bottleneck.
    """

    classifier_prefix = "classifier."

    def __init__(self, width: float, *, num_classes: int = 1000, dropout: float = 0.2) -> None:
        """Takes the factor of all channels but the classifier's, the number of classes and the options."""
        super().__init__()
        channels = to_multiple(_STEM_CHANNELS * width, 4)
        self.conv_stem = nn.Conv2d(3, channels, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = ReLU()
        steps = [Step("conv_stem", 2, channels), Step("bn1", 1, channels), Step("act1", 1, channels)]
        self.blocks = nn.Sequential()
        for index, rows in enumerate(_STAGES):
            stage = nn.Sequential()
            for row in rows:
                stage.append(GhostBottleneck(channels, row, width))
                channels = to_multiple(row.channels * width, 4)
            self.blocks.append(stage)
            steps.append(Step(f"blocks.{index}", rows[0].stride, channels))
        self.levels = levels_by_stride(steps)
        hidden = to_multiple(_LAST_HIDDEN * width, 4)
        self.blocks.append(nn.Sequential(ConvNormAct(channels, hidden, 1, names=("conv", "bn1", "act"))))
        self.conv_head = nn.Conv2d(hidden, _HEAD_CHANNELS, 1)
        self.act2 = ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(_HEAD_CHANNELS, num_classes)
        kaiming_fan_out_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = self.blocks[-1](x)  # [B, hidden, H/32, W/32]
        x = functional.adaptive_avg_pool2d(x, 1)  # [B, hidden, 1, 1]
        x = self.act2(self.conv_head(x)).flatten(1)  # [B, 1280]
        return self.classifier(self.dropout(x))


def ghostnet_100(num_classes: int = 1000, options: GhostNetOptions | None = None) -> GhostNet:
    """5.183 M parameters, 0.141 GMACs at 224."""
    return GhostNet(1.0, num_classes=num_classes, **given(options))


def ghostnet_130(num_classes: int = 1000, options: GhostNetOptions | None = None) -> GhostNet:
    """7.359 M parameters, 0.227 GMACs at 224."""
    return GhostNet(1.3, num_classes=num_classes, **given(options))
