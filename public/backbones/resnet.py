"""ResNet for ImageNet at any image size: 18, 34, 50, 101, 152, two at half the width, ResNeXt and Wide ResNet.

Papers: He et al. 2015, https://arxiv.org/abs/1512.03385, table 1; Xie et al. 2016 (ResNeXt),
https://arxiv.org/abs/1611.05431; Zagoruyko and Komodakis 2016 (Wide ResNet), https://arxiv.org/abs/1605.07146.
Reference: torchvision's `resnet18` ... `wide_resnet101_2` (key names, initialization, logits), whose names timm's
networks share; the half-width ones are the 2020 monorepo's own, whose parameter counts and MACs they have.
Deviations from the papers: stride on the 3x3 of a bottleneck, see `public/layers/residual.py`; the wide networks are
torchvision's, ResNets whose 3x3s have twice the channels, not the paper's for CIFAR.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from public.backbones.options import given
from public.backbones.residual_network import ResidualNetwork, ResNetOptions
from public.layers.residual import BasicBlock, BlockMaker, Bottleneck, residual_layers


class ResNet(ResidualNetwork):
    """A 7x7 stem with stride 4, four residual layers, a linear classifier. Levels c1 (the stem's) to c5."""

    def __init__(
        self,
        block: BlockMaker,
        depths: Sequence[int],
        *,
        width: int = 64,
        num_classes: int = 1000,
        **options: Any,
    ) -> None:
        """Takes the kind of block, the number in each of four layers, the stem's width, and `ResidualNetwork`'s."""
        super().__init__(residual_layers(block, depths, width), width=width, num_classes=num_classes, **options)


def resnet18(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """11.690 M parameters, 1.814 GMACs at 224."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, **given(options))


def resnet34_half(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """ResNet-34 at half the width: 5.585 M parameters, 0.946 GMACs at 224."""
    return ResNet(BasicBlock, (3, 4, 6, 3), width=32, num_classes=num_classes, **given(options))


def resnet34(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """21.798 M parameters, 3.664 GMACs at 224."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes=num_classes, **given(options))


def resnet50_half(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """ResNet-50 at half the width: 6.918 M parameters, 1.052 GMACs at 224."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width=32, num_classes=num_classes, **given(options))


def resnet50(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """25.557 M parameters, 4.089 GMACs at 224."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes, **given(options))


def resnet101(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """44.549 M parameters, 7.801 GMACs at 224."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes=num_classes, **given(options))


def resnet152(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """60.193 M parameters, 11.514 GMACs at 224."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes=num_classes, **given(options))


def resnext50_32x4d(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """3x3s in 32 groups of 4 channels: 25.029 M parameters, 4.230 GMACs at 224."""
    block = partial(Bottleneck, groups=32, group_width=4)
    return ResNet(block, (3, 4, 6, 3), num_classes=num_classes, **given(options))


def resnext101_32x8d(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """3x3s in 32 groups of 8 channels: 88.791 M parameters, 16.414 GMACs at 224."""
    block = partial(Bottleneck, groups=32, group_width=8)
    return ResNet(block, (3, 4, 23, 3), num_classes=num_classes, **given(options))


def wide_resnet50_2(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """3x3s with twice the channels: 68.883 M parameters, 11.398 GMACs at 224."""
    block = partial(Bottleneck, group_width=128)
    return ResNet(block, (3, 4, 6, 3), num_classes=num_classes, **given(options))


def wide_resnet101_2(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNet:
    """3x3s with twice the channels: 126.887 M parameters, 22.753 GMACs at 224."""
    block = partial(Bottleneck, group_width=128)
    return ResNet(block, (3, 4, 23, 3), num_classes=num_classes, **given(options))
