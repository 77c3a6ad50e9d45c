"""The settings of CenterNet."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from public.config.checks import require, require_at_least, require_one_of, require_share
from public.config.options import DetectorOptions

RegressionLoss = Literal["smooth_l1", "l1"]


@dataclass(frozen=True, kw_only=True)
class CenterNetOptions(DetectorOptions):
    """How a CenterNet is built."""

    kind: ClassVar[str] = "centernet"

    backbone: str = "resnet18"
    """A name from `public.backbones.catalog.list_backbones()`, with the level that the map is enlarged from."""
    level: str = "c5"
    """Of the backbone, from which the map is enlarged."""
    deformable: bool = True
    """Whether the convolutions of the enlargement are deformable; plain ones are faster on a CPU."""
    upsample_channels: tuple[int, ...] = (256, 128, 64)
    """Of each step of the enlargement, which halves the stride."""
    head_channels: int = 64
    """Of the hidden layer of each head."""
    regression_loss: RegressionLoss = "smooth_l1"
    """Of an object's offset and of its size, two numbers each, in cells. smooth_l1: beta 1/9, the sum over the two, as
    in 2020; l1: their mean, as in the authors' program."""
    iou_threshold: float | None = None
    """Of two boxes of one class with a higher overlap, the weaker goes (non-maximum suppression); None: all stay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("detector.head_channels", self.head_channels, 1)
        require_one_of("detector.regression_loss", self.regression_loss, get_args(RegressionLoss))
        positive = all(channels >= 1 for channels in self.upsample_channels)
        require(positive, f"detector.upsample_channels={self.upsample_channels} must each be 1 or more.")
        require(
            0 <= self.score_threshold < 1, f"detector.score_threshold={self.score_threshold} must lie within [0, 1)."
        )
        require_share("detector.iou_threshold", self.iou_threshold)
