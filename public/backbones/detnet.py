"""DetNet-59: a ResNet-50 for detection that stops halving the map at stride 16 and looks wider instead.

Paper: Li et al. 2018, https://arxiv.org/abs/1804.06215, table 1 and figure 2.
Reference: the layout that DetNet_Pytorch published weights for: 17,347,648 parameters without classifier, and its files
load.
Deviation from the paper: stride on the 3x3 of a bottleneck, as there and in `resnet.py`.
"""

from torch import nn

from public.backbones.options import given
from public.backbones.residual_network import ResidualNetwork, ResNetOptions
from public.layers.residual import Bottleneck, Projection, ResidualLayer, residual_layers

_CHANNELS, _WIDTH = 1024, 256


class DilatedBottleneck(Bottleneck):
    """A bottleneck whose 3x3 leaves out every other pixel: [B, 1024, H, W] -> the same.

    With `project`, the paper's block B, its shortcut is a 1x1 convolution although the shape stays: the mark of a new
    stage.
    """

    def __init__(self, *, project: bool) -> None:
        super().__init__(_CHANNELS, _WIDTH)
        self.conv2 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=2, dilation=2, bias=False)
        if project:
            self.downsample = Projection(_CHANNELS, _CHANNELS, stride=1)


class DetNet(ResidualNetwork):
    """A 7x7 stem, three layers of ResNet-50, two dilated ones. Levels c1 to c4 of strides 2 to 16; c5 and c6 of 16."""


def detnet59(num_classes: int = 1000, options: ResNetOptions | None = None) -> DetNet:
    """18.373 M parameters, 5.000 GMACs at 224."""
    layers = residual_layers(Bottleneck, (3, 4, 6), 64)
    layers += [ResidualLayer(*(DilatedBottleneck(project=index == 0) for index in range(3))) for _ in range(2)]
    return DetNet(layers, strides=(4, 8, 16, 16, 16), num_classes=num_classes, **given(options))
