"""The two residual blocks of ResNet and the layers built of them.

Paper: He et al. 2015, https://arxiv.org/abs/1512.03385, figures 2 and 5; groups: Xie et al. 2016 (ResNeXt),
https://arxiv.org/abs/1611.05431; wider 3x3s: Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146.
Reference: torchvision, whose key names these are: `conv1`, `bn1`, ..., `downsample.0`, `downsample.1`.
Deviation from the paper: a bottleneck strides in its 3x3 convolution, not in its first 1x1, as torchvision's.

Shapes: B images, C channels in, s the stride.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from public.layers.drop_path import drop_path_layer
from public.layers.winograd import Convolutions, run_convolution


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias: [B, in_channels, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


class Projection(Convolutions):
    """A 1x1 convolution and its norm: [B, in_channels, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def projection(in_channels: int, out_channels: int, stride: int) -> Projection | None:
    """What fits a shortcut to its block's output, None where it fits already."""
    if stride == 1 and in_channels == out_channels:
        return None
    return Projection(in_channels, out_channels, stride)


class ResidualBlock(nn.Module):
    """What the blocks of all residual families share: [B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""

    out_channels: int
    """Of the sum of branch and shortcut."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.drop_path = drop_path_layer()

    @property
    def last_norms(self) -> Sequence[nn.Module]:
        """What the branch ends with; with weights of zero there the block starts as its shortcut."""
        raise NotImplementedError


BlockMaker = Callable[[int, int, int], ResidualBlock]
"""From channels in, width and stride: a kind of block, or a `partial` of one."""


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions and a shortcut: [B, C, H, W] -> [B, width, ceil(H/s), ceil(W/s)]."""

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(width)
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, width, stride)

    @property
    def last_norms(self) -> Sequence[nn.Module]:
        """What the branch ends with; with weights of zero there the block starts as its shortcut."""
        return (self.bn2,)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, width, ceil(H/s), ceil(W/s)]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(run_convolution(self.conv1, x)))  # [B, width, H/s, W/s]
        x = self.bn2(run_convolution(self.conv2, x))
        return self.relu(self.drop_path(x).add_(shortcut))


class Bottleneck(ResidualBlock):
    """1x1 down, 3x3, 1x1 up by 4, and a shortcut: [B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)].

    Args:
        in_channels: C.
        width: a quarter of the channels that come out.
        stride: s, of the 3x3.
        groups: of the 3x3.
        group_width: channels of each of its groups where width is 64; they grow with the width.
    """

    def __init__(
        self, in_channels: int, width: int, stride: int = 1, *, groups: int = 1, group_width: int = 64
    ) -> None:
        inner = width * group_width // 64 * groups
        super().__init__(4 * width)
        self.conv1 = conv(in_channels, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2: nn.Module = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv(inner, self.out_channels, 1)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, self.out_channels, stride)

    @property
    def last_norms(self) -> Sequence[nn.Module]:
        """What the branch ends with; with weights of zero there the block starts as its shortcut."""
        return (self.bn3,)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(run_convolution(self.conv1, x)))  # [B, inner, H, W]
        x = self.relu(self.bn2(run_convolution(self.conv2, x)))  # [B, inner, H/s, W/s]
        x = self.bn3(run_convolution(self.conv3, x))  # [B, 4 * width, H/s, W/s]
        return self.relu(self.drop_path(x).add_(shortcut))


class ResidualLayer(nn.Sequential):
    """Blocks one after another: [B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""

    out_channels: int

    def __init__(self, *blocks: ResidualBlock) -> None:
        super().__init__(*blocks)
        self.out_channels = blocks[-1].out_channels


def residual_layers(block: BlockMaker, depths: Sequence[int], width: int) -> list[ResidualLayer]:
    """The layers of a ResNet behind its stem.

    Args:
        block: the kind of block they are made of.
        depths: the number of blocks in each layer.
        width: channels of the stem, and width of the first layer's blocks; each later layer is twice as wide.

    Returns:
        One sequence of blocks a layer. All but the first halve the height and the width.
    """
    layers, channels = [], width
    for index, depth in enumerate(depths):
        blocks = []
        for position in range(depth):
            stride = 2 if index > 0 and position == 0 else 1
            blocks.append(block(channels, width * 2**index, stride))
            channels = blocks[-1].out_channels
        layers.append(ResidualLayer(*blocks))
    return layers


def zero_last_norms_(network: nn.Module) -> None:
    """Zeroes the weight of each block's last norm in place: each block starts as its shortcut ("zero gamma").

    Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1.
    """
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            for norm in module.last_norms:
                nn.init.zeros_(norm.get_parameter("weight"))
