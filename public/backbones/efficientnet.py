"""EfficientNet B0 to B7.

Paper: Tan and Le 2019, https://arxiv.org/abs/1905.11946, table 1; widths, depths, input sizes and dropout from the
authors' code.
Reference: torchvision's `efficientnet_b0` ... `efficientnet_b7` (key names, initialization, logits, stochastic depth);
timm's `efficientnet_b0` ... through the renaming of `public/weights/key_maps_mobile.py`.
Deviations from the paper: convolutions pad the same on both sides, as torchvision's and timm's plain networks (timm's
`tf_efficientnet_...` pad as TensorFlow, and are others). B5 to B7 have torchvision's epsilon of 1e-3 in their batch
norms; timm's weights were trained with 1e-5, for which there is `norm_eps`.
Deviations from 2020: squeeze-and-excitation squeezes to a quarter of the block's *input*, not of its expanded width;
swish, not hard swish, everywhere; stochastic depth is there.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone
from public.backbones.levels import Step, levels_by_stride
from public.backbones.options import NormEpsOptions, given
from public.layers.batch_norm import set_batch_norms_
from public.layers.channels import to_multiple
from public.layers.conv_norm_act import ConvNormAct
from public.layers.drop_path import drop_path_layer, linear_drop_path_
from public.layers.initialization import kaiming_fan_out_
from public.layers.squeeze_excite import SqueezeExcite


class Row(NamedTuple):
    """One stage of B0."""

    expansion: int
    kernel_size: int
    stride: int
    channels: int
    repeats: int


# table 1
_ROWS = (
    Row(1, 3, 1, 16, 1),
    Row(6, 3, 2, 24, 2),
    Row(6, 5, 2, 40, 2),
    Row(6, 3, 2, 80, 3),
    Row(6, 5, 1, 112, 3),
    Row(6, 5, 2, 192, 4),
    Row(6, 3, 1, 320, 1),
)
_STEM_CHANNELS = 32

Swish = partial(nn.SiLU, inplace=True)
ConvNormSwish = partial(ConvNormAct, activation=Swish)


class MBConv(nn.Module):
    """1x1 up by the expansion, depthwise, squeeze-and-excitation, linear 1x1 down.

    [B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)] with s the stride. The input is added where the
    shapes allow it. An expansion of 1 has no first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.block = nn.Sequential(
            *([] if expansion == 1 else [ConvNormSwish(in_channels, hidden, 1)]),
            ConvNormSwish(hidden, hidden, kernel_size, stride, groups=hidden),
            SqueezeExcite(hidden, in_channels // 4, Swish),
            ConvNormAct(hidden, out_channels, 1, activation=nn.Identity),
        )
        self.drop_path = drop_path_layer()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""
        return self.drop_path(self.block(x)).add_(x) if self.has_shortcut else self.block(x)


def _scaled(row: Row, width: float, depth: float) -> Row:
    """The row with `width` times the channels and `depth` times the blocks."""
    return row._replace(channels=to_multiple(row.channels * width, 8), repeats=math.ceil(row.repeats * depth))


def _stage(row: Row, in_channels: int) -> list[MBConv]:
    """The blocks of a row, the first of which strides."""
    first = MBConv(in_channels, row.channels, row.kernel_size, row.stride, row.expansion)
    others = range(row.repeats - 1)
    return [first, *(MBConv(row.channels, row.channels, row.kernel_size, 1, row.expansion) for _ in others)]


@dataclass(frozen=True, kw_only=True)
class EfficientNetOptions(NormEpsOptions):
    """What can be set on every EfficientNet."""

    kind: ClassVar[str] = "efficientnet"
    dropout: float | None = None
    """Share of the pooled features that are dropped before the classifier. None: 0.2 (B0) to 0.5 (B7)."""
    drop_path: float | None = None
    """Share of the training images that skip a block after the last; it grows linearly from 0. None: 0.2."""
    norm_eps: float | None = None
    """Epsilon of the batch norms. None: 1e-5, from B5 on 1e-3."""


class EfficientNet(Backbone):
    """A 3x3 stem, seven stages of inverted residuals, a 1x1 convolution and a linear classifier. Levels c1 to c5.

    The 1x1 convolution counts as the head: c5 is the last inverted residual.
    """

    classifier_prefix = "classifier."

    def __init__(
        self,
        width: float,
        depth: float,
        *,
        num_classes: int = 1000,
        dropout: float = 0.2,
        drop_path: float = 0.2,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
    ) -> None:
        """Takes the factors of channels and blocks against B0, the number of classes and the options."""
        super().__init__()
        rows, stem_channels = [_scaled(row, width, depth) for row in _ROWS], to_multiple(_STEM_CHANNELS * width, 8)
        inputs = (stem_channels, *(row.channels for row in rows))
        stages = [_stage(row, in_channels) for row, in_channels in zip(rows, inputs, strict=False)]
        stem, head = ConvNormSwish(3, stem_channels, 3, 2), ConvNormSwish(inputs[-1], 4 * inputs[-1], 1)
        self.features = nn.Sequential(stem, *(nn.Sequential(*stage) for stage in stages), head)
        linear = nn.Linear(4 * inputs[-1], num_classes)
        self.classifier = nn.Sequential(nn.Dropout(dropout), linear)
        steps = [Step(f"features.{index}", row.stride, row.channels) for index, row in enumerate(rows, start=1)]
        self.levels = levels_by_stride([Step("features.0", 2, stem_channels), *steps])
        linear_drop_path_(self, drop_path)
        blocks = [block for stage in stages for block in stage]
        for block in blocks:
            block.drop_path.p -= drop_path / len(blocks)  # torchvision's rates: 0 for the first block
        set_batch_norms_(self, eps=norm_eps, momentum=norm_momentum)
        kaiming_fan_out_(self)
        nn.init.uniform_(linear.weight, -(num_classes**-0.5), num_classes**-0.5)
        nn.init.zeros_(linear.bias)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = self.features[-1](x)  # [B, 4 * C5, H/32, W/32]
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, 4 * C5]
        return self.classifier(x)


def efficientnet_b0(num_classes: int = 1000, options: EfficientNetOptions | None = None) -> EfficientNet:
    """5.289 M parameters, 0.386 GMACs at 224."""
    return EfficientNet(1.0, 1.0, num_classes=num_classes, **given(options))


def efficientnet_b1(num_classes: int = 1000, options: EfficientNetOptions | None = None) -> EfficientNet:
    """7.794 M parameters, 0.687 GMACs at 240."""
    return EfficientNet(1.0, 1.1, num_classes=num_classes, **given(options))


def efficientnet_b2(num_classes: int = 1000, options: EfficientNetOptions | None = None) -> EfficientNet:
    """9.110 M parameters, 1.088 GMACs at 288."""
    values = {"dropout": 0.3} | given(options)
    return EfficientNet(1.1, 1.2, num_classes=num_classes, **values)


def efficientnet_b3(num_classes: int = 1000, options: EfficientNetOptions | None = None) -> EfficientNet:
    """12.233 M parameters, 1.827 GMACs at 300."""
    values = {"dropout": 0.3} | given(options)
    return EfficientNet(1.2, 1.4, num_classes=num_classes, **values)


def efficientnet_b4(num_classes: int = 1000, options: EfficientNetOptions | None = None) -> EfficientNet:
    """19.342 M parameters, 4.394 GMACs at 380."""
    values = {"dropout": 0.4} | given(options)
    return EfficientNet(1.4, 1.8, num_classes=num_classes, **values)


def efficientnet_b5(num_classes: int = 1000, options: EfficientNetOptions | None = None) -> EfficientNet:
    """30.390 M parameters, 10.266 GMACs at 456."""
    values = {"dropout": 0.4, "norm_eps": 1e-3} | given(options)
    return EfficientNet(1.6, 2.2, num_classes=num_classes, norm_momentum=0.01, **values)


def efficientnet_b6(num_classes: int = 1000, options: EfficientNetOptions | None = None) -> EfficientNet:
    """43.041 M parameters, 19.068 GMACs at 528."""
    values = {"dropout": 0.5, "norm_eps": 1e-3} | given(options)
    return EfficientNet(1.8, 2.6, num_classes=num_classes, norm_momentum=0.01, **values)


def efficientnet_b7(num_classes: int = 1000, options: EfficientNetOptions | None = None) -> EfficientNet:
    """66.348 M parameters, 37.746 GMACs at 600."""
    values = {"dropout": 0.5, "norm_eps": 1e-3} | given(options)
    return EfficientNet(2.0, 3.1, num_classes=num_classes, norm_momentum=0.01, **values)
