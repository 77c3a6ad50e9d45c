"""The settings of FCOS."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

from public.config.checks import require, require_one_of
from public.detectors.options import DenseOptions
from public.geometry.layouts import Layout

CenterSampling = Literal["circle", "square"]
Distances = Literal["exp", "relu"]


@dataclass(frozen=True, kw_only=True)
class FCOSOptions(DenseOptions):
    """How an FCOS is built; its group norms have `public.detectors.fcos.network.num_groups(channels)` groups."""

    kind: ClassVar[str] = "fcos"

    distances: Distances = "exp"
    """How an output x becomes pixels. exp: exp(x * exp(a learned number of the level)); relu: max(x, 0) strides."""
    center_sampling: CenterSampling = "circle"
    """Whether the points that learn an object lie in a circle or a square around its center."""
    points: Layout = "centered"
    """Whether points lie in the middles of their cells (centered) or where torchvision's lie."""
    box_weight: float = 2.0
    """Of the box loss."""
    centerness_weighted: bool = True
    """Whether the box loss of a positive counts by its centerness."""
    score_threshold: float = 0.01
    """Detections with a lower sqrt(class probability x centerness) are skipped."""
    iou_threshold: float = 0.6
    """Of two boxes of one class with a higher overlap, the weaker goes (non-maximum suppression)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.box_weight > 0, f"detector.box_weight={self.box_weight} must be greater than 0.")
        for name, choices in (("distances", Distances), ("center_sampling", CenterSampling), ("points", Layout)):
            require_one_of(f"detector.{name}", getattr(self, name), get_args(choices))

    @classmethod
    def torchvision(cls, **changes: Any) -> Self:
        """Those of torchvision's `fcos_resnet50_fpn`, with some changed."""
        same: dict[str, Any] = {
            "distances": "relu",
            "center_sampling": "square",
            "points": "torchvision",
            "box_weight": 1.0,
            "centerness_weighted": False,
            "score_threshold": 0.2,
        }
        return cls(**(same | changes))
