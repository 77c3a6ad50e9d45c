"""The two residual blocks of ResNet and the four layers built of them.

Paper: He et al. 2015, https://arxiv.org/abs/1512.03385, figures 2 and 5.
Referee: torchvision, whose key names these are: `conv1`, `bn1`, ..., `downsample.0`, `downsample.1`.
Deviation from the paper: a bottleneck strides in its 3x3 convolution, not in its first 1x1, as torchvision's.

Shapes: B images, C channels in, s the stride.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """The 1x1 convolution that fits a shortcut to its block's output, None where it fits already."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [B, C, H, W] -> [B, width, ceil(H/s), ceil(W/s)]."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, width, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm just before the sum; with a weight of zero the block starts as its shortcut."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, width, ceil(H/s), ceil(W/s)]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # [B, width, H/s, W/s]
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up by 4, and a shortcut: [B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)]."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm just before the sum; with a weight of zero the block starts as its shortcut."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # [B, width, H, W]
        x = self.relu(self.bn2(self.conv2(x)))  # [B, width, H/s, W/s]
        x = self.bn3(self.conv3(x))  # [B, 4 * width, H/s, W/s]
        return self.relu(x + shortcut)


Block = type[BasicBlock] | type[Bottleneck]


def residual_layers(block: Block, depths: Sequence[int], width: int) -> list[nn.Sequential]:
    """The layers of a ResNet behind its stem.

    Args:
        block: the kind of block they are made of.
        depths: the number of blocks in each layer.
        width: channels of the stem, and width of the first layer's blocks; each later layer is twice as wide.

    Returns:
        One sequence of blocks a layer. All but the first halve the height and the width.
    """
    layers, in_channels = [], width
    for index, depth in enumerate(depths):
        blocks = []
        for position in range(depth):
            stride = 2 if index > 0 and position == 0 else 1
            blocks.append(block(in_channels, width * 2**index, stride))
            in_channels = width * 2**index * block.expansion
        layers.append(nn.Sequential(*blocks))
    return layers


def zero_last_norms_(network: nn.Module) -> None:
    """Zeroes the weight of each block's last norm in place: each block starts as its shortcut ("zero gamma").

    Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1.
    """
    for module in network.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            nn.init.zeros_(module.last_norm.weight)
