"""From FCOS's raw outputs to detections.

The score of a (point, class) pair is sqrt(class probability x centerness). At a point the best class has the best
score, so the best k pairs lie at the best k points by best class: only their logits are looked at one by one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.detectors.fcos.options import FCOSOptions
from public.detectors.levels import join_points
from public.detectors.postprocess import best_of_group, clip_to_content, pack, to_original
from public.detectors.suppression import nms
from public.geometry.points import PointGrid


class _Candidates(NamedTuple):
    """(point, class) pairs of a level or of all levels, all [n]."""

    images: Tensor
    points: Tensor  # in the grid
    classes: Tensor
    scores: Tensor


def boxes_around(points: Tensor, sides: Tensor) -> Tensor:
    """Points [..., 2] and their distances to the left, top, right and bottom [..., 4] -> boxes [..., 4]."""
    return torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)


def decode(
    class_logits: Sequence[Tensor],
    box_logits: Sequence[Tensor],
    grid: PointGrid,
    to_sides: Callable[[Tensor, Tensor], Tensor],
    sizes: ImageSizes,
    options: FCOSOptions,
) -> Detections:
    """The detections of a batch.

    Args:
        class_logits: [B, C, H, W] of each level.
        box_logits: [B, 5, H, W] of each level.
        grid: the points.
        to_sides: outputs float32 [..., 4] and levels int64 [...] -> distances in pixels, float32 [..., 4].
        sizes: of the images.
        options: of the detector.
    """
    joined = join_points(box_logits)  # [B, P, 5]
    centerness = joined[..., 4].float().sigmoid()  # [B, P]
    found, first = [], 0
    for logits in class_logits:
        num_points = logits.shape[2] * logits.shape[3]
        of_level = _candidates(logits, centerness[:, first : first + num_points], options)
        found.append(of_level._replace(points=of_level.points + first))
        first += num_points
    images, points, classes, scores = (torch.cat(parts) for parts in zip(*found, strict=True))  # [n] each
    boxes = boxes_around(grid.centers[points], to_sides(joined[images, points, :4].float(), grid.levels[points]))
    boxes = clip_to_content(boxes, images, sizes.content)
    kept = nms(boxes, scores, images * class_logits[0].shape[1] + classes, options.iou_threshold)
    return pack(
        to_original(boxes[kept], images[kept], sizes),
        scores[kept],
        classes[kept],
        images[kept],
        batch_size=len(joined),
        max_detections=options.max_detections,
    )


def _candidates(logits: Tensor, centerness: Tensor, options: FCOSOptions) -> _Candidates:
    """The best pairs of one level in each image: logits [B, C, H, W], centerness [B, H * W]."""
    threshold, top_k = options.score_threshold, options.top_k
    best = _scores(logits.amax(dim=1).flatten(1), centerness)  # [B, H * W]
    images, points = torch.nonzero(best > threshold, as_tuple=True)
    chosen = best_of_group(best[images, points], images, top_k)
    images, points = images[chosen], points[chosen]  # [m]
    width = logits.shape[3]
    at_points = logits[images, :, points // width, points % width]  # [m, C]
    scores = _scores(at_points, centerness[images, points][:, None])  # [m, C]
    # k points have k pairs at least as good as the last of them, so no pair below it is among the best k.
    enough = torch.bincount(images, minlength=len(logits)) == top_k  # [B]
    last = best.new_full((len(logits),), torch.inf).scatter_reduce(0, images, best[images, points], "amin")  # [B]
    limits = torch.where(enough, last, threshold)[images]  # [m]
    pairs, classes = torch.nonzero((scores > threshold) & (scores >= limits[:, None]), as_tuple=True)
    chosen = best_of_group(scores[pairs, classes], images[pairs], top_k)
    pairs, classes = pairs[chosen], classes[chosen]  # [n]
    return _Candidates(images[pairs], points[pairs], classes, scores[pairs, classes])


def _scores(logits: Tensor, centerness: Tensor) -> Tensor:
    return (logits.float().sigmoid() * centerness).sqrt()
