"""Pre-activation ResNets ("v2"): 18, 34, 50, 101, 152.

Paper: He et al. 2016, https://arxiv.org/abs/1603.05027.
Reference: timm's `resnetv2_18` ... `resnetv2_152` (key names, initialization, logits).
Deviations from the paper, as in timm: stride on the 3x3 of a bottleneck; the norm and activation between the stem's
convolution and the first block follow the pooling, which for positive weights of the norm is the same.
Deviations from ModelZoo.pytorch: that normalizes twice there, and its 101 and 152 lost the pre-activation.
"""

from functools import partial

from torch import nn

from public.backbones.options import given
from public.backbones.preactivation_network import PreactivationNetwork, PreactivationOptions
from public.layers.preactivation import PreactivationBasicBlock, PreactivationBottleneck

_network = partial(PreactivationNetwork, norm=nn.BatchNorm2d, activation=partial(nn.ReLU, inplace=True))


def resnet18_v2(num_classes: int = 1000, options: PreactivationOptions | None = None) -> PreactivationNetwork:
    """11.688 M parameters, 1.814 GMACs at 224."""
    return _network(PreactivationBasicBlock, (2, 2, 2, 2), num_classes=num_classes, **given(options))


def resnet34_v2(num_classes: int = 1000, options: PreactivationOptions | None = None) -> PreactivationNetwork:
    """21.796 M parameters, 3.664 GMACs at 224."""
    return _network(PreactivationBasicBlock, (3, 4, 6, 3), num_classes=num_classes, **given(options))


def resnet50_v2(num_classes: int = 1000, options: PreactivationOptions | None = None) -> PreactivationNetwork:
    """25.549 M parameters, 4.089 GMACs at 224."""
    return _network(PreactivationBottleneck, (3, 4, 6, 3), num_classes=num_classes, **given(options))


def resnet101_v2(num_classes: int = 1000, options: PreactivationOptions | None = None) -> PreactivationNetwork:
    """44.541 M parameters, 7.801 GMACs at 224."""
    return _network(PreactivationBottleneck, (3, 4, 23, 3), num_classes=num_classes, **given(options))


def resnet152_v2(num_classes: int = 1000, options: PreactivationOptions | None = None) -> PreactivationNetwork:
    """60.185 M parameters, 11.514 GMACs at 224."""
    return _network(PreactivationBottleneck, (3, 8, 36, 3), num_classes=num_classes, **given(options))
