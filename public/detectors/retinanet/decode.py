"""From RetinaNet's raw outputs to detections.

Every (anchor, class) pair is a candidate. At an anchor the best class has the best score, so the best k pairs lie at
the best k anchors by best class: after one pass over all logits, only those anchors are looked at class by class.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.detectors.levels import join_anchors
from public.detectors.postprocess import best_of_group, clip_to_content, pack, to_original
from public.detectors.retinanet.options import RetinaNetOptions
from public.detectors.suppression import nms
from public.geometry.boxes import decode_boxes


class _Candidates(NamedTuple):
    """(anchor, class) pairs of a level or of all levels, all [n]."""

    images: Tensor
    anchors: Tensor  # in the level, or in all
    classes: Tensor
    logits: Tensor


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
    threshold = torch.logit(torch.tensor(options.score_threshold, dtype=torch.float64)).item()  # -inf for 0
    found, first = [], 0
    for logits in class_logits:
        of_level = _candidates(logits, threshold, options.top_k)
        found.append(of_level._replace(anchors=of_level.anchors + first))
        first += logits.shape[1:4].numel()
    images, places, classes, logits = (torch.cat(parts) for parts in zip(*found, strict=True))  # [n] each
    deltas = join_anchors(box_deltas)[images, places].float()  # [n, 4]
    boxes = decode_boxes(deltas, anchors[places], options.box_weights)
    boxes = clip_to_content(boxes, images, sizes.content)
    scores = logits.sigmoid()
    kept = nms(boxes, scores, images * class_logits[0].shape[-1] + classes, options.iou_threshold)
    return pack(
        to_original(boxes[kept], images[kept], sizes),
        scores[kept],
        classes[kept],
        images[kept],
        batch_size=len(class_logits[0]),
        max_detections=options.max_detections,
    )


def _candidates(logits: Tensor, threshold: float, top_k: int) -> _Candidates:
    """The best pairs of one level in each image whose logits [B, H, W, A, C] are above the threshold."""
    best = logits.amax(dim=-1).flatten(1).float()  # [B, H * W * A]
    images, anchors = torch.nonzero(best > threshold, as_tuple=True)
    chosen = best_of_group(best[images, anchors], images, top_k)
    images, anchors = images[chosen], anchors[chosen]  # [m]
    _, _, width, num_shapes, _ = logits.shape
    cells, shapes = anchors // num_shapes, anchors % num_shapes
    of_anchors = logits[images, cells // width, cells % width, shapes].float()  # [m, C]
    rows, classes = torch.nonzero(of_anchors > threshold, as_tuple=True)
    chosen = best_of_group(of_anchors[rows, classes], images[rows], top_k)
    rows, classes = rows[chosen], classes[chosen]  # [n]
    return _Candidates(images[rows], anchors[rows], classes, of_anchors[rows, classes])
