"""Where points lie, and whether all that are near a place are found."""

from typing import get_args

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from public.geometry.layouts import Layout
from public.geometry.points import map_sizes, point_grid, points_near

CPU = torch.device("cpu")
STRIDES = (8, 16, 32, 64, 128)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


def test_points_of_a_small_canvas() -> None:
    """20 x 30 pixels: 3 x 4 cells of 8 pixels, then 2 x 2 cells of 16; the last ones' middles may lie outside."""
    grid = point_grid((20, 30), (8, 16), CPU)
    assert map_sizes((20, 30), (8, 16)) == [(3, 4), (2, 2)]
    first_level = [[x, y] for y in (4, 12, 20) for x in (4, 12, 20, 28)]
    assert grid.centers.tolist() == [*first_level, [8, 8], [24, 8], [8, 24], [24, 24]]
    assert grid.levels.tolist() == [0] * 12 + [1] * 4
    assert grid.sizes.tolist() == [[4, 3], [2, 2]]
    assert grid.first.tolist() == [0, 12]
    assert grid.strides.tolist() == [8, 16]


def test_sizes_of_2020() -> None:
    """84, 42, 21, 11 and 6 cells across 667 pixels; 125, 63, 32, 16 and 8 across 1000."""
    assert [height for height, _ in map_sizes((667, 667), STRIDES)] == [84, 42, 21, 11, 6]
    assert [width for _, width in map_sizes((667, 1000), STRIDES)] == [125, 63, 32, 16, 8]


@pytest.mark.parametrize("canvas_size", [(224, 352), (32, 64), (800, 1344)])
def test_torchvisions_points(canvas_size: tuple[int, int]) -> None:
    generator = AnchorGenerator(tuple((s,) for s in STRIDES), ((1.0,),) * 5)
    maps = [torch.zeros(1, 1, *size) for size in map_sizes(canvas_size, STRIDES)]
    (anchors,) = generator(ImageList(torch.zeros(1, 3, *canvas_size), [canvas_size]), maps)
    grid = point_grid(canvas_size, STRIDES, CPU, "torchvision")
    assert torch.equal(grid.centers, (anchors[:, :2] + anchors[:, 2:]) / 2)
    assert torch.equal(grid.strides[grid.levels], anchors[:, 2] - anchors[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("canvas_size", [(20, 30), (64, 32), (224, 352), (667, 667), (130, 1000)])
def test_no_near_point_is_missed(canvas_size: tuple[int, int], layout: Layout) -> None:
    """Against the distances to all points, from random places, from the points and from halfway between them."""
    grid = point_grid(canvas_size, STRIDES, CPU, layout)
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(200, 2, generator=generator) * torch.tensor(canvas_size).flip(0) * 1.2 - 10
    places = torch.cat([places, grid.centers[::7], grid.centers[::5] + 4, torch.tensor([[0.0, 0.0]])])
    points, exists = points_near(grid, places, 1.5)
    found = torch.zeros(len(places), len(grid.centers), dtype=torch.bool)
    rows = torch.arange(len(places))[:, None].expand_as(points)
    found[rows[exists], points[exists]] = True
    assert found.sum() == exists.sum()  # none twice
    distances = (grid.centers - places[:, None]).abs().amax(dim=2)  # [T, P]
    near = distances < 1.5 * grid.strides[grid.levels]
    assert near.sum() > 200
    assert not (near & ~found).any()


def test_grids_are_kept_and_can_train() -> None:
    """Even one that was made in inference mode, whose tensors autograd would refuse."""
    with torch.inference_mode():
        grid = point_grid((24, 40), (8,), CPU)
    assert point_grid((24, 40), (8,), CPU) is grid
    weight = torch.ones(2, requires_grad=True)
    (grid.centers * weight).sum().backward()
    assert weight.grad is not None
