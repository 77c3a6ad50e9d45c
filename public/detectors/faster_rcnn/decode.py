"""From the heads' last word on each region to detections."""

from typing import NamedTuple, get_args

import torch
from torch import Tensor

from public.config.checks import require
from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.detectors.faster_rcnn.regions import Regions
from public.detectors.postprocess import SoftNMS, clip_to_content, pack, soft_suppress, suppress, to_original
from public.geometry.boxes import BoxWeights, decode_boxes

_SMALLEST_SIDE = 1e-2
"""Of a detection, pixels of the canvas."""


class DecodeOptions(NamedTuple):
    """What becomes a detection."""

    score_threshold: float
    """Scores must be above it."""
    iou_threshold: float
    """Of two boxes of one class with a higher overlap, the weaker goes, or loses by "linear" soft suppression."""
    soft_nms: SoftNMS | None
    """See `soft_suppress`; None: the weaker box goes."""
    soft_nms_sigma: float
    """See `soft_suppress`."""
    max_detections: int
    """Of an image."""

    def check(self) -> None:
        """Raises ValueError where a value is out of range."""
        for name in ("score_threshold", "iou_threshold"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name}={value} must lie within [0, 1].")
        known = self.soft_nms is None or self.soft_nms in get_args(SoftNMS)
        require(known, f"soft_nms={self.soft_nms!r} must be one of {', '.join(get_args(SoftNMS))}, or None.")
        require(self.soft_nms_sigma > 0, f"soft_nms_sigma={self.soft_nms_sigma} must be greater than 0.")
        require(self.max_detections >= 1, f"max_detections={self.max_detections} must be 1 or more.")


def decode(
    probabilities: Tensor,
    codes: Tensor,
    regions: Regions,
    box_weights: BoxWeights,
    sizes: ImageSizes,
    options: DecodeOptions,
) -> Detections:
    """The detections of a batch.

    Args:
        probabilities: float32 [n, 1 + num_classes], background first.
        codes: float32 [n, 1 + num_classes or 1, 4], see `encode_boxes`.
        regions: n of them.
        box_weights: of the codes.
        sizes: of the images.
        options: what becomes a detection.
    """
    num_classes = probabilities.shape[1] - 1
    rows, labels = torch.nonzero(probabilities[:, 1:] > options.score_threshold, as_tuple=True)  # [m] each
    scores, images = probabilities[rows, labels + 1], regions.images[rows]
    of_class = codes[rows, labels + 1 if codes.shape[1] > 1 else 0]  # [m, 4]
    boxes = clip_to_content(decode_boxes(of_class, regions.boxes[rows], box_weights), images, sizes)
    large = torch.nonzero((boxes[:, 2:] - boxes[:, :2] >= _SMALLEST_SIDE).all(dim=1)).flatten()
    boxes, scores, labels, images = (x[large] for x in (boxes, scores, labels, images))
    kept, scores = _suppress(boxes, scores, images * num_classes + labels, options)
    return pack(
        to_original(boxes[kept], images[kept], sizes),
        scores,
        labels[kept],
        images[kept],
        batch_size=len(sizes.content),
        max_detections=options.max_detections,
    )


def _suppress(boxes: Tensor, scores: Tensor, groups: Tensor, options: DecodeOptions) -> tuple[Tensor, Tensor]:
    """Which boxes stay, int64 [m], and their scores [m], falling."""
    if options.soft_nms is None:
        kept = suppress(boxes, scores, groups, options.iou_threshold)
        return kept, scores[kept]
    return soft_suppress(
        boxes,
        scores,
        groups,
        method=options.soft_nms,
        iou_threshold=options.iou_threshold,
        sigma=options.soft_nms_sigma,
        limit=options.max_detections,
    )
