"""ResNet for ImageNet: 18, 34, 50, 101, 152 layers, and 34 and 50 at half the width.

Paper: He et al. 2015, https://arxiv.org/abs/1512.03385, table 1.
Referee: torchvision's `resnet18` ... `resnet152` (key names, initialisation, logits); the half-width ones are
the 2020 monorepo's own, whose parameter counts and MACs they have.
Deviation from the paper: stride on the 3x3 of a bottleneck, see `public/layers/residual.py`.
"""

from collections.abc import Sequence
from typing import TypedDict, Unpack

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.layers.initialisation import kaiming_fan_out_
from public.layers.residual import BasicBlock, Block, Bottleneck, residual_layers, zero_last_norms_


class ResNetOptions(TypedDict, total=False):
    """What can be set on every ResNet."""

    zero_init_residual: bool
    """Start every block as its shortcut (zero gamma); default False."""


class ResNet(Backbone):
    """A 7x7 stem with stride 4, four residual layers, a linear classifier. Levels c1 (the stem's) to c5."""

    classifier_prefix = "fc."

    def __init__(
        self,
        block: Block,
        depths: Sequence[int],
        *,
        width: int = 64,
        num_classes: int = 1000,
        zero_init_residual: bool = False,
    ) -> None:
        """Takes the kind of block, the number in each of four layers, the stem's width and the options."""
        super().__init__()
        c2, c3, c4, c5 = (width * 2**index * block.expansion for index in range(4))
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = residual_layers(block, depths, width)
        self.fc = nn.Linear(c5, num_classes)
        self.levels = {
            "c1": Level(2, width, ("conv1", "bn1", "relu")),
            "c2": Level(4, c2, ("maxpool", "layer1")),
            "c3": Level(8, c3, ("layer2",)),
            "c4": Level(16, c4, ("layer3",)),
            "c5": Level(32, c5, ("layer4",)),
        }
        kaiming_fan_out_(self)
        if zero_init_residual:
            zero_last_norms_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, C5]
        return self.fc(x)


def resnet18(num_classes: int = 1000, **options: Unpack[ResNetOptions]) -> ResNet:
    """11.690 M parameters, 1.814 GMACs at 224."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, **options)


def resnet34_half(num_classes: int = 1000, **options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-34 at half the width: 5.585 M parameters, 0.946 GMACs at 224."""
    return ResNet(BasicBlock, (3, 4, 6, 3), width=32, num_classes=num_classes, **options)


def resnet34(num_classes: int = 1000, **options: Unpack[ResNetOptions]) -> ResNet:
    """21.798 M parameters, 3.664 GMACs at 224."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes=num_classes, **options)


def resnet50_half(num_classes: int = 1000, **options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-50 at half the width: 6.918 M parameters, 1.052 GMACs at 224."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width=32, num_classes=num_classes, **options)


def resnet50(num_classes: int = 1000, **options: Unpack[ResNetOptions]) -> ResNet:
    """25.557 M parameters, 4.089 GMACs at 224."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes, **options)


def resnet101(num_classes: int = 1000, **options: Unpack[ResNetOptions]) -> ResNet:
    """44.549 M parameters, 7.801 GMACs at 224."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes=num_classes, **options)


def resnet152(num_classes: int = 1000, **options: Unpack[ResNetOptions]) -> ResNet:
    """60.193 M parameters, 11.514 GMACs at 224."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes=num_classes, **options)
