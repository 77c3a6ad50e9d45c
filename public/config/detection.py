"""The config of an object detection run: everything that `public/recipes/detection.py` needs to know."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from public.config.classification import IMAGENET_MEAN, IMAGENET_STD, TransformList
from public.config.sections import RunConfig, require, require_side

METRICS = {
    "coco": (
        *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
        *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
    ),
    "voc": ("mAP50_11point", "mAP50", "mAP50_95"),
}
"""What the evaluation of each kind of data set gives."""

LARGEST_SAMPLING_RATIO = 64
"""Samples of a cell in each direction; the largest regions cover 6 pixels of their map there (1333 / stride 32 / 7)."""


@dataclass(frozen=True, kw_only=True)
class DetectionDataConfig:
    """Which images and boxes, and what is done to them."""

    dataset: Literal["coco", "voc"]
    """coco: annotations/instances_<split>.json and images/<split>/; voc: Pascal VOC's XML files and lists."""
    metrics: Literal["coco", "voc"] | None = None
    """By whose rules the detections are judged: coco gives COCO's 12 numbers, voc VOC's mAP; None: those of `dataset`.
    Crowds and difficult objects count as the same: they need not be found."""
    folder: str
    """Where the data set lies: an absolute path, or one below DATA_ROOT."""
    train_splits: tuple[str, ...]
    """coco: one name such as train2017; voc: <folder>/<list> such as VOC2007/trainval, any number of them."""
    val_splits: tuple[str, ...]
    """The same for evaluation."""
    class_names: tuple[str, ...] = ()
    """voc only: the classes in the order of their labels; empty: those of `class_file`."""
    class_file: str | None = None
    """voc only: a text file with one class name a line, a path below `folder` or absolute. None: classes.txt in
    `folder` where there is one, else Pascal VOC's twenty."""
    train_transforms: TransformList
    """Transforms of public/transforms/detection.py, of image and boxes together; the last one makes the canvas."""
    val_transforms: TransformList
    """The same for evaluation: one resize, nothing random."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted on the device from pixels scaled to 0..1, red green blue."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Divided by on the device."""
    group_by_aspect: int | None = None
    """Training batches hold images of similar shape, so that little of a canvas is padding: with k, images of 2k + 2
    groups of width / height, k for each doubling between 1/2 and 2 (0: upright or not). None: whatever comes."""
    download: bool = False
    """Fetch the published archives (and verify them) if the folder does not hold the splits."""

    @property
    def rules(self) -> Literal["coco", "voc"]:
        """By whose rules the detections are judged."""
        return self.metrics or self.dataset

    def __post_init__(self) -> None:
        require(all(s > 0 for s in self.std), f"data.std={self.std} must be above 0.")
        groups = self.group_by_aspect
        require(groups is None or groups >= 0, f"data.group_by_aspect={groups} must be 0 or more (None: no groups).")
        for name in ("train_splits", "val_splits"):
            require(bool(getattr(self, name)), f"data.{name} must name at least one split.")
        if self.dataset == "coco":
            one = len(self.train_splits) == len(self.val_splits) == 1
            require(one, "data.dataset='coco' takes one split each in data.train_splits and data.val_splits.")
            unused = self.class_file is None and not self.class_names
            require(unused, "data.class_file and data.class_names have no effect with COCO's format, which names them.")
        both = bool(self.class_names) and self.class_file is not None
        require(not both, "data.class_names and data.class_file both name the classes: give one of them.")


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """How the detector is built. None leaves a setting at the detector's own default; one that the chosen detector
    does not have is refused by its catalogue."""

    backbone: str
    """A name from `public.backbones.catalog.list_backbones()`."""
    frozen_stages: int = 0
    """Levels of the backbone, from the stem on, whose weights do not train: 0 none, 1 the stem, 2 also c2, ..."""
    frozen_batch_norm: bool = False
    """Whether the backbone's batch norms keep the statistics and weights they came with."""
    batch_norm_eps: float | None = None
    """retinanet, faster_rcnn, cascade_rcnn: what the backbone's batch norms add to a variance (1e-5); torchvision's
    RetinaNet and Faster R-CNN of COCO_V1 were trained with 0."""
    channels: int | None = None
    """Channels of the pyramid and the heads (256)."""
    num_convs: int | None = None
    """3x3 convolutions in each head tower (4)."""
    levels: tuple[str, ...] | None = None
    """The pyramid's levels. retinanet, fcos: such as p3 p4 p5 p6 p7. faster_rcnn, cascade_rcnn: such as p2 p3 p4 p5
    p6."""
    pyramid: Literal["standard", "detnet"] | None = None
    """faster_rcnn, cascade_rcnn: how the levels are joined (standard)."""
    focal_alpha: float | None = None
    """retinanet, fcos: weight of the positives in the focal loss (0.25)."""
    focal_gamma: float | None = None
    """retinanet, fcos: exponent of the focal loss (2)."""
    anchor_sizes: tuple[float, ...] | None = None
    """retinanet, faster_rcnn, cascade_rcnn: the square root of an anchor's area at each level, pixels."""
    anchors: Literal["centred", "torchvision"] | None = None
    """retinanet, faster_rcnn, cascade_rcnn: whether anchors lie around the middles of their cells (centred) or where
    torchvision's lie."""
    p6_from: Literal["c5", "p5"] | None = None
    """retinanet: what P6 comes from, the backbone's deepest map (c5) or the pyramid's."""
    box_loss: Literal["smooth_l1", "l1", "giou"] | None = None
    """retinanet: the loss of the boxes."""
    box_weights: tuple[float, float, float, float] | None = None
    """retinanet: what the numbers of a box's code, x y width height, are multiplied by (10 10 5 5)."""
    normalise: Literal["batch", "image"] | None = None
    """retinanet: whether losses are divided by the positives of the whole batch (batch) or image by image."""
    smooth_l1_beta: float | None = None
    """faster_rcnn, cascade_rcnn: error from which on the losses of boxes grow linearly (1/9)."""
    rpn_samples: int | None = None
    """faster_rcnn, cascade_rcnn: anchors of an image that a step learns from (256)."""
    num_candidates: tuple[int, int] | None = None
    """faster_rcnn, cascade_rcnn: boxes of a level before suppression, in training and afterwards (2000 1000)."""
    num_proposals: tuple[int, int] | None = None
    """faster_rcnn, cascade_rcnn: proposals of an image after it, in training and afterwards (2000 1000)."""
    roi_samples: int | None = None
    """faster_rcnn, cascade_rcnn: regions of an image that a step learns from (512)."""
    pool_size: int | None = None
    """faster_rcnn, cascade_rcnn: rows and columns that are cut out for each region (7)."""
    sampling_ratio: int | None = None
    """faster_rcnn, cascade_rcnn: samples of each of their cells in each direction; 0: by the region's size (2)."""
    aligned: bool | None = None
    """faster_rcnn, cascade_rcnn: whether regions are read where they are (yes) or half a pixel of their map off, as
    torchvision does."""
    head_channels: int | None = None
    """faster_rcnn, cascade_rcnn: channels of the hidden layers of the heads (1024); centernet: the same (64)."""
    class_agnostic: bool | None = None
    """faster_rcnn: one box for a region instead of one for each class (no); cascade_rcnn: always."""
    deformable: bool | None = None
    """centernet: whether the convolutions of the upsampling are deformable (yes)."""
    upsample_channels: tuple[int, ...] | None = None
    """centernet: channels of each doubling of the map (256 128 64)."""
    score_threshold: float | None = None
    """Detections with a lower score are left out."""
    iou_threshold: float | None = None
    """Of two boxes of one class with a higher overlap, the weaker goes (non-maximum suppression); centernet: only if
    given."""
    soft_nms: Literal["linear", "gaussian"] | None = None
    """faster_rcnn, cascade_rcnn: the weaker box only loses some of its score (it goes)."""
    soft_nms_sigma: float | None = None
    """faster_rcnn, cascade_rcnn: how slowly it does with soft_nms=gaussian (0.5)."""
    max_detections: int | None = None
    """The largest number of detections of an image (100)."""

    def __post_init__(self) -> None:
        require(self.frozen_stages >= 0, f"detector.frozen_stages={self.frozen_stages} must be 0 or more.")
        ratio, sigma = self.sampling_ratio, self.soft_nms_sigma
        require(
            ratio is None or 0 <= ratio <= LARGEST_SAMPLING_RATIO,
            f"detector.sampling_ratio={ratio} must lie within 0..{LARGEST_SAMPLING_RATIO}.",
        )
        require(
            sigma is None or self.soft_nms == "gaussian",
            f"detector.soft_nms_sigma={sigma} has no effect without detector.soft_nms='gaussian'.",
        )

    def options(self) -> dict[str, Any]:
        """The settings that are given, as arguments of `build_detector`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(RunConfig):
    """One row of a results table: a detector, a data set and the recipe that joins them."""

    canvas_size: tuple[int, int]
    """Height and width of the canvas in pixels (for counting multiply-adds; the transforms make it)."""
    backbone_weights: str | None = None
    """Classification weights of the backbone: a file, torchvision:<model>[.<weights>] or timm:<model>; None: random."""
    new_class_head: bool = False
    """Whether the layers of the classes start new, so that `initial_weights` may be of other classes."""
    best_metric: str = "AP"
    """The validation metric that chooses best.pth, the higher the better: COCO's AP, AP50, ...; VOC's mAP50, ..."""
    detector: DetectorConfig
    """How the detector is built."""
    data: DetectionDataConfig
    """Which images and boxes, and what is done to them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_side("canvas_size", self.canvas_size)
        given = METRICS[self.data.rules]
        setting = "dataset" if self.data.metrics is None else "metrics"
        require(
            self.best_metric in given,
            f"best_metric={self.best_metric!r} is not among the metrics of data.{setting}={self.data.rules!r}: "
            f"{', '.join(given)}.",
        )
        require(
            not self.sync_batch_norm or not (self.detector.frozen_batch_norm or self.detector.frozen_stages),
            "sync_batch_norm=True would move what detector.frozen_batch_norm and detector.frozen_stages keep still.",
        )
        require(
            self.backbone_weights is None or self.initial_weights is None,
            f"backbone_weights={self.backbone_weights!r} would be overwritten by "
            f"initial_weights={self.initial_weights!r}: give one of them.",
        )
        require(
            not self.new_class_head or self.initial_weights is not None,
            "new_class_head=True has no effect without initial_weights.",
        )
