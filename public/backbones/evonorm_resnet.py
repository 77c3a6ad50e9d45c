"""ResNet-50 with EvoNorm-B0 in place of batch norm and ReLU.

Paper: Liu et al. 2020, https://arxiv.org/abs/2004.02967; the blocks are those of the pre-activation ResNet.
Reference: timm's ResNetV2 built with its EvoNorm2dB0 (key names, logits).
Deviations from the paper: those of `resnet_v2.py` and `public/layers/evo_norm.py`. Deviation from ModelZoo.pytorch:
that has one more norm between the stem's convolution and its pooling.
"""

from torch import nn

from public.backbones.options import given
from public.backbones.preactivation_network import PreactivationNetwork, PreactivationOptions
from public.layers.evo_norm import EvoNormB0
from public.layers.preactivation import PreactivationBottleneck


def evonorm_resnet50(num_classes: int = 1000, options: PreactivationOptions | None = None) -> PreactivationNetwork:
    """25.572 M parameters, 4.089 GMACs at 224."""
    return PreactivationNetwork(
        PreactivationBottleneck,
        (3, 4, 6, 3),
        norm=EvoNormB0,
        activation=nn.Identity,
        num_classes=num_classes,
        **given(options),
    )
