"""ProxylessNAS: the networks that a search found for a GPU, a CPU and a phone.

Paper: Cai et al. 2018, https://arxiv.org/abs/1812.00332, figure 4; kernel sizes, expansions and channels are those of
the authors' published models, https://github.com/mit-han-lab/proxylessnas, whose key names these are too.
Reference: the published models' parameter counts, and multiply-adds, by calculation in the test.
Deviations from the paper: none known.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone
from public.backbones.levels import Step, levels_by_stride
from public.backbones.options import DropPathOptions, given
from public.layers.batch_norm import set_batch_norms_
from public.layers.conv_norm_act import ConvNormAct
from public.layers.drop_path import drop_path_layer, linear_drop_path_
from public.layers.initialization import kaiming_fan_out_
from public.layers.relu6 import ReLU6


class Row(NamedTuple):
    """One stage."""

    channels: int
    stride: int
    """Of the first block."""
    blocks: tuple[tuple[int, int] | None, ...]
    """Kernel size and expansion of each; None: the search left this one out."""


_GPU = (
    Row(24, 1, ((3, 1),)),
    Row(32, 2, ((5, 3), None, None, None)),
    Row(56, 2, ((7, 3), None, None, (3, 3))),
    Row(112, 2, ((7, 6), None, None, (5, 3))),
    Row(128, 1, ((5, 6), None, (3, 3), (5, 3))),
    Row(256, 2, ((7, 6), (7, 6), (7, 6), (5, 6))),
    Row(432, 1, ((7, 6),)),
)
_CPU = (
    Row(24, 1, ((3, 1),)),
    Row(32, 2, ((3, 6), (3, 3), (3, 3), (3, 3))),
    Row(48, 2, ((3, 6), (3, 3), (3, 3), (5, 3))),
    Row(88, 2, ((3, 6), None, None, (3, 3))),
    Row(104, 1, ((5, 6), (3, 3), (3, 3), (3, 3))),
    Row(216, 2, ((5, 6), (5, 3), (5, 3), (3, 3))),
    Row(360, 1, ((5, 6),)),
)
_MOBILE = (
    Row(16, 1, ((3, 1),)),
    Row(32, 2, ((5, 3), (3, 3), None, None)),
    Row(40, 2, ((7, 3), (3, 3), (5, 3), (5, 3))),
    Row(80, 2, ((7, 6), (5, 3), (5, 3), (5, 3))),
    Row(96, 1, ((5, 6), (5, 3), (5, 3), (5, 3))),
    Row(192, 2, ((7, 6), (7, 6), (7, 3), (7, 3))),
    Row(320, 1, ((7, 6),)),
)

ConvNormReLU6 = partial(ConvNormAct, activation=ReLU6, names=("conv", "bn", "relu"))
ConvNorm = partial(ConvNormAct, activation=nn.Identity, names=("conv", "bn", "identity"))


class InvertedResidual(nn.Module):
    """1x1 up by the expansion, depthwise, linear 1x1 down.

    [B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)] with s the stride. The input is added where the
    shapes allow it. An expansion of 1 has no first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        layers: dict[str, nn.Module] = OrderedDict()
        if expansion > 1:
            layers["inverted_bottleneck"] = ConvNormReLU6(in_channels, hidden, 1)
        layers["depth_conv"] = ConvNormReLU6(hidden, hidden, kernel_size, stride, groups=hidden)
        layers["point_linear"] = ConvNorm(hidden, out_channels, 1)
        self.mobile_inverted_conv = nn.Sequential(layers)
        self.drop_path = drop_path_layer()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_channels, ceil(H/s), ceil(W/s)]."""
        branch = self.mobile_inverted_conv(x)
        return self.drop_path(branch).add_(x) if self.has_shortcut else branch


@dataclass(frozen=True, kw_only=True)
class ProxylessNASOptions(DropPathOptions):
    """What can be set on every ProxylessNAS network."""

    kind: ClassVar[str] = "proxylessnas"
    dropout: float | None = None
    """Share of the pooled features that are dropped before the classifier. None: 0."""


class ProxylessNAS(Backbone):
    """A 3x3 stem, inverted residuals, a 1x1 convolution and a linear classifier. Levels c1 to c5.

    The 1x1 convolution counts as the head: c5 is the last inverted residual.
    """

    classifier_prefix = "classifier."

    def __init__(
        self,
        rows: Sequence[Row],
        stem_channels: int,
        head_channels: int,
        *,
        num_classes: int = 1000,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        """Takes the stages, the channels of stem and head, the number of classes and the options."""
        super().__init__()
        self.first_conv = ConvNormReLU6(3, stem_channels, 3, 2)
        self.blocks, steps, channels = nn.Sequential(), [Step("first_conv", 2, stem_channels)], stem_channels
        for row in rows:
            for position, block in enumerate(row.blocks):
                stride = row.stride if position == 0 else 1
                steps.append(Step(f"blocks.{len(self.blocks)}", stride, row.channels))
                # a block skipped keeps its number in the published names
                self.blocks.append(
                    InvertedResidual(channels, row.channels, block[0], stride, block[1]) if block else nn.Identity()
                )
                channels = row.channels
        self.levels = levels_by_stride(steps)
        self.feature_mix_layer = ConvNormReLU6(channels, head_channels, 1)
        linear = nn.Linear(head_channels, num_classes)
        self.classifier = nn.Sequential(OrderedDict(dropout=nn.Dropout(dropout), linear=linear))
        linear_drop_path_(self, drop_path)
        set_batch_norms_(self, eps=1e-3, momentum=0.1)
        kaiming_fan_out_(self)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = self.feature_mix_layer(x)  # [B, head_channels, H/32, W/32]
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)  # [B, head_channels]
        return self.classifier(x)


def proxylessnas_gpu(num_classes: int = 1000, options: ProxylessNASOptions | None = None) -> ProxylessNAS:
    """7.120 M parameters, 0.465 GMACs at 224."""
    return ProxylessNAS(_GPU, 40, 1728, num_classes=num_classes, **given(options))


def proxylessnas_cpu(num_classes: int = 1000, options: ProxylessNASOptions | None = None) -> ProxylessNAS:
    """4.362 M parameters, 0.439 GMACs at 224."""
    return ProxylessNAS(_CPU, 40, 1432, num_classes=num_classes, **given(options))


def proxylessnas_mobile(num_classes: int = 1000, options: ProxylessNASOptions | None = None) -> ProxylessNAS:
    """4.081 M parameters, 0.320 GMACs at 224."""
    return ProxylessNAS(_MOBILE, 32, 1280, num_classes=num_classes, **given(options))
