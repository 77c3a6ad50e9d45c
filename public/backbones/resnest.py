"""ResNeSt-50: a ResNet whose 3x3s come in two versions, between which attention chooses channel by channel.

Paper: Zhang et al. 2020, https://arxiv.org/abs/2004.08955 (radix 2, cardinality 1, deep stem, average pooling in the
blocks and their shortcuts).
Reference: timm's `resnest50d`, which carries the authors' weights (key names, logits).
Deviation from the paper: none in the network; the parts that the reference implementation draws differently
(classifier, stem) start here as in every ResNet of this project.
Deviation from ModelZoo.pytorch: that has a 7x7 stem, strides in the 3x3 and a plain shortcut.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from public.backbones.options import given
from public.backbones.residual_network import ResidualNetwork, ResNetOptions
from public.layers.residual import ResidualBlock, conv, residual_layers
from public.layers.winograd import Convolutions, run_convolution

_RADIX = 2
"""Versions of each 3x3."""


class SplitAttention(nn.Module):
    """A 3x3 in `_RADIX` versions, and their sum weighted for each image and channel: [B, C, H, W] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        split, hidden = channels * _RADIX, max(channels * _RADIX // 4, 32)
        self.conv = nn.Conv2d(channels, split, 3, padding=1, groups=_RADIX, bias=False)
        self.bn0 = nn.BatchNorm2d(split)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, split, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        x = self.relu(self.bn0(self.conv(x)))  # [B, R * C, H, W]
        versions = x.unflatten(1, (_RADIX, -1))  # [B, R, C, H, W]
        pooled = versions.sum(1).mean((2, 3), keepdim=True)  # [B, C, 1, 1]
        logits = self.fc2(self.relu(self.bn1(self.fc1(pooled))))  # [B, R * C, 1, 1]
        weights = logits.unflatten(1, (_RADIX, -1)).softmax(1)  # [B, R, C, 1, 1]
        return (versions * weights).sum(1)  # [B, C, H, W]


class SplitAttentionBottleneck(ResidualBlock):
    """1x1 down, split attention, 1x1 up by 4, and a shortcut: [B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)].

    What strides are averages: of 3x3 behind the attention, of 2x2 in the shortcut.
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(4 * width)
        self.conv1 = conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = SplitAttention(width)
        self.conv3 = conv(width, self.out_channels, 1)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(3, stride, padding=1)
        self.downsample = nn.Identity()
        if in_channels != self.out_channels:
            self.downsample = Convolutions(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                conv(in_channels, self.out_channels, 1),
                nn.BatchNorm2d(self.out_channels),
            )

    @property
    def last_norms(self) -> Sequence[nn.Module]:
        """What the branch ends with; with weights of zero there the block starts as its shortcut."""
        return (self.bn3,)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)]."""
        shortcut = self.downsample(x)
        x = self.relu(self.bn1(run_convolution(self.conv1, x)))  # [B, width, H, W]
        x = self.pool(self.conv2(x))  # [B, width, H/s, W/s]
        x = self.bn3(run_convolution(self.conv3, x))  # [B, 4 * width, H/s, W/s]
        return self.relu(self.drop_path(x).add_(shortcut))


def _deep_stem() -> nn.Sequential:
    """Three 3x3s in place of a 7x7: [B, 3, H, W] -> [B, 64, ceil(H/2), ceil(W/2)]."""
    return nn.Sequential(
        conv(3, 32, 3, stride=2),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        conv(32, 32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        conv(32, 64, 3),
    )


class ResNeSt(ResidualNetwork):
    """A stem with stride 4, four layers of split attention, a linear classifier. Levels c1 (the stem's) to c5."""


def resnest50(num_classes: int = 1000, options: ResNetOptions | None = None) -> ResNeSt:
    """27.483 M parameters, 5.371 GMACs at 224."""
    layers = residual_layers(SplitAttentionBottleneck, (3, 4, 6, 3), 64)
    return ResNeSt(layers, stem=_deep_stem(), num_classes=num_classes, **given(options))
