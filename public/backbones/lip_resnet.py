"""LIP-ResNet-50: where a ResNet strides or takes a maximum, this one takes averages weighted by learned importance.

Paper: Gao et al. 2019, https://arxiv.org/abs/1908.04156 (the bottleneck-128 logits, sensitivity 12).
Reference: the paper's 23.9 M parameters, and 1.21 G multiply-adds more than ResNet-50. Key names are those of the
authors' code, whose files load.
Deviations from the paper: logits are lowered by half their range before the exponential, which cancels out in the
average but keeps the weights within float16.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.options import given
from public.backbones.residual_network import ResidualNetwork, ResNetOptions
from public.layers.residual import Bottleneck, ResidualBlock, conv, residual_layers
from public.layers.winograd import Convolutions, run_convolution

_SENSITIVITY, _LOGIT_WIDTH = 12.0, 128
"""Range of the logits; channels of the layers that they come from."""


class Importance(nn.Module):
    """Logits from a convolution and a norm: [B, in_channels, H, W] -> [B, channels, H, W], within -6 and 6."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = conv(in_channels, channels, kernel_size)
        self.bn = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, channels, H, W]."""
        return _SENSITIVITY * (self.bn(run_convolution(self.conv, x)).sigmoid() - 0.5)


def local_importance_pooling(x: Tensor, logits: Tensor) -> Tensor:
    """The mean of 3x3 with stride 2, weighted by the exponential of the logits.

    Computes in float32 also under autocast: bf16 knows a weight of e^6 only to 2 %.

    Args:
        x: [B, C, H, W].
        logits: the same shape.

    Returns:
        [B, C, ceil(H/2), ceil(W/2)] of the type of `x`.
    """
    weights = logits.float().exp()
    total = functional.avg_pool2d(x * weights, 3, stride=2, padding=1)  # [B, C, H/2, W/2]
    return (total / functional.avg_pool2d(weights, 3, stride=2, padding=1)).to(x.dtype)


class SimplifiedPooling(nn.Module):
    """Logits from one 3x3: [B, C, H, W] -> [B, C, ceil(H/2), ceil(W/2)]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logit = Importance(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, ceil(H/2), ceil(W/2)]."""
        return local_importance_pooling(x, self.logit(x))


class SharedLogits(nn.Module):
    """What the logits of branch and shortcut come from: [B, C, H, W] -> [B, 128, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logit = Convolutions(
            OrderedDict(
                conv1=conv(channels, _LOGIT_WIDTH, 1),
                bn1=nn.InstanceNorm2d(_LOGIT_WIDTH, affine=True),
                relu1=nn.ReLU(inplace=True),
                conv2=conv(_LOGIT_WIDTH, _LOGIT_WIDTH, 3),
                bn2=nn.InstanceNorm2d(_LOGIT_WIDTH, affine=True),
                relu2=nn.ReLU(inplace=True),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 128, H, W]."""
        return self.logit(x)


class BottleneckPooling(nn.Module):
    """Logits from `SharedLogits`: [B, C, H, W] and [B, 128, H, W] -> [B, C, ceil(H/2), ceil(W/2)]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.postprocessing = Importance(_LOGIT_WIDTH, channels, 1)

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """[B, C, H, W] and [B, 128, H, W] -> [B, C, ceil(H/2), ceil(W/2)]."""
        return local_importance_pooling(x, self.postprocessing(shared))


class PoolingBottleneck(ResidualBlock):
    """A bottleneck with two poolings for its strides, and a 1x1 for its 3x3.

    [B, C, H, W] -> [B, 4 * width, ceil(H/2), ceil(W/2)]
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__(4 * width)
        self.bottleneck_shared = SharedLogits(in_channels)
        self.conv1 = conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.ModuleList([BottleneckPooling(width), conv(width, width, 1)])
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, self.out_channels, 1)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.relu = nn.ReLU(inplace=True)
        layers = {"conv": conv(in_channels, self.out_channels, 1), "bn": nn.BatchNorm2d(self.out_channels)}
        self.downsample = nn.ModuleDict({"lip": BottleneckPooling(in_channels), **layers})

    @property
    def last_norms(self) -> Sequence[nn.Module]:
        """What the branch ends with; with weights of zero there the block starts as its shortcut."""
        return (self.bn3,)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 4 * width, ceil(H/2), ceil(W/2)]."""
        shared = self.bottleneck_shared(x)  # [B, 128, H, W]
        shortcut = self.downsample["lip"](x, shared)  # [B, C, H/2, W/2]
        shortcut = self.downsample["bn"](run_convolution(self.downsample["conv"], shortcut))  # [B, 4 * width, H/2, W/2]
        x = self.relu(self.bn1(run_convolution(self.conv1, x)))  # [B, width, H, W]
        x = run_convolution(self.conv2[1], self.conv2[0](x, shared))  # [B, width, H/2, W/2]
        x = self.relu(self.bn2(x))
        x = self.bn3(run_convolution(self.conv3, x))  # [B, 4 * width, H/2, W/2]
        return self.relu(self.drop_path(x).add_(shortcut))


def _block(in_channels: int, width: int, stride: int) -> ResidualBlock:
    return Bottleneck(in_channels, width) if stride == 1 else PoolingBottleneck(in_channels, width)


class LipResNet(ResidualNetwork):
    """A 7x7 stem with stride 4, four residual layers, a linear classifier. Levels c1 (the stem's) to c5.

    Images must have more than 16 pixels on a side: the logits are normalized over the map, which takes two places.
    """

    def __init__(self, depths: Sequence[int], *, num_classes: int = 1000, **options: Any) -> None:
        """Takes the number of blocks in each of four layers, and `ResidualNetwork`'s options."""
        layers = residual_layers(_block, depths, 64)
        super().__init__(layers, pool=SimplifiedPooling(64), num_classes=num_classes, **options)
        for module in self.modules():
            if isinstance(module, Importance):
                nn.init.zeros_(module.conv.weight)  # logits all alike: at first a plain mean


def lip_resnet50(num_classes: int = 1000, options: ResNetOptions | None = None) -> LipResNet:
    """23.864 M parameters, 5.3 GMACs at 224."""
    return LipResNet((3, 4, 6, 3), num_classes=num_classes, **given(options))
