"""The settings of Faster R-CNN, and those that a cascade shares with it."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

from public.config.checks import require, require_at_least, require_one_of
from public.detectors.options import AnchorOptions, Pyramid, SoftNMS

LARGEST_SAMPLING_RATIO = 64
"""Samples of a cell in each direction; the largest regions cover 6 pixels of their map there (1333 / stride 32 / 7)."""


@dataclass(frozen=True, kw_only=True)
class TwoStageOptions(AnchorOptions):
    """What every detector with proposals lets one set; without `anchor_sizes` they are 32 at p2, 64 at p3, ..."""

    extra_levels: ClassVar[tuple[str, ...]] = ("p6",)

    levels: tuple[str, ...] = ("p2", "p3", "p4", "p5", "p6")
    """Of the pyramid: p2, p3 or p4 up to p5, then p6 or not. p6 comes from the backbone's c6 or else from p5, and has
    proposals, but no regions."""
    pyramid: Pyramid = "standard"
    """How the levels are joined: as in the first paper (standard), or as in DetNet."""
    rpn_samples: int = 256
    """Anchors of an image that a training step learns from."""
    num_candidates: tuple[int, int] = (2000, 1000)
    """Boxes of a level that take part in the suppression of proposals, in training and afterwards."""
    num_proposals: tuple[int, int] = (2000, 1000)
    """Of an image, in training and afterwards."""
    roi_samples: int = 512
    """Regions of an image that a training step learns from."""
    pool_size: int = 7
    """Rows and columns that are cut out of the pyramid for each region."""
    sampling_ratio: int = 2
    """Samples of each of their cells in each direction; 0: as many as the region has pixels there."""
    aligned: bool = True
    """Whether regions are read where they are, or half a pixel of their map off, as torchvision does."""
    head_channels: int = 1024
    """Of the two hidden layers of each head."""
    smooth_l1_beta: float = 1 / 9
    """Error from which on the losses of boxes grow linearly; 0: at once."""
    soft_nms: SoftNMS | None = None
    """The weaker box of two only loses some of its score, by `iou_threshold` (linear) or by `soft_nms_sigma`
    (gaussian), see `public.detectors.suppression`; None: it goes."""
    soft_nms_sigma: float = 0.5
    """How slowly it does with gaussian."""

    @property
    def has_one_box(self) -> bool:
        """Whether a head gives one box for a region instead of one for each class: in a cascade, to hand it on."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("detector.pyramid", self.pyramid, get_args(Pyramid))
        lowest = {"rpn_samples": 2, "roi_samples": 4, "pool_size": 1, "head_channels": 1, "smooth_l1_beta": 0}
        for name, limit in lowest.items():
            require_at_least(f"detector.{name}", getattr(self, name), limit)
        for name in ("num_candidates", "num_proposals"):
            values: Any = getattr(self, name)
            two = len(values) == 2 and min(values) >= 1
            require(two, f"detector.{name}={values} must be two numbers, 1 or more: in training, and afterwards.")
        ratio, sigma = self.sampling_ratio, self.soft_nms_sigma
        require(
            0 <= ratio <= LARGEST_SAMPLING_RATIO,
            f"detector.sampling_ratio={ratio} must lie within 0..{LARGEST_SAMPLING_RATIO}.",
        )
        require(
            self.soft_nms is None or self.soft_nms in get_args(SoftNMS),
            f"detector.soft_nms={self.soft_nms!r} must be one of {', '.join(get_args(SoftNMS))}, or None.",
        )
        require(sigma > 0, f"detector.soft_nms_sigma={sigma} must be greater than 0.")
        require(
            sigma == type(self).soft_nms_sigma or self.soft_nms == "gaussian",
            f"detector.soft_nms_sigma={sigma} has no effect without detector.soft_nms='gaussian'.",
        )


@dataclass(frozen=True, kw_only=True)
class FasterRCNNOptions(TwoStageOptions):
    """How a Faster R-CNN is built."""

    kind: ClassVar[str] = "faster_rcnn"

    class_agnostic: bool = False
    """One box for a region instead of one for each class."""

    @property
    def has_one_box(self) -> bool:
        """See `class_agnostic`."""
        return self.class_agnostic

    @classmethod
    def torchvision(cls, **changes: Any) -> Self:
        """Those of torchvision's `fasterrcnn_resnet50_fpn`, of whose 91 classes one is background; some changed."""
        same: dict[str, Any] = {"anchors": "torchvision", "aligned": False}
        return cls(**(same | changes))
