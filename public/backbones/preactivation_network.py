"""The frame that the pre-activation ResNets share: a bare stem, four stages, a last norm, a linear classifier.

Key names are those of timm's ResNetV2.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Level
from public.backbones.options import DropPathOptions
from public.layers.drop_path import linear_drop_path_
from public.layers.initialization import kaiming_fan_out_
from public.layers.preactivation import ActivationMaker, BlockMaker, NormMaker, PreactivationBlock


@dataclass(frozen=True, kw_only=True)
class PreactivationOptions(DropPathOptions):
    """What can be set on every pre-activation ResNet."""

    kind: ClassVar[str] = "preactivation_resnet"


class PreactivationNetwork(Backbone):
    """A 7x7 stem with stride 4, four stages of blocks, a norm, a linear classifier.

    Levels c1 (the stem's) to c5. Only c5 is normalized and activated: the others are bare sums, as timm gives them.

    Args:
        block: the kind of block.
        depths: the number of them in each stage.
        norm: what comes before each activation, by its number of channels.
        activation: what follows each norm.
        num_classes: number of logits.
        drop_path: see `DropPathOptions`.
    """

    classifier_prefix = "head.fc."

    def __init__(
        self,
        block: BlockMaker,
        depths: Sequence[int],
        *,
        norm: NormMaker,
        activation: ActivationMaker,
        num_classes: int = 1000,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), pool=pool))
        self.levels = {"c1": Level(2, 64, ("stem.conv",))}
        self.stages, channels = nn.Sequential(), 64
        for index, depth in enumerate(depths):
            blocks: list[PreactivationBlock] = []
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(channels, 64 * 2**index, stride, norm, activation))
                channels = blocks[-1].out_channels
            self.stages.append(nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks))))
            modules = (*(("stem.pool",) if index == 0 else ()), f"stages.{index}")
            self.levels[f"c{index + 2}"] = Level(4 * 2**index, channels, modules)
        self.norm, self.act = norm(channels), activation()
        self.levels["c5"] = Level(32, channels, (*self.levels["c5"].modules, "norm", "act"))
        fc = nn.Conv2d(channels, num_classes, 1)  # of one pixel, as timm has it
        self.head = nn.Sequential(OrderedDict(fc=fc))
        kaiming_fan_out_(self)
        nn.init.normal_(fc.weight, std=0.01)
        linear_drop_path_(self, drop_path)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, C5, H/32, W/32] -> [B, num_classes]."""
        x = functional.adaptive_avg_pool2d(x, 1)  # [B, C5, 1, 1]
        return self.head(x).flatten(1)  # [B, num_classes]
