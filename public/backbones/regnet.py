"""RegNetX and RegNetY, from 200 MF to 32 GF.

Paper: Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678: the rule of section 3.3, the numbers of figures 15
and 16.
Reference: torchvision's `regnet_x_...` and `regnet_y_...` (key names, logits), timm's `regnetx_...` and `regnety_...`
through the renaming of `public/weights/key_maps_mobile.py`.
Deviations from the paper: none in the network. torchvision rounds widths to a multiple of the group width in another
way, which changes three networks; here, as in timm, the paper's have the plain names and torchvision's end in `_tv`.
Deviations from 2020: the group *width* is that, not a number of groups; squeeze-and-excitation follows the 3x3 and
squeezes to a quarter of the block's *input*, not of its own width.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.backbones.options import DropPathOptions, given
from public.layers.channels import to_multiple
from public.layers.conv_norm_act import ConvNormAct
from public.layers.drop_path import drop_path_layer, linear_drop_path_
from public.layers.initialization import kaiming_fan_out_
from public.layers.squeeze_excite import SqueezeExcite

_STEM_CHANNELS = 32


class Stage(NamedTuple):
    """One of the four stages."""

    depth: int
    """Number of blocks."""
    width: int
    """Channels of every layer in them."""
    group_width: int
    """Channels that a 3x3 convolution sees together."""


def _nearest_multiple(width: int, group_width: int) -> int:
    return group_width * round(width / group_width)


def design(
    depth: int,
    first_width: int,
    slope: float,
    multiplier: float,
    group_width: int,
    to_groups: Callable[[int, int], int] = _nearest_multiple,
) -> list[Stage]:
    """The stages of a RegNet from the five numbers that name it.

    Block by block the width grows linearly; then it is rounded to `first_width` times a power of `multiplier` and to
    a multiple of 8, which leaves stages of equal width, and that to a multiple of the group width.

    Args:
        depth: number of blocks, d in the paper.
        first_width: channels of the first block, w_0.
        slope: channels more with each block, w_a.
        multiplier: from one stage's width to the next's, w_m.
        group_width: channels of a group, g; a narrower stage is one group.
        to_groups: from a width and its group width to the multiple of that.
    """
    widths = []
    for block in range(depth):
        power = round(math.log(1 + slope * block / first_width, multiplier))
        widths.append(8 * round(first_width * multiplier**power / 8))
    stages = []
    for width, blocks in groupby(widths):
        group = min(group_width, width)
        stages.append(Stage(len(list(blocks)), to_groups(width, group), group))
    return stages


class Block(nn.Module):
    """1x1, 3x3 in groups, 1x1, and a shortcut: [B, C, H, W] -> [B, width, ceil(H/s), ceil(W/s)] with s the stride."""

    def __init__(self, in_channels: int, stage: Stage, stride: int, *, squeeze_excite: bool) -> None:
        super().__init__()
        width = stage.width
        linear = partial(ConvNormAct, activation=nn.Identity)
        fits = stride == 1 and in_channels == width
        self.proj = None if fits else linear(in_channels, width, 1, stride)
        layers: dict[str, nn.Module] = OrderedDict(a=ConvNormAct(in_channels, width, 1))
        layers["b"] = ConvNormAct(width, width, 3, stride, groups=width // stage.group_width)
        if squeeze_excite:
            layers["se"] = SqueezeExcite(width, round(in_channels / 4))
        layers["c"] = linear(width, width, 1)
        self.f = nn.Sequential(layers)
        self.drop_path = drop_path_layer()
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, width, ceil(H/s), ceil(W/s)]."""
        shortcut = x if self.proj is None else self.proj(x)
        return self.activation(self.drop_path(self.f(x)).add_(shortcut))


@dataclass(frozen=True, kw_only=True)
class RegNetOptions(DropPathOptions):
    """What can be set on every RegNet."""

    kind: ClassVar[str] = "regnet"


class RegNet(Backbone):
    """A 3x3 stem, four stages each of which halves the map, a linear classifier. Levels c1 (the stem) to c5."""

    classifier_prefix = "fc."

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        squeeze_excite: bool = False,
        num_classes: int = 1000,
        drop_path: float = 0.0,
    ) -> None:
        """Takes the stages, whether blocks have squeeze-and-excitation (RegNetY), and the options."""
        super().__init__()
        self.stem = ConvNormAct(3, _STEM_CHANNELS, 3, 2)
        self.trunk_output = nn.Sequential()
        self.levels = {"c1": Level(2, _STEM_CHANNELS, ("stem",))}
        in_channels = _STEM_CHANNELS
        for number, stage in enumerate(stages, start=1):
            blocks: dict[str, nn.Module] = OrderedDict()
            for index in range(stage.depth):
                stride = 2 if index == 0 else 1
                blocks[f"block{number}-{index}"] = Block(in_channels, stage, stride, squeeze_excite=squeeze_excite)
                in_channels = stage.width
            self.trunk_output.add_module(f"block{number}", nn.Sequential(blocks))
            self.levels[f"c{number + 1}"] = Level(2 ** (number + 1), stage.width, (f"trunk_output.block{number}",))
        self.fc = nn.Linear(in_channels, num_classes)
        kaiming_fan_out_(self)
        linear_drop_path_(self, drop_path)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, C5]
        return self.fc(x)


def regnet_x_200mf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """2.685 M parameters, 0.199 GMACs at 224."""
    stages = design(13, 24, 36.44, 2.49, 8)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_400mf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """5.158 M parameters, 0.398 GMACs at 224."""
    stages = design(22, 24, 24.48, 2.54, 16)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_400mf_tv(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """torchvision's `regnet_x_400mf`: 5.496 M parameters, 0.414 GMACs at 224."""
    stages = design(22, 24, 24.48, 2.54, 16, to_multiple)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_600mf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """6.196 M parameters, 0.601 GMACs at 224."""
    stages = design(16, 48, 36.97, 2.24, 24)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_800mf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """7.260 M parameters, 0.800 GMACs at 224."""
    stages = design(16, 56, 35.73, 2.28, 16)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_1_6gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """9.190 M parameters, 1.603 GMACs at 224."""
    stages = design(18, 80, 34.01, 2.25, 24)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_3_2gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """15.297 M parameters, 3.177 GMACs at 224."""
    stages = design(25, 88, 26.31, 2.25, 48)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_4gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """22.118 M parameters, 3.964 GMACs at 224."""
    stages = design(23, 96, 38.65, 2.43, 40)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_6_4gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """26.209 M parameters, 6.460 GMACs at 224."""
    stages = design(17, 184, 60.83, 2.07, 56)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_8gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """39.573 M parameters, 7.995 GMACs at 224."""
    stages = design(23, 80, 49.56, 2.88, 120)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_12gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """46.106 M parameters, 12.087 GMACs at 224."""
    stages = design(19, 168, 73.36, 2.37, 112)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_16gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """54.279 M parameters, 15.941 GMACs at 224."""
    stages = design(22, 216, 55.59, 2.1, 128)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_x_32gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """107.812 M parameters, 31.736 GMACs at 224."""
    stages = design(23, 320, 69.86, 2.0, 168)
    return RegNet(stages, num_classes=num_classes, **given(options))


def regnet_y_200mf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """3.163 M parameters, 0.200 GMACs at 224."""
    stages = design(13, 24, 36.44, 2.49, 8)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_400mf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """4.344 M parameters, 0.402 GMACs at 224."""
    stages = design(16, 48, 27.89, 2.09, 8)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_600mf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """6.055 M parameters, 0.601 GMACs at 224."""
    stages = design(15, 48, 32.54, 2.32, 16)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_800mf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """6.263 M parameters, 0.797 GMACs at 224."""
    stages = design(14, 56, 38.84, 2.4, 16)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_800mf_tv(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """torchvision's `regnet_y_800mf`: 6.433 M parameters, 0.834 GMACs at 224."""
    stages = design(14, 56, 38.84, 2.4, 16, to_multiple)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_1_6gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """11.202 M parameters, 1.612 GMACs at 224."""
    stages = design(27, 48, 20.71, 2.65, 24)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_3_2gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """19.436 M parameters, 3.176 GMACs at 224."""
    stages = design(21, 80, 42.63, 2.66, 24)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_4gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """20.647 M parameters, 3.973 GMACs at 224."""
    stages = design(22, 96, 31.41, 2.24, 64)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_6_4gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """30.583 M parameters, 6.355 GMACs at 224."""
    stages = design(25, 112, 33.22, 2.27, 72)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_8gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """39.180 M parameters, 7.963 GMACs at 224."""
    stages = design(17, 192, 76.82, 2.19, 56)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_8gf_tv(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """torchvision's `regnet_y_8gf`: 39.381 M parameters, 8.473 GMACs at 224."""
    stages = design(17, 192, 76.82, 2.19, 56, to_multiple)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_12gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """51.823 M parameters, 12.092 GMACs at 224."""
    stages = design(19, 168, 73.36, 2.37, 112)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_16gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """83.590 M parameters, 15.912 GMACs at 224."""
    stages = design(18, 200, 106.23, 2.48, 112)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))


def regnet_y_32gf(num_classes: int = 1000, options: RegNetOptions | None = None) -> RegNet:
    """145.047 M parameters, 32.280 GMACs at 224."""
    stages = design(20, 232, 115.89, 2.53, 232)
    return RegNet(stages, squeeze_excite=True, num_classes=num_classes, **given(options))
