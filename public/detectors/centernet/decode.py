"""From CenterNet's raw outputs to detections: a peak of a class's heatmap is an object."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.centernet.options import CenterNetOptions
from public.detectors.detector import Detections
from public.detectors.postprocess import ByImage, best_of_group, best_places, clip_to_content, pack
from public.detectors.suppression import suppress
from public.geometry.fixed_shapes import shapes_are_fixed
from public.geometry.labels import PADDING


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
    scores, labels, cells = find_peaks(heatmap, stride, sizes, options)  # [B, n] each
    rows, columns = cells // heatmap.shape[3], cells % heatmap.shape[3]
    at_peaks = (torch.arange(cells.shape[0], device=cells.device)[:, None], slice(None), rows, columns)
    centers = torch.stack([columns, rows], dim=2) + offsets[at_peaks].float()  # [B, n, 2]
    halves = box_sizes[at_peaks].float() / 2
    boxes = torch.cat([centers - halves, centers + halves], dim=2) * stride  # [B, n, 4]
    boxes = clip_to_content(boxes, sizes.content[:, None])
    are_boxes = (boxes[..., 2:] > boxes[..., :2]).all(dim=2)  # a size may come out negative
    labels = torch.where(are_boxes, labels, PADDING)
    if options.iou_threshold is not None:
        stays = suppress(boxes, scores, labels, options.iou_threshold, heatmap.shape[1])
        labels = torch.where(stays, labels, PADDING)
    return pack(boxes, scores, labels, sizes, options.max_detections)


def find_peaks(
    heatmap: Tensor, stride: int, sizes: ImageSizes, options: CenterNetOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Where a logit is the highest of its 3x3 neighborhood, above the threshold and on the image.

    Cells beside the image (on the canvas' filling, or beyond the canvas where its size is no multiple of the
    backbone's stride) hold no object's center: they are no peaks and hide none. Of equal neighbors, frequent in bf16,
    the first is the peak.

    Returns:
        The best of each image, at most `max_detections`, all [B, n]: scores float32, falling; classes int64, PADDING
        where there is none; cells int64, row * W + column.
    """
    threshold = options.score_threshold
    threshold = math.log(threshold / (1 - threshold)) if threshold > 0 else -math.inf
    found = _best_peaks if shapes_are_fixed(heatmap.device) else _few_best_peaks
    return found(heatmap, stride, sizes, threshold, options.max_detections)


def _best_peaks(
    heatmap: Tensor, stride: int, sizes: ImageSizes, threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `find_peaks`: the best cells, peaks or not, of which those that are none only fill up."""
    num_cells = heatmap.shape[2] * heatmap.shape[3]
    maps = _on_images(heatmap, stride, sizes.content[:, None])  # [B, C, H, W]
    are_peaks = _is_peak(maps) & (maps > threshold) & ~heatmap.amax(dim=(2, 3), keepdim=True).isnan()
    scores = torch.where(are_peaks, maps.float().sigmoid(), -torch.inf).flatten(1)
    best = best_places(scores, limit)  # [B, n]
    scores = scores.gather(1, best)
    return scores, torch.where(scores >= 0, best // num_cells, PADDING), best % num_cells


def _few_best_peaks(
    heatmap: Tensor, stride: int, sizes: ImageSizes, threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `find_peaks`: in a trained network few classes are anywhere near, and a CPU looks at their maps alone."""
    images, labels = torch.nonzero(heatmap.amax(dim=(2, 3)) > threshold, as_tuple=True)  # [P] each
    maps = _on_images(heatmap[images, labels], stride, sizes.content[images])  # [P, H, W]
    of_map, rows, columns = torch.nonzero(_is_peak(maps) & (maps > threshold), as_tuple=True)  # [n] each
    scores = maps[of_map, rows, columns].float().sigmoid()
    best = best_of_group(scores, images[of_map], limit)
    by_image = ByImage(images[of_map][best], len(heatmap))
    cells = rows[best] * heatmap.shape[3] + columns[best]
    return by_image.of(scores[best], -torch.inf), by_image.of(labels[of_map][best], PADDING), by_image.of(cells, 0)


def _on_images(maps: Tensor, stride: int, content_sizes: Tensor) -> Tensor:
    """Maps [..., H, W] with -inf beside the images, of height and width [..., 2] in pixels."""
    height, width = maps.shape[-2:]
    content = content_sizes.to(maps.device, non_blocking=True)[..., None]  # [..., 2, 1]
    in_rows = torch.arange(height, device=maps.device) * stride < content[..., 0, :]  # [..., H]
    in_columns = torch.arange(width, device=maps.device) * stride < content[..., 1, :]  # [..., W]
    return maps.masked_fill(~(in_rows[..., :, None] & in_columns[..., None, :]), -math.inf)


def _is_peak(maps: Tensor) -> Tensor:
    """Which entries of [..., H, W] are above the four neighbors that come before them and not below the four after."""
    x = F.pad(maps, (1, 1, 1, 1), value=-math.inf)  # [..., H + 2, W + 2]
    highest = torch.maximum(torch.maximum(x[..., :-2], x[..., 1:-1]), x[..., 2:])  # of three in a row
    left, right = x[..., 1:-1, :-2], x[..., 1:-1, 2:]  # [..., H, W] each
    above, below = highest[..., :-2, :], highest[..., 2:, :]
    return (maps > above) & (maps > left) & (maps >= right) & (maps >= below)
