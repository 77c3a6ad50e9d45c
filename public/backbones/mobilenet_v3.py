"""MobileNetV3, large and small, at width 1.0.

Paper: Howard et al. 2019, https://arxiv.org/abs/1905.02244, tables 1 and 2.
Reference: torchvision's `mobilenet_v3_large` and `mobilenet_v3_small` (key names, initialization, logits); timm's
`mobilenetv3_large_100` and `..._small_100` through the renaming of `public/weights/key_maps_mobile.py`.
Deviations from the paper: batch norms have torchvision's epsilon of 1e-3; timm's weights were trained with 1e-5, for
which there is `norm_eps`.
Deviations from ModelZoo: the small network's last layer but one has the paper's 1024 channels, not 1280.
"""

from collections.abc import Sequence
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
    """One block."""

    kernel_size: int
    hidden: int
    channels: int
    squeeze_excite: bool
    activation: type[nn.Module]
    stride: int


# table 1
_LARGE = (
    Row(3, 16, 16, False, nn.ReLU, 1),
    Row(3, 64, 24, False, nn.ReLU, 2),
    Row(3, 72, 24, False, nn.ReLU, 1),
    Row(5, 72, 40, True, nn.ReLU, 2),
    Row(5, 120, 40, True, nn.ReLU, 1),
    Row(5, 120, 40, True, nn.ReLU, 1),
    Row(3, 240, 80, False, nn.Hardswish, 2),
    Row(3, 200, 80, False, nn.Hardswish, 1),
    Row(3, 184, 80, False, nn.Hardswish, 1),
    Row(3, 184, 80, False, nn.Hardswish, 1),
    Row(3, 480, 112, True, nn.Hardswish, 1),
    Row(3, 672, 112, True, nn.Hardswish, 1),
    Row(5, 672, 160, True, nn.Hardswish, 2),
    Row(5, 960, 160, True, nn.Hardswish, 1),
    Row(5, 960, 160, True, nn.Hardswish, 1),
)
# table 2
_SMALL = (
    Row(3, 16, 16, True, nn.ReLU, 2),
    Row(3, 72, 24, False, nn.ReLU, 2),
    Row(3, 88, 24, False, nn.ReLU, 1),
    Row(5, 96, 40, True, nn.Hardswish, 2),
    Row(5, 240, 40, True, nn.Hardswish, 1),
    Row(5, 240, 40, True, nn.Hardswish, 1),
    Row(5, 120, 48, True, nn.Hardswish, 1),
    Row(5, 144, 48, True, nn.Hardswish, 1),
    Row(5, 288, 96, True, nn.Hardswish, 2),
    Row(5, 576, 96, True, nn.Hardswish, 1),
    Row(5, 576, 96, True, nn.Hardswish, 1),
)
_STEM_CHANNELS = 16

HardSwish = partial(nn.Hardswish, inplace=True)


class InvertedResidual(nn.Module):
    """1x1 up, depthwise, squeeze-and-excitation in some, linear 1x1 down.

    [B, C, H, W] -> [B, row.channels, ceil(H/s), ceil(W/s)] with s the stride. The input is added where the
    shapes allow it. Where nothing is to be expanded, there is no first convolution.
    """

    def __init__(self, in_channels: int, row: Row) -> None:
        super().__init__()
        hidden, unit = row.hidden, partial(ConvNormAct, activation=partial(row.activation, inplace=True))
        self.has_shortcut = row.stride == 1 and in_channels == row.channels
        layers: list[nn.Module] = [] if hidden == in_channels else [unit(in_channels, hidden, 1)]
        layers.append(unit(hidden, hidden, row.kernel_size, row.stride, groups=hidden))
        if row.squeeze_excite:
            layers.append(SqueezeExcite(hidden, to_multiple(hidden // 4, 8), gate=nn.Hardsigmoid))
        layers.append(ConvNormAct(hidden, row.channels, 1, activation=nn.Identity))
        self.block = nn.Sequential(*layers)
        self.drop_path = drop_path_layer()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, row.channels, ceil(H/s), ceil(W/s)]."""
        return self.drop_path(self.block(x)).add_(x) if self.has_shortcut else self.block(x)


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Options(NormEpsOptions):
    """What can be set on every MobileNetV3."""

    kind: ClassVar[str] = "mobilenet_v3"
    dropout: float | None = None
    """Share of the last hidden features that are dropped before the classifier. None: 0.2."""
    norm_eps: float | None = None
    """Epsilon of the batch norms. None: 1e-3."""


class MobileNetV3(Backbone):
    """A 3x3 stem, inverted residuals, a 1x1 convolution and a classifier of two layers. Levels c1 to c5.

    The 1x1 convolution counts as the head: c5 is the last inverted residual.
    """

    classifier_prefix = "classifier.3."

    def __init__(
        self,
        rows: Sequence[Row],
        num_hidden: int,
        *,
        num_classes: int = 1000,
        dropout: float = 0.2,
        drop_path: float = 0.0,
        norm_eps: float = 1e-3,
    ) -> None:
        """Takes the blocks, the channels between the classifier's two layers, the number of classes and the options."""
        super().__init__()
        inputs = (_STEM_CHANNELS, *(row.channels for row in rows))
        blocks = [InvertedResidual(in_channels, row) for row, in_channels in zip(rows, inputs, strict=False)]
        stem = ConvNormAct(3, _STEM_CHANNELS, 3, 2, activation=HardSwish)
        head = ConvNormAct(inputs[-1], 6 * inputs[-1], 1, activation=HardSwish)
        self.features = nn.Sequential(stem, *blocks, head)
        linears = nn.Linear(6 * inputs[-1], num_hidden), nn.Linear(num_hidden, num_classes)
        self.classifier = nn.Sequential(linears[0], HardSwish(), nn.Dropout(dropout), linears[1])
        steps = [Step(f"features.{index}", row.stride, row.channels) for index, row in enumerate(rows, start=1)]
        self.levels = levels_by_stride([Step("features.0", 2, _STEM_CHANNELS), *steps])
        linear_drop_path_(self, drop_path)
        set_batch_norms_(self, eps=norm_eps, momentum=0.01)
        kaiming_fan_out_(self)
        for layer in linears:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = self.features[-1](x)  # [B, 6 * C5, H/32, W/32]
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, 6 * C5]
        return self.classifier(x)


def mobilenet_v3_large(num_classes: int = 1000, options: MobileNetV3Options | None = None) -> MobileNetV3:
    """5.483 M parameters, 0.217 GMACs at 224."""
    return MobileNetV3(_LARGE, 1280, num_classes=num_classes, **given(options))


def mobilenet_v3_small(num_classes: int = 1000, options: MobileNetV3Options | None = None) -> MobileNetV3:
    """2.543 M parameters, 0.057 GMACs at 224."""
    return MobileNetV3(_SMALL, 1024, num_classes=num_classes, **given(options))
