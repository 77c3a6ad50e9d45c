"""OctResNet-50: a share alpha of the channels lives at half the resolution, where things vary slowly.

Paper: Chen et al. 2019, https://arxiv.org/abs/1904.05049, "octave convolution", section 3.
Reference: as many parameters as ResNet-50, and multiply-adds worked out in the test; ModelZoo.pytorch's layers have the
same numbers (its exported network has fewer, by mistake).
Deviations from the paper: the frame is torchvision's ResNet-50, whose norms follow the convolutions, where the paper's
comparison took pre-activation; maps of odd size are halved by rounding up.

A pair is (high, low): [B, C - L, H, W] and [B, L, ceil(H/2), ceil(W/2)], L a share alpha of the C channels. With alpha
0 there is no low part: None. Between layers a pair travels as one map, see `OctaveLayer`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.backbones.options import given
from public.backbones.residual_network import ResidualNetwork, ResNetOptions
from public.layers.residual import ResidualBlock, ResidualLayer, conv
from public.layers.winograd import run_convolution

Pair = tuple[Tensor, Tensor | None]


def halve(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, ceil(H/2), ceil(W/2)]: means of 2x2, at an odd border of what is left of it."""
    return F.avg_pool2d(x, 2, ceil_mode=True)


def double(x: Tensor, like: Tensor) -> Tensor:
    """[B, C, ceil(H/2), ceil(W/2)] -> [B, C, H, W], each value four times; H and W are those of `like`."""
    return F.interpolate(x, size=like.shape[-2:])


def num_low(channels: int, alpha: float) -> int:
    """Channels of the low part."""
    return int(channels * alpha)


class OctConv(nn.Module):
    """A convolution from pair to pair with its norms: up to four convolutions, from each part to each.

    Args:
        in_channels: of both parts together.
        out_channels: of both parts together.
        kernel_size: odd.
        stride: 1, or 2 for maps that are halved before the convolution.
        alpha_in: share of the input's channels that are low.
        alpha_out: the output's.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, alpha_in: float, alpha_out: float
    ) -> None:
        super().__init__()
        self.stride = stride
        low_in, low_out = num_low(in_channels, alpha_in), num_low(out_channels, alpha_out)
        high_in, high_out = in_channels - low_in, out_channels - low_out
        self.high_to_high = conv(high_in, high_out, kernel_size)
        self.low_to_high = conv(low_in, high_out, kernel_size) if low_in else None
        self.high_to_low = conv(high_in, low_out, kernel_size) if low_out else None
        self.low_to_low = conv(low_in, low_out, kernel_size) if low_in and low_out else None
        self.bn_high = nn.BatchNorm2d(high_out)
        self.bn_low = nn.BatchNorm2d(low_out) if low_out else None

    def forward(self, pair: Pair) -> Pair:
        """A pair [B, in_channels, H, W] -> a pair [B, out_channels, ceil(H/stride), ceil(W/stride)]."""
        high, low = pair
        high = high if self.stride == 1 else halve(high)  # [B, high_in, H/s, W/s]
        to_high = run_convolution(self.high_to_high, high)
        if self.low_to_high is not None:
            assert low is not None
            # [B, high_out, H/2, W/2]: with stride 2 the size that is needed
            from_low = run_convolution(self.low_to_high, low)
            to_high = to_high + (double(from_low, to_high) if self.stride == 1 else from_low)
        if self.high_to_low is None or self.bn_low is None:
            return self.bn_high(to_high), None
        to_low = run_convolution(self.high_to_low, halve(high))  # [B, low_out, H/2s, W/2s]
        if self.low_to_low is not None:
            assert low is not None
            to_low = to_low + run_convolution(self.low_to_low, low if self.stride == 1 else halve(low))
        return self.bn_high(to_high), self.bn_low(to_low)


class OctBottleneck(ResidualBlock):
    """1x1 down, 3x3, 1x1 up by 4, and a shortcut: a pair of C channels -> a pair of 4 * width.

    Args:
        in_channels: C, of both parts together.
        width: a quarter of the channels that come out.
        stride: of the 3x3.
        alpha_in: share of the input's channels that are low.
        alpha: likewise from the first 1x1 on.
    """

    def __init__(self, in_channels: int, width: int, stride: int, alpha_in: float, alpha: float) -> None:
        super().__init__(4 * width)
        self.conv1 = OctConv(in_channels, width, 1, 1, alpha_in, alpha)
        self.conv2 = OctConv(width, width, 3, stride, alpha, alpha)
        self.conv3 = OctConv(width, self.out_channels, 1, 1, alpha, alpha)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if in_channels != self.out_channels:
            self.downsample = OctConv(in_channels, self.out_channels, 1, stride, alpha_in, alpha)

    @property
    def last_norms(self) -> Sequence[nn.Module]:
        """What both parts of the branch end with; with weights of zero there the block starts as its shortcut."""
        return [norm for norm in (self.conv3.bn_high, self.conv3.bn_low) if norm is not None]

    def forward(self, pair: Pair) -> Pair:
        """A pair [B, C, H, W] -> a pair [B, 4 * width, ceil(H/s), ceil(W/s)]."""
        shortcut = pair if self.downsample is None else self.downsample(pair)
        pair = self.conv3(self._relu(self.conv2(self._relu(self.conv1(pair)))))
        # One draw for both parts: the block is skipped as a whole.
        kept = self.drop_path(torch.ones_like(pair[0][:, :1, :1, :1]))  # [B, 1, 1, 1]
        high = pair[0] * kept + shortcut[0]
        if pair[1] is None or shortcut[1] is None:
            return self._relu((high, None))
        return self._relu((high, pair[1] * kept + shortcut[1]))

    def _relu(self, pair: Pair) -> Pair:
        high, low = pair
        return self.relu(high), None if low is None else self.relu(low)


class OctaveLayer(ResidualLayer):
    """Blocks between pairs, from map to map: [B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)].

    A pair becomes one map, as detectors want it, by enlarging the low part and appending its channels. Nothing is lost:
    every other row and column of those is the low part again.
    """

    def __init__(self, *blocks: OctBottleneck, low_in: int) -> None:
        """Takes the blocks, and how many of the last channels of the input are low."""
        super().__init__(*blocks)
        self.low_in = low_in

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""
        high, low = super().forward(self._split(input))
        return high if low is None else torch.cat((high, double(low, high)), 1)

    def _split(self, x: Tensor) -> Pair:
        if self.low_in == 0:
            return x, None
        return x[:, : -self.low_in], x[:, -self.low_in :, ::2, ::2]


def _octave_layers(depths: Sequence[int], alpha: float) -> list[OctaveLayer]:
    """The first layer starts from a map without low channels, and all of the last has none."""
    layers, channels, alpha_in = [], 64, 0.0
    for index, depth in enumerate(depths):
        blocks, low_in, inside = [], num_low(channels, alpha_in), alpha if index < len(depths) - 1 else 0.0
        for position in range(depth):
            stride = 2 if index > 0 and position == 0 else 1
            blocks.append(OctBottleneck(channels, 64 * 2**index, stride, alpha_in, inside))
            channels, alpha_in = blocks[-1].out_channels, inside
        layers.append(OctaveLayer(*blocks, low_in=low_in))
    return layers


class OctResNet(ResidualNetwork):
    """A 7x7 stem with stride 4, four octave layers, a linear classifier. Levels c1 (the stem's) to c5."""


def oct_resnet50_alpha0125(num_classes: int = 1000, options: ResNetOptions | None = None) -> OctResNet:
    """An eighth of the channels low: 25.557 M parameters, 3.565 GMACs at 224."""
    return OctResNet(_octave_layers((3, 4, 6, 3), 0.125), num_classes=num_classes, **given(options))


def oct_resnet50_alpha0250(num_classes: int = 1000, options: ResNetOptions | None = None) -> OctResNet:
    """A quarter of the channels low: 25.557 M parameters, 3.104 GMACs at 224."""
    return OctResNet(_octave_layers((3, 4, 6, 3), 0.25), num_classes=num_classes, **given(options))
