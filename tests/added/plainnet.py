"""A family of networks as somebody would add it: five convolutions, and how much a new one costs.

What `tests/test_contributing.py` copies to `public/backbones/`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from public.backbones.features import Backbone, Level
from public.backbones.options import given
from public.config.options import NetworkOptions


@dataclass(frozen=True, kw_only=True)
class PlainNetOptions(NetworkOptions):
    """What can be set on PlainNet."""

    kind: ClassVar[str] = "plainnet"
    slope: float | None = None
    """Of the activations below 0. None: 0."""


class PlainNet(Backbone):
    """Five convolutions of stride 2, a linear classifier. Levels c1 to c5."""

    classifier_prefix = "fc."

    def __init__(self, *, num_classes: int = 1000, slope: float = 0.0) -> None:
        """Takes the number of classes and the options."""
        super().__init__()
        self.levels, before = {}, 3
        for number, channels in enumerate((8, 8, 16, 16, 32), start=1):
            conv = nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False)
            self.add_module(f"layer{number}", nn.Sequential(conv, nn.BatchNorm2d(channels), nn.LeakyReLU(slope)))
            self.levels[f"c{number}"] = Level(2**number, channels, (f"layer{number}",))
            before = channels
        self.fc = nn.Linear(before, num_classes)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, 32, H/32, W/32] -> [B, num_classes]."""
        return self.fc(x.mean(dim=(2, 3)))


def plainnet(num_classes: int = 1000, options: PlainNetOptions | None = None) -> PlainNet:
    """0.042 M parameters, 0.006 GMACs at 224."""
    return PlainNet(num_classes=num_classes, **given(options))
