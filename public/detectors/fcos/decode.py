"""From FCOS's raw outputs to detections.

Every (point, class) pair is a candidate, with the score sqrt(class probability x centerness).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.detectors.fcos.options import FCOSOptions
from public.detectors.levels import join_points
from public.detectors.postprocess import Pairs, best_pairs, clip_to_content, pack, rows_at
from public.detectors.suppression import suppress
from public.geometry.labels import PADDING
from public.geometry.points import PointGrid


def boxes_around(points: Tensor, sides: Tensor) -> Tensor:
    """Points [..., 2] and their distances to the left, top, right and bottom [..., 4] -> boxes [..., 4]."""
    to_lower, to_upper = sides.split(2, dim=-1)
    return torch.cat([points - to_lower, points + to_upper], dim=-1)


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
        found.append(of_level._replace(places=of_level.places + first))
        first += num_points
    scores, points, labels = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))  # [B, n] each
    sides = to_sides(rows_at(joined, points)[..., :4].float(), grid.levels[points])  # [B, n, 4]
    boxes = clip_to_content(boxes_around(grid.centers[points], sides), sizes.content[:, None])
    stays = suppress(boxes, scores, labels, options.iou_threshold, class_logits[0].shape[1])
    return pack(boxes, scores, torch.where(stays, labels, PADDING), sizes, options.max_detections)


def _candidates(logits: Tensor, centerness: Tensor, options: FCOSOptions) -> Pairs:
    """The best pairs of one level: logits [B, C, H, W], centerness [B, H * W]."""
    width = logits.shape[3]

    def scores_at(images: Tensor, points: Tensor) -> Tensor:
        return _scores(logits[images, :, points // width, points % width], centerness[images, points][..., None])

    best = _scores(logits.amax(dim=1).flatten(1), centerness)  # [B, H * W]
    return best_pairs(best, scores_at, options.score_threshold, options.top_k, logits.shape[1])


def _scores(logits: Tensor, centerness: Tensor) -> Tensor:
    return (logits.float().sigmoid() * centerness).sqrt()
