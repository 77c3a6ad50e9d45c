"""Residual blocks whose norms and activations come before the convolutions, so that nothing follows the sum.

Paper: He et al. 2016, https://arxiv.org/abs/1603.05027, figure 4 (e). Reference: timm's ResNetV2, whose key names these
are: `norm1`, `conv1`, ..., `downsample.conv`. Deviation from the paper: a bottleneck strides in its 3x3, as timm's.

Shapes: B images, C channels in, s the stride. A shortcut that has to change the shape is a convolution of the
activated input; otherwise it is the input as it came.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from public.layers.drop_path import drop_path_layer
from public.layers.residual import conv
from public.layers.winograd import Convolutions, run_convolution

NormMaker = Callable[[int], nn.Module]
"""From a number of channels to what comes before each activation."""
ActivationMaker = Callable[[], nn.Module]


class PreactivationBlock(nn.Module):
    """What both kinds share: [B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""

    out_channels: int

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.drop_path = drop_path_layer()
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = Convolutions(OrderedDict(conv=conv(in_channels, out_channels, 1, stride)))

    def _sum(self, x: Tensor, activated: Tensor, branch: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(activated)
        return self.drop_path(branch) + shortcut


BlockMaker = Callable[[int, int, int, NormMaker, ActivationMaker], PreactivationBlock]
"""One of the two classes below."""


class PreactivationBasicBlock(PreactivationBlock):
    """Two 3x3 convolutions and a shortcut: [B, C, H, W] -> [B, width, ceil(H/s), ceil(W/s)]."""

    def __init__(self, in_channels: int, width: int, stride: int, norm: NormMaker, activation: ActivationMaker) -> None:
        super().__init__(in_channels, width, stride)
        self.norm1 = norm(in_channels)
        self.conv1 = conv(in_channels, width, 3, stride)
        self.norm2 = norm(width)
        self.conv2 = conv(width, width, 3)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, width, ceil(H/s), ceil(W/s)]."""
        activated = self.act(self.norm1(x))
        branch = run_convolution(self.conv1, activated)  # [B, width, H/s, W/s]
        branch = run_convolution(self.conv2, self.act(self.norm2(branch)))
        return self._sum(x, activated, branch)


class PreactivationBottleneck(PreactivationBlock):
    """1x1 down, 3x3, 1x1 up by 4, and a shortcut: [B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)]."""

    def __init__(self, in_channels: int, width: int, stride: int, norm: NormMaker, activation: ActivationMaker) -> None:
        super().__init__(in_channels, 4 * width, stride)
        self.norm1 = norm(in_channels)
        self.conv1 = conv(in_channels, width, 1)
        self.norm2 = norm(width)
        self.conv2 = conv(width, width, 3, stride)
        self.norm3 = norm(width)
        self.conv3 = conv(width, 4 * width, 1)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)]."""
        activated = self.act(self.norm1(x))
        branch = run_convolution(self.conv1, activated)  # [B, width, H, W]
        branch = run_convolution(self.conv2, self.act(self.norm2(branch)))  # [B, width, H/s, W/s]
        branch = run_convolution(self.conv3, self.act(self.norm3(branch)))  # [B, 4 * width, H/s, W/s]
        return self._sum(x, activated, branch)
