"""The settings of RetinaNet."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

from public.config.checks import require, require_one_of
from public.detectors.options import AnchorOptions, DenseOptions

BoxLoss = Literal["smooth_l1", "l1", "giou"]
Normalization = Literal["batch", "image"]
P6From = Literal["c5", "p5"]


@dataclass(frozen=True, kw_only=True)
class RetinaNetOptions(DenseOptions, AnchorOptions):
    """How a RetinaNet is built; without `anchor_sizes`, the smallest anchors of a level have 4 of its strides."""

    kind: ClassVar[str] = "retinanet"

    p6_from: P6From = "c5"
    """What P6 comes from: the backbone's deepest map (c5) or the pyramid's (p5)."""
    positive_iou: float = 0.5
    """An anchor learns an object from this overlap on."""
    negative_iou: float = 0.4
    """An anchor is background below this overlap; in between it learns nothing."""
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """What a box's four deltas, of x, y, width and height, are multiplied by."""
    box_loss: BoxLoss = "smooth_l1"
    """smooth_l1: beta 1/9, the mean over the four deltas; l1: the sum over them; giou: of the boxes."""
    normalize: Normalization = "batch"
    """What a loss is summed over and divided by: all images by all positives (batch); or each image by its own
    positives, or 1, and then the mean over the images (image)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        negative, positive = self.negative_iou, self.positive_iou
        require(
            0 < negative <= positive <= 1,
            f"detector.negative_iou={negative} and detector.positive_iou={positive} must rise and lie within (0, 1].",
        )
        require(
            len(self.box_weights) == 4 and min(self.box_weights) > 0,
            f"detector.box_weights={self.box_weights} must be four numbers greater than 0: of x, y, width and height.",
        )
        for name, choices in (("p6_from", P6From), ("box_loss", BoxLoss), ("normalize", Normalization)):
            require_one_of(f"detector.{name}", getattr(self, name), get_args(choices))

    @classmethod
    def torchvision(cls, **changes: Any) -> Self:
        """Those of torchvision's `retinanet_resnet50_fpn`, with some changed."""
        same: dict[str, Any] = {
            "p6_from": "p5",
            "anchors": "torchvision",
            "box_weights": (1.0, 1.0, 1.0, 1.0),
            "box_loss": "l1",
            "normalize": "image",
            "max_detections": 300,
        }
        return cls(**(same | changes))
