"""LambdaResNet-50: lambda layers in place of the 3x3s, which see the whole map and 23 pixels around each place.

Paper: Bello 2021, https://arxiv.org/abs/2102.08602: queries and keys of 16 numbers, 4 heads, one intra-depth, 23x23
local positions ("lambda convolution"), averages of 3x3 where a 3x3 had a stride.
Reference: timm's LambdaLayer (key names and values of the layer); the paper's 15.0 M parameters, and the 14.995 M of
https://github.com/d-li14/lambda.pytorch, which reached 78.2 % with them. No network of timm has this frame.
Deviations from the paper: none known. Deviations from timm's layer: the position lambdas have no bias, and pooling is
3x3 as in the paper. Deviations from ModelZoo.pytorch: 23x23 positions instead of 15x15; norm and ReLU stay behind the
layer, as behind the 3x3 that it replaces.
"""

from typing import Any

from torch import Tensor, nn

from public.backbones.options import given
from public.backbones.residual_network import ResidualNetwork, ResNetOptions
from public.layers.residual import Bottleneck, residual_layers
from public.layers.winograd import run_convolution

_KEYS, _HEADS, _SCOPE = 16, 4, 23


class LambdaLayer(nn.Module):
    """Turns the map into a linear function for each place, and applies that to the place's queries.

    [B, channels, H, W] -> the same. The function is a matrix [keys, channels / heads], the sum of one that is common
    to all places (what there is) and one of each place's surroundings (what is where).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        values = channels // _HEADS
        self.sizes = (_HEADS * _KEYS, _KEYS, values)
        self.qkv = nn.Conv2d(channels, sum(self.sizes), 1, bias=False)
        self.norm_q = nn.BatchNorm2d(_HEADS * _KEYS)
        self.norm_v = nn.BatchNorm2d(values)
        self.conv_lambda = nn.Conv2d(1, _KEYS, _SCOPE, padding=_SCOPE // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same."""
        queries, keys, values = run_convolution(self.qkv, x).split(self.sizes, dim=1)
        queries = self.norm_q(queries).unflatten(1, (_HEADS, _KEYS)).flatten(3)  # [B, heads, K, HW]
        keys = keys.flatten(2).softmax(2)  # [B, K, HW]
        values = self.norm_v(values)  # [B, V, H, W]
        content = values.flatten(2) @ keys.transpose(1, 2)  # [B, V, K]
        # One map of values at a time through the same convolution: a batch of B * V maps of one channel.
        positions = self.conv_lambda(values.flatten(0, 1)[:, None])  # [B * V, K, H, W]
        positions = positions.unflatten(0, values.shape[:2]).flatten(3)  # [B, V, K, HW]
        lambdas = (content[..., None] + positions).permute(0, 3, 1, 2)  # [B, HW, V, K]
        outputs = lambdas @ queries.permute(0, 3, 2, 1)  # [B, HW, V, heads]
        return outputs.permute(0, 3, 2, 1).reshape(x.shape)  # [B, heads * V, H, W]


class LambdaBottleneck(Bottleneck):
    """1x1 down, a lambda layer, 1x1 up by 4, and a shortcut: [B, C, H, W] -> [B, 4 * width, ceil(H/s), ceil(W/s)]."""

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(in_channels, width, stride)
        pool = [] if stride == 1 else [nn.AvgPool2d(3, stride, padding=1)]
        self.conv2 = nn.Sequential(LambdaLayer(width), *pool)


class LambdaResNet(ResidualNetwork):
    """A 7x7 stem with stride 4, four layers of lambda blocks, a linear classifier. Levels c1 (the stem's) to c5."""


def lambda_resnet50(num_classes: int = 1000, options: ResNetOptions | None = None) -> LambdaResNet:
    """14.996 M parameters, 6.545 GMACs at 224. `zero_init_residual` is True by default."""
    # A layer multiplies its input with itself. In evaluation mode, before the norms know any statistics, 16 of them
    # one after another would leave the range of float32.
    values: dict[str, Any] = {"zero_init_residual": True} | given(options)
    layers = residual_layers(LambdaBottleneck, (3, 4, 6, 3), 64)
    return LambdaResNet(layers, num_classes=num_classes, **values)
