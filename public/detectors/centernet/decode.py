"""From CenterNet's raw outputs to detections: a peak of a class's heatmap is an object."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from public.config.sections import require
from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.detectors.postprocess import best_of_group, clip_to_content, pack, suppress, to_original


class DecodeOptions(NamedTuple):
    """What becomes a detection."""

    score_threshold: float
    """Scores must be above it."""
    iou_threshold: float | None
    """Of two boxes of one class with a higher overlap, the weaker goes; None: all stay."""
    max_detections: int
    """Of an image."""

    def check(self) -> None:
        """Raises ValueError where a value is out of range."""
        require(0 <= self.score_threshold < 1, f"score_threshold={self.score_threshold} must lie within [0, 1).")
        in_range = self.iou_threshold is None or 0 <= self.iou_threshold <= 1
        require(in_range, f"iou_threshold={self.iou_threshold} must lie within [0, 1], or be None for no suppression.")
        require(self.max_detections >= 1, f"max_detections={self.max_detections} must be 1 or more.")


def decode(
    heatmap: Tensor, offsets: Tensor, box_sizes: Tensor, stride: int, sizes: ImageSizes, options: DecodeOptions
) -> Detections:
    """The detections of a batch.

    Args:
        heatmap: logits [B, num_classes, H, W].
        offsets: [B, 2, H, W], x and y of an object's centre in its cell, in cells.
        box_sizes: [B, 2, H, W], width and height of the object in cells.
        stride: pixels of the canvas to a cell.
        sizes: of the images.
        options: what becomes a detection.
    """
    images, labels, rows, columns = find_peaks(heatmap, stride, sizes, options.score_threshold)  # [n] each
    scores = heatmap[images, labels, rows, columns].float().sigmoid()
    best = best_of_group(scores, images, options.max_detections)
    images, labels, rows, columns, scores = (x[best] for x in (images, labels, rows, columns, scores))  # [m] each

    centres = torch.stack([columns, rows], dim=1) + offsets[images, :, rows, columns].float()  # [m, 2]
    halves = box_sizes[images, :, rows, columns].float() / 2
    boxes = torch.cat([centres - halves, centres + halves], dim=1) * stride  # [m, 4]
    boxes = clip_to_content(boxes, images, sizes)
    kept = torch.nonzero((boxes[:, 2:] > boxes[:, :2]).all(dim=1)).squeeze(1)  # a size may come out negative
    if options.iou_threshold is not None:
        groups = images * heatmap.shape[1] + labels
        kept = kept[suppress(boxes[kept], scores[kept], groups[kept], options.iou_threshold)]
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
    """Where a logit is the highest of its 3x3 neighbourhood, above the threshold and on the image.

    Cells beside the image (on the canvas' filling, or beyond the canvas where its size is no multiple of the
    backbone's stride) hold no object's centre: they are no peaks and hide none. Of equal neighbours, frequent in bf16,
    the first is the peak.

    Returns:
        Images, classes, rows and columns, int64 [n] each.
    """
    height, width = heatmap.shape[2:]
    content = sizes.content.to(heatmap.device)[:, :, None]  # [B, 2, 1]
    in_rows = torch.arange(height, device=heatmap.device) * stride < content[:, 0]  # [B, H]
    in_columns = torch.arange(width, device=heatmap.device) * stride < content[:, 1]  # [B, W]
    outside = ~(in_rows[:, :, None] & in_columns[:, None, :])  # [B, H, W]
    threshold = math.log(score_threshold / (1 - score_threshold)) if score_threshold > 0 else -math.inf
    x = F.pad(heatmap.masked_fill(outside[:, None], -math.inf), (1, 1, 1, 1), value=-math.inf)  # [B, C, H + 2, W + 2]
    highest = torch.maximum(torch.maximum(x[..., :-2], x[..., 1:-1]), x[..., 2:])  # [B, C, H + 2, W], of three in a row
    x = x[:, :, 1:-1]
    left, x, right = x[..., :-2], x[..., 1:-1], x[..., 2:]  # [B, C, H, W] each
    above, below = highest[:, :, :-2], highest[:, :, 2:]
    is_peak = (x > threshold) & (x > above) & (x > left) & (x >= right) & (x >= below)
    images, labels, rows, columns = torch.nonzero(is_peak, as_tuple=True)
    return images, labels, rows, columns
