"""What a CenterNet learns from the objects of a batch: a heatmap for each class, and numbers at the objects' centers.

All on the grid of the network's map, in its cells. The objects of all images are drawn at once: the squares they cover
lie one behind the other in a flat list of cells, however different they are in size, and where they overlap the
highest value stays. Where shapes are fixed (`public.geometry.fixed_shapes`), all have the square of the largest
possible object, with a mask.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from public.datasets.batches import DetectionBatch
from public.detectors.targets import FlatBoxes, flat_objects
from public.geometry.fixed_shapes import Chosen, pieces, shapes_are_fixed
from public.geometry.labels import IGNORED

OVERLAP = 0.7
"""The IoU that boxes with corners within the radius should keep."""
_MAX_CELLS = 2**22
"""Cells drawn at a time, which bounds the memory at a few hundred MiB: 32 images x 300 large objects are 4e7."""


class CenterNetTargets(NamedTuple):
    """What the maps of each image learn, in cells of h x w maps; M rows of objects, as in the batch."""

    heatmap: Tensor
    """float32 [B, num_classes, h, w]: 1 at a center, falling off around it, else 0; IGNORED where a cell
    takes no part."""
    are_objects: Tensor
    """bool [B, M]: the rows that hold an object; the others are 0 in what follows."""
    places: Tensor
    """int64 [B, M]: the cell in which the center lies, row * w + column."""
    offsets: Tensor
    """float32 [B, M, 2], x and y of the center within the cell, 0 to 1."""
    sizes: Tensor
    """float32 [B, M, 2], width and height."""


def targets_of(batch: DetectionBatch, num_classes: int, stride: int, map_size: tuple[int, int]) -> CenterNetTargets:
    """The targets of a batch, with `stride` pixels to a cell of the maps of height and width `map_size`."""
    centers = find_centers(flat_objects(batch), stride, map_size)
    heatmap = draw_heatmap(centers, (len(batch.images), num_classes, *map_size))
    mask_ignored(heatmap, batch.boxes, batch.labels, stride)
    are_objects = batch.labels >= 0  # [B, M], the rows of the flat list in its order
    objects = Chosen(are_objects)
    places = objects.back(centers.rows * map_size[1] + centers.columns)
    return CenterNetTargets(heatmap, are_objects, places, objects.back(centers.offsets), objects.back(centers.sizes))


class Centers(NamedTuple):
    """The T objects of a batch, by image, in cells of the map; where shapes are fixed, with all that is none."""

    images: Tensor
    """int64 [T], the image in the batch."""
    labels: Tensor
    """int64 [T], below 0 where there is no object."""
    rows: Tensor
    """int64 [T], the cell in which the center lies."""
    columns: Tensor
    """int64 [T]."""
    offsets: Tensor
    """float32 [T, 2], x and y of the center within the cell, 0 to 1."""
    sizes: Tensor
    """float32 [T, 2], width and height."""

    def cells(self, num_classes: int, map_size: tuple[int, int]) -> Tensor:
        """int64 [T], the places of the centers in a flattened heatmap [B, num_classes, *map_size]."""
        channels = self.images * num_classes + self.labels.clamp(min=0)
        return (channels * map_size[0] + self.rows) * map_size[1] + self.columns


def find_centers(objects: FlatBoxes, stride: int, map_size: tuple[int, int]) -> Centers:
    """Boxes in pixels to centers in cells."""
    boxes = objects.boxes / stride  # [T, 4]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # [T, 2], x y
    height, width = map_size
    # A box on the very edge may round to one cell beyond.
    columns = centers[:, 0].long().clamp(0, width - 1)
    rows = centers[:, 1].long().clamp(0, height - 1)
    offsets = centers - torch.stack([columns, rows], dim=1)
    return Centers(objects.images, objects.labels, rows, columns, offsets, boxes[:, 2:] - boxes[:, :2])


def gaussian_radii(sizes: Tensor) -> Tensor:
    """Widths and heights [T, 2] -> how far from its center an object's peak reaches, int64 [T], in whole cells.

    CornerNet asks how far two corners may move until the IoU falls to OVERLAP, in three cases, solves three quadratic
    equations and takes the smallest root. CenterNet, the 2020 monorepo and this function leave out to divide the roots
    by the leading coefficient. Of those the smallest is always the third, (b + sqrt(b^2 + 4 * 4 OVERLAP * (1 - OVERLAP)
    w h)) / 2 with b = -2 OVERLAP (w + h): as w h <= (w + h)^2 / 4 it is at most 0.14 (w + h), the first and the second
    at least (w + h) / 2.
    """
    width, height = sizes.ceil().unbind(1)
    b = -2 * OVERLAP * (width + height)
    root = (b + torch.sqrt(b * b + 16 * OVERLAP * (1 - OVERLAP) * width * height)) / 2
    return root.clamp(min=0).long()


def draw_heatmap(centers: Centers, shape: tuple[int, int, int, int]) -> Tensor:
    """The heatmaps float32 [B, num_classes, H, W] = `shape`: 1 at the centers, falling off around them, else 0.

    A peak is exp(-d^2 / (2 sigma^2)) in the square up to `gaussian_radii` away, which is 3 sigma; of overlapping
    ones of a class the higher counts. None reaches further than that of an object as large as the map.
    """
    heatmap = torch.zeros(shape, device=centers.images.device)
    radii = gaussian_radii(centers.sizes).clamp(max=_largest_radius(shape))
    if len(radii) == 0:
        return heatmap
    largest = _largest_radius(shape) if shapes_are_fixed(radii.device) else int(radii.max())
    for part in pieces(len(radii), _MAX_CELLS // (2 * largest + 1) ** 2):  # nearly always all at once
        cells, values = _squares(Centers(*(of_all[part] for of_all in centers)), radii[part], shape)
        heatmap.view(-1).scatter_reduce_(0, cells, values, "amax")
    return heatmap


def _largest_radius(shape: tuple[int, int, int, int]) -> int:
    """Of an object as large as the map, at least, see `gaussian_radii`; one more, for rounding."""
    return 14 * (shape[2] + shape[3]) // 100 + 1


def _squares(centers: Centers, radii: Tensor, shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """The cells of every object's square that lie on the map, int64 [n] in the flat heatmap, and their values [n]."""
    _, num_classes, height, width = shape
    fixed = shapes_are_fixed(radii.device)
    owners, down, right = _fixed_cells(centers, radii, shape) if fixed else _cells(radii)  # [n] each
    rows, columns = centers.rows[owners] + down, centers.columns[owners] + right
    on_map = Chosen(((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width))[None])
    sigmas = (2 * radii + 1).float() / 6
    values = torch.exp(-(down * down + right * right) / (2 * sigmas * sigmas)[owners])
    cells = centers.cells(num_classes, (height, width))[owners] + down * width + right
    cells, values = on_map.of(cells[None]), on_map.only(on_map.of(values[None]))
    if fixed:
        # What lies off the map has a value of 0, which changes nothing; in one cell a GPU would take it one by one.
        anywhere = torch.arange(len(cells), device=cells.device) % math.prod(shape)
        cells = torch.where(on_map.mask, cells, anywhere)
    return cells, values


def _cells(radii: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Radii [T] -> the objects that the cells of all their squares belong to, and how far these lie down and right of
    their centers, int64 [n] each."""
    sides = 2 * radii + 1  # [T]
    areas = sides * sides
    owners = torch.repeat_interleave(areas)  # [n]
    places = torch.arange(len(owners), device=owners.device) - (areas.cumsum(0) - areas)[owners]  # [n], in the square
    down = places // sides[owners] - radii[owners]
    return owners, down, places % sides[owners] - radii[owners]


def _fixed_cells(centers: Centers, radii: Tensor, shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The same, with as many cells for every object; those outside its square, and all of none, lie off the map."""
    reach = _largest_radius(shape)
    steps = torch.arange(-reach, reach + 1, device=radii.device)
    down, right = (x.flatten() for x in torch.meshgrid(steps, steps, indexing="ij"))  # [S * S] each
    distances = torch.maximum(down.abs(), right.abs())
    inside = (distances <= radii[:, None]) & (centers.labels >= 0)[:, None]  # [T, S * S]
    owners = torch.arange(len(radii), device=radii.device)[:, None].expand_as(inside)
    down = torch.where(inside, down, shape[2])
    return owners.flatten(), down.flatten(), right.expand_as(inside).flatten()


def mask_ignored(heatmap: Tensor, boxes: Tensor, labels: Tensor, stride: int) -> None:
    """Marks cells whose middle lies in an ignored region, in place, unless they are peaks.

    Args:
        heatmap: float32 [B, num_classes, H, W].
        boxes: float32 [B, M, 4], in pixels.
        labels: int64 [B, M], of which IGNORED matter.
        stride: pixels to a cell.
    """
    height, width = heatmap.shape[2:]
    x = (torch.arange(width, device=boxes.device) + 0.5) * stride
    y = (torch.arange(height, device=boxes.device) + 0.5) * stride
    x1, y1, x2, y2 = boxes.unsqueeze(-1).unbind(2)  # [B, M, 1] each
    in_columns = (x >= x1) & (x < x2)  # [B, M, W]
    in_rows = (y >= y1) & (y < y2) & (labels == IGNORED)[..., None]  # [B, M, H]
    # How many regions a cell lies in, without ever holding regions x rows x columns.
    depth = torch.bmm(in_rows.transpose(1, 2).float(), in_columns.float())  # [B, H, W]
    heatmap.masked_fill_((depth > 0)[:, None] & (heatmap < 1), IGNORED)
