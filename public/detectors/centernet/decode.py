"""From CenterNet's raw outputs to detections: a peak of a class's heatmap is an object."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.centernet.options import CenterNetOptions
from public.detectors.detector import Detections
from public.detectors.postprocess import best_of_group, clip_to_content, pack, to_original
from public.detectors.suppression import nms


def decode(
    heatmap: Tensor, offsets: Tensor, box_sizes: Tensor, stride: int, sizes: ImageSizes, options: CenterNetOptions
) -> Detections:
    """The detections of a batch.

    Args:
        heatmap: logits [B, num_classes, H, W].
        offsets: [B, 2, H, W], x and y of an object's center in its cell, in cells.
        box_sizes: [B, 2, H, W], width and height of the object in cells.
        stride: pixels of the canvas to a cell.
        sizes: of the images.
        options: of the detector.
    """
    images, labels, rows, columns = find_peaks(heatmap, stride, sizes, options.score_threshold)  # [n] each
    scores = heatmap[images, labels, rows, columns].float().sigmoid()
    best = best_of_group(scores, images, options.max_detections)
    images, labels, rows, columns, scores = (x[best] for x in (images, labels, rows, columns, scores))  # [m] each

    centers = torch.stack([columns, rows], dim=1) + offsets[images, :, rows, columns].float()  # [m, 2]
    halves = box_sizes[images, :, rows, columns].float() / 2
    boxes = torch.cat([centers - halves, centers + halves], dim=1) * stride  # [m, 4]
    boxes = clip_to_content(boxes, images, sizes.content)
    kept = torch.nonzero((boxes[:, 2:] > boxes[:, :2]).all(dim=1)).squeeze(1)  # a size may come out negative
    if options.iou_threshold is not None:
        groups = images * heatmap.shape[1] + labels
        kept = kept[nms(boxes[kept], scores[kept], groups[kept], options.iou_threshold)]
    return pack(
        to_original(boxes[kept], images[kept], sizes),
        scores[kept],
        labels[kept],
        images[kept],
        batch_size=len(heatmap),
        max_detections=options.max_detections,
    )


def find_peaks(
    heatmap: Tensor, stride: int, sizes: ImageSizes, score_threshold: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where a logit is the highest of its 3x3 neighborhood, above the threshold and on the image.

    Cells beside the image (on the canvas' filling, or beyond the canvas where its size is no multiple of the
    backbone's stride) hold no object's center: they are no peaks and hide none. Of equal neighbors, frequent in bf16,
    the first is the peak.

    Returns:
        Images, classes, rows and columns, int64 [n] each.
    """
    threshold = math.log(score_threshold / (1 - score_threshold)) if score_threshold > 0 else -math.inf
    # In a trained network few classes are anywhere near: only their maps are looked at place by place.
    images, labels = torch.nonzero(heatmap.amax(dim=(2, 3)) > threshold, as_tuple=True)  # [P] each
    maps = heatmap[images, labels]  # [P, H, W]
    height, width = maps.shape[1:]
    content = sizes.content.to(maps.device)[images, :, None]  # [P, 2, 1]
    in_rows = torch.arange(height, device=maps.device) * stride < content[:, 0]  # [P, H]
    in_columns = torch.arange(width, device=maps.device) * stride < content[:, 1]  # [P, W]
    maps = maps.masked_fill(~(in_rows[:, :, None] & in_columns[:, None, :]), -math.inf)
    of_map, rows, columns = torch.nonzero(_is_peak(maps) & (maps > threshold), as_tuple=True)  # [n] each
    return images[of_map], labels[of_map], rows, columns


def _is_peak(maps: Tensor) -> Tensor:
    """Which entries of [P, H, W] are above the four neighbors that come before them and not below the four after."""
    x = F.pad(maps, (1, 1, 1, 1), value=-math.inf)  # [P, H + 2, W + 2]
    highest = torch.maximum(torch.maximum(x[..., :-2], x[..., 1:-1]), x[..., 2:])  # [P, H + 2, W], of three in a row
    left, right = x[:, 1:-1, :-2], x[:, 1:-1, 2:]  # [P, H, W] each
    above, below = highest[:, :-2], highest[:, 2:]
    return (maps > above) & (maps > left) & (maps >= right) & (maps >= below)
