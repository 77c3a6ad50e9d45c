"""From the heads' last word on each region to detections."""

import torch
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.detectors.faster_rcnn.options import TwoStageOptions
from public.detectors.faster_rcnn.regions import Regions
from public.detectors.postprocess import clip_to_content, pack, to_original
from public.detectors.suppression import nms, soft_nms
from public.geometry.boxes import BoxWeights, decode_boxes

_SMALLEST_SIDE = 1e-2
"""Of a detection, pixels of the canvas."""


def decode(
    probabilities: Tensor,
    deltas: Tensor,
    regions: Regions,
    box_weights: BoxWeights,
    sizes: ImageSizes,
    options: TwoStageOptions,
) -> Detections:
    """The detections of a batch.

    Args:
        probabilities: float32 [n, 1 + num_classes], background first.
        deltas: float32 [n, 1 + num_classes or 1, 4], see `encode_boxes`.
        regions: n of them.
        box_weights: of the deltas.
        sizes: of the images.
        options: of the detector.
    """
    num_classes = probabilities.shape[1] - 1
    rows, labels = torch.nonzero(probabilities[:, 1:] > options.score_threshold, as_tuple=True)  # [m] each
    scores, images = probabilities[rows, labels + 1], regions.images[rows]
    of_class = deltas[rows, labels + 1 if deltas.shape[1] > 1 else 0]  # [m, 4]
    boxes = decode_boxes(of_class, regions.boxes[rows], box_weights)
    boxes = clip_to_content(boxes, images, sizes.content)
    large = torch.nonzero((boxes[:, 2:] - boxes[:, :2] >= _SMALLEST_SIDE).all(dim=1)).flatten()
    boxes, scores, labels, images = (x[large] for x in (boxes, scores, labels, images))
    kept, scores = _without_lesser(boxes, scores, images * num_classes + labels, options)
    return pack(
        to_original(boxes[kept], images[kept], sizes),
        scores,
        labels[kept],
        images[kept],
        batch_size=len(sizes.content),
        max_detections=options.max_detections,
    )


def _without_lesser(boxes: Tensor, scores: Tensor, groups: Tensor, options: TwoStageOptions) -> tuple[Tensor, Tensor]:
    """Which boxes stay, int64 [m], and their scores [m], falling."""
    if options.soft_nms is None:
        kept = nms(boxes, scores, groups, options.iou_threshold)
        return kept, scores[kept]
    return soft_nms(
        boxes,
        scores,
        groups,
        method=options.soft_nms,
        iou_threshold=options.iou_threshold,
        sigma=options.soft_nms_sigma,
        limit=options.max_detections,
    )
