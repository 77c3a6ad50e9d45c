"""The frame that the ResNets of all families share: a stem, four or more residual layers, a linear classifier.

A family gives it layers, and where it has them its own stem or pooling; key names are torchvision's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.backbones.options import DropPathOptions
from public.layers.drop_path import linear_drop_path_
from public.layers.initialization import kaiming_fan_out_
from public.layers.residual import ResidualLayer, zero_last_norms_


@dataclass(frozen=True, kw_only=True)
class ResNetOptions(DropPathOptions):
    """What can be set on every network of residual blocks: ResNet and what was made of it, for ImageNet and CIFAR."""

    kind: ClassVar[str] = "resnet"
    zero_init_residual: bool | None = None
    """Whether every block starts as its shortcut (zero gamma). None: not so, but in lambda_resnet50."""


class ResidualNetwork(Backbone):
    """A stem with stride 4, residual layers, a linear classifier. Levels c1 (the stem's) to c5 or deeper.

    Args:
        layers: `layer1`, `layer2`, ...
        width: channels of the stem.
        num_classes: number of logits.
        strides: of each layer's map.
        stem: images [B, 3, H, W] -> [B, width, ceil(H/2), ceil(W/2)]; None: a 7x7 convolution.
        pool: [B, width, H, W] -> [B, width, ceil(H/2), ceil(W/2)]; None: the maximum of 3x3.
        zero_init_residual: see `ResNetOptions`.
        drop_path: see `DropPathOptions`.
    """

    classifier_prefix = "fc."
    layer1: ResidualLayer
    layer2: ResidualLayer
    layer3: ResidualLayer
    layer4: ResidualLayer

    def __init__(
        self,
        layers: Sequence[ResidualLayer],
        *,
        width: int = 64,
        num_classes: int = 1000,
        strides: Sequence[int] = (4, 8, 16, 32),
        stem: nn.Module | None = None,
        pool: nn.Module | None = None,
        zero_init_residual: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = stem or nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = pool or nn.MaxPool2d(3, stride=2, padding=1)
        self.levels = {"c1": Level(2, width, ("conv1", "bn1", "relu"))}
        for number, (layer, stride) in enumerate(zip(layers, strides, strict=True), start=1):
            self.add_module(f"layer{number}", layer)
            path = (f"layer{number}",)
            self.levels[f"c{number + 1}"] = Level(
                stride, layer.out_channels, ("maxpool", *path) if number == 1 else path
            )
        self.fc = nn.Linear(layers[-1].out_channels, num_classes)
        kaiming_fan_out_(self)
        linear_drop_path_(self, drop_path)
        if zero_init_residual:
            zero_last_norms_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, C5]
        return self.fc(x)
