"""DarkNet-19, DarkNet-53 and tiny DarkNet, the classification networks behind YOLO v2 and v3.

Papers: Redmon and Farhadi 2016, https://arxiv.org/abs/1612.08242, table 6 (19); 2018,
https://arxiv.org/abs/1804.02767, table 1 (53). The tiny one is that of the 2020 monorepo's successor.
Reference: timm's `darknet53` (key names, logits); for the others the papers' multiply-adds and the successor's
parameter count, by calculation in the test. Files of 2020 fit through `public/weights/key_maps_mobile.py`.
Deviations from the papers: where a side of the map is odd, pooling keeps its last row, so that strides are exact.
timm's weights were trained with a slope of 0.01, not 0.1: for those there is `negative_slope`.
Deviation from 2020: DarkNet-19 has as many classes as are asked for.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.backbones.options import given
from public.config.checks import require_at_least
from public.config.options import NetworkOptions
from public.layers.conv_norm_act import ConvNormAct
from public.layers.initialization import kaiming_fan_out_
from public.layers.winograd import run_convolution

# (channels, kernel size) of each layer, pooling in between: table 6 of YOLO9000
_LAYERS_19 = (
    ((32, 3),),
    ((64, 3),),
    ((128, 3), (64, 1), (128, 3)),
    ((256, 3), (128, 1), (256, 3)),
    ((512, 3), (256, 1), (512, 3), (256, 1), (512, 3)),
    ((1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)),
)
_LAYERS_TINY = (((16, 3),), ((32, 3),), ((64, 3),), ((128, 3),), ((256, 3),), ((512, 3),))
_BLOCKS_53 = (1, 2, 8, 8, 4)  # table 1 of YOLOv3


@dataclass(frozen=True, kw_only=True)
class DarkNetOptions(NetworkOptions):
    """What can be set on every DarkNet."""

    kind: ClassVar[str] = "darknet"
    negative_slope: float | None = None
    """Of the leaky ReLUs. None: 0.1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("network_options.negative_slope", self.negative_slope, 0)


def _unit(negative_slope: float) -> partial[ConvNormAct]:
    activation = partial(nn.LeakyReLU, negative_slope, inplace=True)
    return partial(ConvNormAct, activation=activation, names=("conv", "bn", "act"))


class PooledDarkNet(Backbone):
    """Stages of plain convolutions with 2x2 pooling in between. Levels c1 (the first two stages) to c5."""

    def __init__(self, layers: Sequence[Sequence[tuple[int, int]]], negative_slope: float) -> None:
        """Takes channels and kernel size of each layer, stage by stage, and the slope."""
        super().__init__()
        self.stages, unit, in_channels = nn.Sequential(), _unit(negative_slope), 3
        for number, stage in enumerate(layers):
            blocks = nn.Sequential()
            for channels, kernel_size in stage:
                blocks.append(unit(in_channels, channels, kernel_size))
                in_channels = channels
            pool = nn.Identity() if number == 0 else nn.MaxPool2d(2, 2, ceil_mode=True)
            self.stages.append(nn.Sequential(OrderedDict(pool=pool, blocks=blocks)))
        self.levels = {
            f"c{number}": Level(2**number, layers[number][-1][0], (f"stages.{number}",)) for number in range(1, 6)
        }
        self.levels["c1"] = self.levels["c1"]._replace(modules=("stages.0", "stages.1"))


class DarkNet19(PooledDarkNet):
    """Eighteen convolutions, and as the nineteenth a 1x1 to the classes, averaged over the map."""

    classifier_prefix = "classifier."

    def __init__(self, *, num_classes: int = 1000, negative_slope: float = 0.1) -> None:
        """Takes the number of classes and the options."""
        super().__init__(_LAYERS_19, negative_slope)
        self.classifier = nn.Conv2d(_LAYERS_19[-1][-1][0], num_classes, 1)
        kaiming_fan_out_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, 1024, H/32, W/32] -> [B, num_classes]."""
        x = run_convolution(self.classifier, x)  # [B, num_classes, H/32, W/32]
        return functional.adaptive_avg_pool2d(x, 1).flatten(1)


class TinyDarkNet(PooledDarkNet):
    """Six convolutions, the maximum of 2x2 with stride 1, a linear classifier."""

    classifier_prefix = "fc."

    def __init__(self, *, num_classes: int = 1000, negative_slope: float = 0.1) -> None:
        """Takes the number of classes and the options."""
        super().__init__(_LAYERS_TINY, negative_slope)
        self.last_pool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1))
        self.fc = nn.Linear(_LAYERS_TINY[-1][-1][0], num_classes)
        kaiming_fan_out_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, 512, H/32, W/32] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(self.last_pool(x), 1).flatten(1)  # [B, 512]
        return self.fc(x)


class DarkBlock(nn.Module):
    """1x1 to half the channels, 3x3 back, and a shortcut: [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int, unit: partial[ConvNormAct]) -> None:
        super().__init__()
        self.conv1 = unit(channels, channels // 2, 1)
        self.conv2 = unit(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x + self.conv2(self.conv1(x))


class DarkNet53(Backbone):
    """A 3x3 stem with stride 1, five stages each of which begins with a strided 3x3, a linear classifier.

    Levels c1 (the first stage) to c5.
    """

    classifier_prefix = "head.fc."

    def __init__(self, *, num_classes: int = 1000, negative_slope: float = 0.1) -> None:
        """Takes the number of classes and the options."""
        super().__init__()
        unit, channels = _unit(negative_slope), 32
        self.stem = nn.Sequential(OrderedDict(conv1=unit(3, channels, 3)))
        self.stages, self.levels = nn.Sequential(), {}
        for number, depth in enumerate(_BLOCKS_53):
            down, channels = unit(channels, 2 * channels, 3, 2), 2 * channels
            blocks = nn.Sequential(*(DarkBlock(channels, unit) for _ in range(depth)))
            self.stages.append(nn.Sequential(OrderedDict(conv_down=down, blocks=blocks)))
            self.levels[f"c{number + 1}"] = Level(2 ** (number + 1), channels, (f"stages.{number}",))
        self.levels["c1"] = self.levels["c1"]._replace(modules=("stem", "stages.0"))
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(channels, num_classes)))
        kaiming_fan_out_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, 1024, H/32, W/32] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, 1024]
        return self.head(x)


def darknet19(num_classes: int = 1000, options: DarkNetOptions | None = None) -> DarkNet19:
    """20.842 M parameters, 3.645 GMACs at 256."""
    return DarkNet19(num_classes=num_classes, **given(options))


def darknet53(num_classes: int = 1000, options: DarkNetOptions | None = None) -> DarkNet53:
    """41.610 M parameters, 9.285 GMACs at 256."""
    return DarkNet53(num_classes=num_classes, **given(options))


def darknet_tiny(num_classes: int = 1000, options: DarkNetOptions | None = None) -> TinyDarkNet:
    """2.087 M parameters, 0.406 GMACs at 256."""
    return TinyDarkNet(num_classes=num_classes, **given(options))
