"""From the heads' last word on each region to detections."""

from typing import NamedTuple

import torch
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.detectors.faster_rcnn.options import TwoStageOptions
from public.detectors.faster_rcnn.regions import Regions
from public.detectors.postprocess import ByImage, best_places, clip_to_content, pack
from public.detectors.suppression import soft_nms, suppress
from public.geometry.boxes import BoxWeights, decode_boxes
from public.geometry.fixed_shapes import shapes_are_fixed
from public.geometry.labels import PADDING

_SMALLEST_SIDE = 1e-2
"""Of a detection, pixels of the canvas."""
_MAX_CANDIDATES = 4096
"""Pairs of a region and a class of an image that take part in the suppression where shapes are fixed. On a CPU all do
that are above the score's threshold, of which a trained network has a tenth of this."""


class _Candidates(NamedTuple):
    """Pairs of a region and a class, all [B, n]."""

    scores: Tensor
    regions: Tensor  # among the n regions of the batch
    labels: Tensor  # PADDING in what only fills up


def decode(
    probabilities: Tensor,
    deltas: Tensor,
    regions: Regions,
    exist: Tensor,
    box_weights: BoxWeights,
    sizes: ImageSizes,
    options: TwoStageOptions,
) -> Detections:
    """The detections of a batch.

    Args:
        probabilities: float32 [n, 1 + num_classes], background first.
        deltas: float32 [n, 1 + num_classes or 1, 4], see `encode_boxes`.
        regions: n of them, the `Chosen` of those that exist.
        exist: bool [B, R].
        box_weights: of the deltas.
        sizes: of the images.
        options: of the detector.
    """
    if (
        regions.boxes.shape[0] == 0
    ):  # on a CPU, where none may exist: one that is nothing, for what fills up to point at
        probabilities, deltas = (x.new_zeros(1, *x.shape[1:]) for x in (probabilities, deltas))
        regions = Regions(*(x.new_zeros(1, *x.shape[1:]) for x in regions))
    if shapes_are_fixed(exist.device):
        scores, rows, labels = _best_candidates(probabilities[:, 1:], exist, options.score_threshold)
    else:
        scores, rows, labels = _few_candidates(
            probabilities[:, 1:], regions.images, len(exist), options.score_threshold
        )
    of_class = deltas[rows, labels.clamp(min=0) + 1 if deltas.shape[1] > 1 else 0]  # [B, n, 4]
    boxes = decode_boxes(of_class, regions.boxes[rows], box_weights)
    boxes = clip_to_content(boxes, sizes.content[:, None])
    are_large = (boxes[..., 2:] - boxes[..., :2] >= _SMALLEST_SIDE).all(dim=2)
    labels = torch.where(are_large, labels, PADDING)
    if options.soft_nms is None:
        stays = suppress(boxes, scores, labels, options.iou_threshold, probabilities.shape[1] - 1)
    else:
        scores = soft_nms(
            boxes,
            scores,
            labels,
            method=options.soft_nms,
            iou_threshold=options.iou_threshold,
            sigma=options.soft_nms_sigma,
            limit=options.max_detections,
        )
        stays = scores > 0
    return pack(boxes, scores, torch.where(stays, labels, PADDING), sizes, options.max_detections)


def _best_candidates(probabilities: Tensor, exist: Tensor, threshold: float) -> _Candidates:
    """The best of each image: probabilities [B * R, C]."""
    (batch_size, num_regions), num_classes = exist.shape, probabilities.shape[1]
    scores = torch.where(exist.flatten()[:, None], probabilities, -torch.inf).view(batch_size, -1)  # [B, R * C]
    best = best_places(scores, _MAX_CANDIDATES)  # [B, n]
    scores = scores.gather(1, best)
    rows = torch.arange(batch_size, device=best.device)[:, None] * num_regions + best // num_classes
    labels = torch.where(scores > threshold, best % num_classes, PADDING)
    return _Candidates(scores, rows, labels)


def _few_candidates(probabilities: Tensor, images: Tensor, batch_size: int, threshold: float) -> _Candidates:
    """Those above the threshold: probabilities [n, C] of regions of images [n]."""
    rows, labels = torch.nonzero(probabilities > threshold, as_tuple=True)  # [m] each
    by_image = ByImage(images[rows], batch_size)
    return _Candidates(
        by_image.of(probabilities[rows, labels], -torch.inf), by_image.of(rows, 0), by_image.of(labels, PADDING)
    )
