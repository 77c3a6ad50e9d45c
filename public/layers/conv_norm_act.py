"""Convolution, batch norm, activation: the unit most convolutional networks are made of."""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from public.layers.depthwise import DepthwiseConv2d
from public.layers.winograd import Convolutions


class ConvNormAct(Convolutions):
    """A convolution without bias, its batch norm and its activation.

    [B, in_channels, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)] with s the stride. The
    children are numbered (`0` the convolution, `1` the norm), the key names of torchvision's networks; `names` are
    others.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] = nn.ReLU,
        names: tuple[str, str, str] = ("0", "1", "2"),
    ) -> None:
        """Pads by half the (odd) kernel, so that only the stride changes the height and the width."""
        padding = kernel_size // 2
        if kernel_size == 3 and groups == in_channels == out_channels:
            conv = DepthwiseConv2d(in_channels, stride)
        else:
            conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        layers = (conv, nn.BatchNorm2d(out_channels), activation())
        super().__init__(OrderedDict(zip(names, layers, strict=True)))
