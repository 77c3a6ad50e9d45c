"""From RetinaNet's raw outputs to detections. Every (anchor, class) pair is a candidate."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.detectors.levels import join_anchors
from public.detectors.postprocess import Pairs, best_pairs, clip_to_content, pack, rows_at
from public.detectors.retinanet.options import RetinaNetOptions
from public.detectors.suppression import suppress
from public.geometry.boxes import decode_boxes
from public.geometry.labels import PADDING


def decode(
    class_logits: Sequence[Tensor],
    box_deltas: Sequence[Tensor],
    anchors: Tensor,
    sizes: ImageSizes,
    options: RetinaNetOptions,
) -> Detections:
    """The detections of a batch.

    Args:
        class_logits: [B, H, W, A, C] of each level.
        box_deltas: [B, H, W, A, 4] of each level.
        anchors: float32 [N, 4] of all levels.
        sizes: of the images.
        options: of the detector.
    """
    found, first = [], 0
    for logits in class_logits:
        of_level = _candidates(logits, options)
        found.append(of_level._replace(places=of_level.places + first))
        first += logits.shape[1:4].numel()
    logits, places, labels = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))  # [B, n] each
    deltas = rows_at(join_anchors(box_deltas), places).float()  # [B, n, 4]
    boxes = decode_boxes(deltas, anchors[places], options.box_weights)
    boxes = clip_to_content(boxes, sizes.content[:, None])
    scores = logits.sigmoid()
    stays = suppress(boxes, scores, labels, options.iou_threshold, class_logits[0].shape[-1])
    return pack(boxes, scores, torch.where(stays, labels, PADDING), sizes, options.max_detections)


def _candidates(logits: Tensor, options: RetinaNetOptions) -> Pairs:
    """The best pairs of one level [B, H, W, A, C], whose scores are logits."""
    threshold = options.score_threshold
    threshold = math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.copysign(math.inf, threshold - 0.5)
    _, _, width, num_shapes, num_classes = logits.shape

    def scores_at(images: Tensor, anchors: Tensor) -> Tensor:
        cells, shapes = anchors // num_shapes, anchors % num_shapes
        return logits[images, cells // width, cells % width, shapes].float()

    best = logits.amax(dim=-1).flatten(1).float()  # [B, H * W * A]
    return best_pairs(best, scores_at, threshold, options.top_k, num_classes)
