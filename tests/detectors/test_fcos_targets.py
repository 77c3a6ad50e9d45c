"""Which point learns which object: against hand-worked numbers and plain loops."""

import math
from typing import Any

import pytest
import torch

from public.datasets.batches import DetectionBatch
from public.detectors.fcos.options import CenterSampling
from public.detectors.fcos.targets import PointTargets, assign, centerness, size_ranges
from public.detectors.targets import flat_ignored, flat_objects
from public.geometry.labels import BACKGROUND, IGNORED
from public.geometry.points import map_sizes, point_grid
from tests.detectors.reference import Objects, batch_of

CPU = torch.device("cpu")
CANVAS = (64, 64)


def targets_of(
    batch: DetectionBatch, strides: tuple[int, ...] = (8, 16, 32), center_sampling: CenterSampling = "circle"
) -> PointTargets:
    grid = point_grid((batch.images.shape[2], batch.images.shape[3]), strides, CPU)
    objects, ignored = flat_objects(batch), flat_ignored(batch)
    return assign(grid, objects, ignored, batch_size=len(batch.images), center_sampling=center_sampling)


def test_targets_by_hand() -> None:
    """Points at 4, 12, 20, 28, ... The box's middle is (20, 18); 6 points lie inside and within 12 pixels of it."""
    targets = targets_of(batch_of([[((10, 10, 30, 26), 1)]], CANVAS))
    first_level = targets.labels[0, :64].view(8, 8)
    assert torch.nonzero(first_level == 1).tolist() == [[y, x] for y in (1, 2) for x in (1, 2, 3)]
    assert (targets.labels == BACKGROUND).sum() == 64 + 16 + 4 - 6
    assert torch.nonzero(targets.labels[0] >= 0).flatten().tolist() == [9, 10, 11, 17, 18, 19]
    assert targets.boxes[targets.labels >= 0].tolist() == [[10, 10, 30, 26]] * 6
    assert not targets.boxes[targets.labels < 0].any()


def test_centerness_by_hand() -> None:
    """In the middle 1; at (20, 20) of (10, 10, 30, 26): sqrt(10/10 * 6/10)."""
    sides = torch.tensor([[5.0, 3, 5, 3], [10, 10, 10, 6], [2, 2, 18, 14]])
    assert centerness(sides).tolist() == pytest.approx([1, math.sqrt(0.6), math.sqrt(2 / 18 * 2 / 14)])


def test_a_circle_leaves_out_the_corner_of_the_square() -> None:
    """From the middle (22, 22) the point (12, 12) is 14.1 pixels away, but 10 in each axis."""
    batch = batch_of([[((2, 2, 42, 42), 0)]], CANVAS)
    assert (targets_of(batch, (8,)).labels >= 0).sum() == 8
    assert (targets_of(batch, (8,), "square").labels >= 0).sum() == 9


def test_ranges() -> None:
    lower, upper = size_ranges(torch.tensor([8.0, 16, 32, 64, 128]))
    assert lower.tolist() == [0, 64, 128, 256, 512]
    assert upper.tolist() == [64, 128, 256, 512, math.inf]
    assert size_ranges(torch.tensor([8.0]))[1].tolist() == [math.inf]


def test_ignored_regions_spare_background_only() -> None:
    """Object inside a region: its points stay. A region of one image leaves the others alone."""
    batch = batch_of([[((0, 0, 64, 64), IGNORED), ((10, 10, 30, 26), 1)], [((0, 0, 20, 20), IGNORED)]], CANVAS)
    labels = targets_of(batch).labels
    assert (labels[0] == 1).sum() == 6
    assert (labels[0] == IGNORED).sum() == 84 - 6
    # 4 and 12 of the first level in each axis, 8 of the second, 16 of the third.
    assert (labels[1] == IGNORED).sum() == 4 + 1 + 1
    assert (labels[1] == BACKGROUND).sum() == 84 - 6


def slow_targets(objects: Objects, canvas_size: tuple[int, int], strides: tuple[int, ...]) -> list[tuple[int, Any]]:
    """(label, box) of each point: one point, then one object at a time, in plain numbers."""
    limits = [0, *(8 * s for s in strides[:-1]), math.inf]
    found = []
    for level, (stride, (rows, columns)) in enumerate(zip(strides, map_sizes(canvas_size, strides), strict=True)):
        for cell in range(rows * columns):
            x, y = (cell % columns + 0.5) * stride, (cell // columns + 0.5) * stride
            best, smallest = (BACKGROUND, None), math.inf
            for (x1, y1, x2, y2), label in objects:
                sides = (x - x1, y - y1, x2 - x, y2 - y)
                away = math.hypot(x - (x1 + x2) / 2, y - (y1 + y2) / 2)
                area = (x2 - x1) * (y2 - y1)
                on_level = limits[level] < max(sides) < limits[level + 1]
                if min(sides) > 0 and on_level and away < 1.5 * stride and area < smallest:
                    best, smallest = (label, [x1, y1, x2, y2]), area
            found.append(best)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("strides", [(8, 16, 32), (8, 16, 32, 64, 128), (16,)])
def test_targets_against_plain_loops(strides: tuple[int, ...]) -> None:
    """Boxes at quarters of pixels, of 1 pixel to the whole canvas, some equal, some of equal area."""
    generator = torch.Generator().manual_seed(1)
    canvas_size = (200, 300)
    images = []
    for count in (25, 0, 1, 40):
        middle = torch.rand(count, 2, generator=generator) * torch.tensor([300.0, 200.0])
        half = 150 ** torch.rand(count, 2, generator=generator) / 2
        corners = torch.cat([middle - half, middle + half], dim=1)
        corners = (corners.mul(4).round() / 4).clamp(min=0).minimum(torch.tensor([300.0, 200, 300, 200]))
        corners = corners[((corners[:, 2:] - corners[:, :2]) > 0.5).all(dim=1)]
        objects = [(tuple(box), i % 7) for i, box in enumerate(corners.tolist())]
        images.append([*objects, *((box, 6 - label) for box, label in objects[::5])])
    images[3].append(((0.0, 0.0, 300.0, 200.0), 3))
    targets = targets_of(batch_of(images, canvas_size), strides)
    expected = [slow_targets(objects, canvas_size, strides) for objects in images]
    assert targets.labels.tolist() == [[label for label, _ in points] for points in expected]
    boxes = [box for points in expected for _, box in points if box is not None]
    assert len(boxes) > 50
    assert targets.boxes[targets.labels >= 0].tolist() == boxes
