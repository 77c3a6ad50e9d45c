"""VoVNetV2 with 19, 39, 57 and 99 layers.

Papers: Lee et al. 2019 (one-shot aggregation), https://arxiv.org/abs/1904.09730; Lee and Park 2019 (V2: shortcuts and
effective squeeze-and-excitation), https://arxiv.org/abs/1911.06667; slim and depthwise variants from the authors'
code.
Reference: timm's `ese_vovnet19b_slim_dw` ... `ese_vovnet99b` (key names, logits); files of 2020 of the 19-layer
networks fit through `public/weights/key_maps_mobile.py`.
Deviations from the papers: where a side of the map is odd, pooling keeps its last row, so that strides are exact.
Deviations from timm and 2020: eSE is in every block, as the paper says. timm has it in the last of each stage only,
2020 nowhere in a stage with several; for timm's weights of 39 and more layers there is `ese_blocks`.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.backbones.options import given
from public.config.checks import require_one_of
from public.config.options import NetworkOptions
from public.layers.conv_norm_act import ConvNormAct
from public.layers.depthwise import DepthwiseConv2d
from public.layers.initialization import kaiming_fan_out_
from public.layers.squeeze_excite import EffectiveSqueezeExcite
from public.layers.winograd import Convolutions

_STEM_CHANNELS = 64
_WIDTHS, _SLIM_WIDTHS = (128, 160, 192, 224), (64, 80, 96, 112)  # within the blocks of each stage
_CHANNELS, _SLIM_CHANNELS = (256, 512, 768, 1024), (112, 256, 384, 512)  # of the blocks' outputs

ConvNormReLU = partial(ConvNormAct, activation=partial(nn.ReLU, inplace=True), names=("conv", "bn", "act"))


def depthwise_conv(in_channels: int, out_channels: int, stride: int = 1) -> Convolutions:
    """3x3 depthwise, 1x1, norm, ReLU: [B, in, H, W] -> [B, out, ceil(H/s), ceil(W/s)] with s the stride."""
    layers: dict[str, nn.Module] = OrderedDict(conv_dw=DepthwiseConv2d(in_channels, stride))
    layers["conv_pw"] = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    layers.update(bn=nn.BatchNorm2d(out_channels), act=nn.ReLU(inplace=True))
    return Convolutions(layers)


def full_conv(in_channels: int, out_channels: int, stride: int = 1) -> Convolutions:
    """3x3, norm, ReLU: [B, in, H, W] -> [B, out, ceil(H/s), ceil(W/s)] with s the stride."""
    return ConvNormReLU(in_channels, out_channels, 3, stride)


class OneShotAggregation(nn.Module):
    """Convolutions one after another; the input and what each gives are joined once, at the end.

    [B, C, H, W] -> [B, channels, H, W]. The input is added where the block is not the first of its stage. A
    depthwise block whose input has another width begins with a 1x1 to its own.
    """

    def __init__(
        self,
        conv: Callable[[int, int], nn.Module],
        in_channels: int,
        width: int,
        channels: int,
        num_convs: int,
        *,
        has_ese: bool,
        has_shortcut: bool,
    ) -> None:
        super().__init__()
        reduces = conv is depthwise_conv and in_channels != width
        self.conv_reduction = ConvNormReLU(in_channels, width, 1) if reduces else nn.Identity()
        first = width if reduces else in_channels
        self.conv_mid = nn.Sequential(*(conv(width if index else first, width) for index in range(num_convs)))
        self.conv_concat = ConvNormReLU(in_channels + num_convs * width, channels, 1)
        self.attn = EffectiveSqueezeExcite(channels) if has_ese else nn.Identity()
        self.has_shortcut = has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, channels, H, W]."""
        maps, out = [x], self.conv_reduction(x)
        for conv in self.conv_mid:
            out = conv(out)  # [B, width, H, W]
            maps.append(out)
        out = self.attn(self.conv_concat(torch.cat(maps, 1)))  # [B, channels, H, W]
        return out + x if self.has_shortcut else out


def _pool() -> nn.Module:
    """The maximum of 3x3 with stride 2: [B, C, H, W] -> [B, C, ceil(H/2), ceil(W/2)].

    The windows begin at the first pixel. Maps after a ReLU are never negative, so that zeros behind the last
    pixel change no maximum.
    """
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2, ceil_mode=True))


@dataclass(frozen=True, kw_only=True)
class VoVNetOptions(NetworkOptions):
    """What can be set on every VoVNet."""

    kind: ClassVar[str] = "vovnet"
    ese_blocks: Literal["all", "last"] | None = None
    """In which blocks of a stage channel attention is: all, or as in timm the last. None: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ese_blocks is not None:
            require_one_of("network_options.ese_blocks", self.ese_blocks, ("all", "last"))


class VoVNet(Backbone):
    """A stem of three 3x3s with stride 4, four stages, a linear classifier. Levels c1 (within the stem) to c5."""

    classifier_prefix = "head.fc."

    def __init__(
        self,
        depths: Sequence[int],
        num_convs: int,
        *,
        slim: bool = False,
        depthwise: bool = False,
        num_classes: int = 1000,
        ese_blocks: Literal["all", "last"] = "all",
    ) -> None:
        """Takes the blocks of each stage, the 3x3s in each block, the variant and the options."""
        super().__init__()
        conv = depthwise_conv if depthwise else full_conv
        widths, outputs = (_SLIM_WIDTHS, _SLIM_CHANNELS) if slim else (_WIDTHS, _CHANNELS)
        channels = _STEM_CHANNELS if depthwise else 2 * _STEM_CHANNELS
        self.stem = nn.Sequential(
            full_conv(3, _STEM_CHANNELS, 2), conv(_STEM_CHANNELS, _STEM_CHANNELS), conv(_STEM_CHANNELS, channels, 2)
        )
        self.stages, self.levels = nn.Sequential(), {"c1": Level(2, _STEM_CHANNELS, ("stem.0", "stem.1"))}
        for number, (depth, width, out_channels) in enumerate(zip(depths, widths, outputs, strict=True)):
            blocks = nn.Sequential()
            for index in range(depth):
                has_ese = ese_blocks == "all" or index == depth - 1
                block = OneShotAggregation(
                    conv, channels, width, out_channels, num_convs, has_ese=has_ese, has_shortcut=index > 0
                )
                blocks.append(block)
                channels = out_channels
            pool = nn.Identity() if number == 0 else _pool()
            self.stages.append(nn.Sequential(OrderedDict(pool=pool, blocks=blocks)))
            self.levels[f"c{number + 2}"] = Level(2 ** (number + 2), channels, (f"stages.{number}",))
        self.levels["c2"] = self.levels["c2"]._replace(modules=("stem.2", "stages.0"))
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(channels, num_classes)))
        kaiming_fan_out_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, C5]
        return self.head(x)


def vovnet19_slim_dw_se(num_classes: int = 1000, options: VoVNetOptions | None = None) -> VoVNet:
    """1.898 M parameters, 0.398 GMACs at 224."""
    return VoVNet((1, 1, 1, 1), 3, slim=True, depthwise=True, num_classes=num_classes, **given(options))


def vovnet19_dw_se(num_classes: int = 1000, options: VoVNetOptions | None = None) -> VoVNet:
    """6.543 M parameters, 1.333 GMACs at 224."""
    return VoVNet((1, 1, 1, 1), 3, depthwise=True, num_classes=num_classes, **given(options))


def vovnet19_slim_se(num_classes: int = 1000, options: VoVNetOptions | None = None) -> VoVNet:
    """3.166 M parameters, 1.680 GMACs at 224."""
    return VoVNet((1, 1, 1, 1), 3, slim=True, num_classes=num_classes, **given(options))


def vovnet19_se(num_classes: int = 1000, options: VoVNetOptions | None = None) -> VoVNet:
    """11.205 M parameters, 4.122 GMACs at 224."""
    return VoVNet((1, 1, 1, 1), 3, num_classes=num_classes, **given(options))


def vovnet39_se(num_classes: int = 1000, options: VoVNetOptions | None = None) -> VoVNet:
    """26.209 M parameters, 7.076 GMACs at 224."""
    return VoVNet((1, 1, 2, 2), 5, num_classes=num_classes, **given(options))


def vovnet57_se(num_classes: int = 1000, options: VoVNetOptions | None = None) -> VoVNet:
    """42.480 M parameters, 8.936 GMACs at 224."""
    return VoVNet((1, 1, 4, 3), 5, num_classes=num_classes, **given(options))


def vovnet99_se(num_classes: int = 1000, options: VoVNetOptions | None = None) -> VoVNet:
    """70.549 M parameters, 16.496 GMACs at 224."""
    return VoVNet((1, 3, 9, 3), 5, num_classes=num_classes, **given(options))
