"""ResNet for 32x32 images (CIFAR): the ImageNet layers behind a 3x3 stem that keeps the resolution.

Paper: He et al. 2015, https://arxiv.org/abs/1512.03385.
Stem: https://github.com/weiaicunzai/pytorch-cifar100.
These are not the narrow CIFAR networks of the paper's section 4.2.
Reference: the 2020 monorepo's parameter counts and MACs at 100 classes.
Deviation from 2020: keys are those of our ImageNet ResNet (`load_weights` renames the 2020 ones). As there,
weights start from torch's defaults, not from He's rule: that is what the tables were trained from.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.backbones.options import given
from public.backbones.residual_network import ResNetOptions
from public.layers.drop_path import linear_drop_path_
from public.layers.residual import BasicBlock, BlockMaker, Bottleneck, residual_layers, zero_last_norms_


class CifarResNet(Backbone):
    """A 3x3 stem with stride 1, four residual layers, a linear classifier. Levels c0 (stride 1) to c3."""

    classifier_prefix = "fc."

    def __init__(
        self,
        block: BlockMaker,
        depths: Sequence[int],
        *,
        num_classes: int = 100,
        zero_init_residual: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        """Takes the kind of block, the number in each of four layers and the options."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        layers = residual_layers(block, depths, 64)
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        c0, c1, c2, c3 = (layer.out_channels for layer in layers)
        self.fc = nn.Linear(c3, num_classes)
        self.levels = {
            "c0": Level(1, c0, ("conv1", "bn1", "relu", "layer1")),
            "c1": Level(2, c1, ("layer2",)),
            "c2": Level(4, c2, ("layer3",)),
            "c3": Level(8, c3, ("layer4",)),
        }
        linear_drop_path_(self, drop_path)
        if zero_init_residual:
            zero_last_norms_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C3, H/8, W/8] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, C3]
        return self.fc(x)


def resnet18cifar(num_classes: int = 100, options: ResNetOptions | None = None) -> CifarResNet:
    """11.220 M parameters, 0.555 GMACs at 32."""
    return CifarResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, **given(options))


def resnet34cifar(num_classes: int = 100, options: ResNetOptions | None = None) -> CifarResNet:
    """21.328 M parameters, 1.159 GMACs at 32."""
    return CifarResNet(BasicBlock, (3, 4, 6, 3), num_classes=num_classes, **given(options))


def resnet50cifar(num_classes: int = 100, options: ResNetOptions | None = None) -> CifarResNet:
    """23.705 M parameters, 1.298 GMACs at 32."""
    return CifarResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes, **given(options))


def resnet101cifar(num_classes: int = 100, options: ResNetOptions | None = None) -> CifarResNet:
    """42.697 M parameters, 2.510 GMACs at 32."""
    return CifarResNet(Bottleneck, (3, 4, 23, 3), num_classes=num_classes, **given(options))


def resnet152cifar(num_classes: int = 100, options: ResNetOptions | None = None) -> CifarResNet:
    """58.341 M parameters, 3.722 GMACs at 32."""
    return CifarResNet(Bottleneck, (3, 8, 36, 3), num_classes=num_classes, **given(options))
