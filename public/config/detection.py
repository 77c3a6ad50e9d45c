"""The config of an object detection run: everything that `public/recipes/detection.py` needs to know."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from public.config.checks import require
from public.config.data import DataOptions
from public.config.options import DetectorOptions
from public.config.run import RunConfig


@dataclass(frozen=True, kw_only=True)
class DetectionData(DataOptions):
    """Which images and boxes, and what is done to them. Its kinds are the formats of `public/datasets/formats.py`.

    The last of the transforms (`public/transforms/detection.py`) makes the canvas; in evaluation it is the only one.
    Those before it may be torchvision's v2 too (`public/transforms/with_boxes.py`).
    """

    default_metrics: ClassVar[str]
    """The metrics where none are asked for: a key of `public.evaluation.detection.EVALUATORS`."""
    needs_splits: ClassVar[bool] = True
    """Whether the splits must be named: the kind `auto` finds them."""
    train_splits: tuple[str, ...]
    """The splits to train on, named as the format names them."""
    val_splits: tuple[str, ...]
    """The same for evaluation."""
    classes: tuple[str, ...] | None = None
    """The names of the classes in the order of their labels; objects of others are left out and counted. None: all that
    the training splits have."""
    train_list: str | None = None
    """A text file that names, one a line, the images of the training splits that are meant: paths as the format has
    them, below the folder of its images. A path below `folder` or absolute; None: all."""
    val_list: str | None = None
    """The same for evaluation: with both, one split is divided in two."""
    metrics: str | None = None
    """By whose rules the detections are judged: coco gives COCO's 12 numbers, voc VOC's mAP; None: those of the format.
    Crowds and difficult objects count as the same: they need not be found."""
    group_by_aspect: int | None = None
    """Training batches hold images of similar shape, so that little of a canvas is padding: with k, images of 2k + 2
    groups of width / height, k for each doubling between 1/2 and 2 (0: upright or not). None: whatever comes."""
    orientation: Literal["annotated", "upright", "stored"] = "annotated"
    """How a photo is shown that its EXIF orientation turns: upright, or as its pixels are stored; annotated: in the way
    that has the annotated size, upright where both have."""
    balance: float | None = None
    """Images of rare classes come more often (repeat factors, LVIS's formula): the share of the images below which a
    class is rare, of LVIS 0.001, of a small data set rather 0.1 to 0.5. None: each image once an epoch."""
    download: bool = False
    """Fetch the published archives (and verify them) if the folder does not hold the splits."""

    @property
    def rules(self) -> str:
        """By whose rules the detections are judged."""
        return self.metrics or self.default_metrics

    def __post_init__(self) -> None:
        super().__post_init__()
        groups = self.group_by_aspect
        require(groups is None or groups >= 0, f"data.group_by_aspect={groups} must be 0 or more (None: no groups).")
        balance = self.balance
        require(balance is None or 0 < balance <= 1, f"data.balance={balance} must lie within (0, 1] (None: off).")
        for name in ("train_splits", "val_splits") if self.needs_splits else ():
            option = f"--data.{name.replace('_', '-')}"
            message = (
                f"data.{name} must name at least one split ({option}); --data.dataset auto finds those of a folder."
            )
            require(bool(getattr(self, name)), message)
        names = self.classes
        require(
            names is None or 0 < len(names) == len(set(names)),
            f"data.classes={names} must name each class once (None: all that the data has).",
        )


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(RunConfig):
    """One row of a results table: a detector, a data set and the recipe that joins them."""

    backbone_weights: str | None = None
    """Classification weights of the backbone: a file, torchvision:<model>[.<weights>] or timm:<model>; None: random."""
    new_class_head: bool = False
    """Whether the layers of the classes start new, so that `initial_weights` may be of other classes."""
    best_metric: str = "AP"
    """The validation metric that chooses best.pth, the higher the better: COCO's AP, AP50, ...; VOC's mAP50, ..."""
    detector: DetectorOptions
    """How the detector is built."""
    data: DetectionData
    """Which images and boxes, and what is done to them."""

    @property
    def network(self) -> str:
        """The detector's name in `public.detectors.catalog`."""
        return self.detector.kind

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.sync_batch_norm or not (self.detector.frozen_batch_norm or self.detector.frozen_stages),
            "sync_batch_norm=True would move what detector.frozen_batch_norm and detector.frozen_stages keep still.",
        )
        require(
            self.backbone_weights is None or self.initial_weights is None,
            f"backbone_weights={self.backbone_weights!r} would be overwritten by "
            f"initial_weights={self.initial_weights!r}: give one of them (--backbone-weights None leaves a row's out).",
        )
        require(
            not self.new_class_head or self.initial_weights is not None,
            "new_class_head=True has no effect without initial_weights.",
        )
