"""Anchors against torchvision's generator and numbers worked out by hand."""

import math
from typing import Any

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import _default_anchorgen

from public.geometry.anchors import NUM_SHAPES, pyramid_anchors
from public.geometry.points import map_sizes

CPU = torch.device("cpu")
STRIDES = (8, 16, 32, 64, 128)
SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)


@pytest.mark.parametrize(("size", "count"), [(667, 84762), (1000, 188442)])
def test_numbers_of_2020(size: int, count: int) -> None:
    assert pyramid_anchors((size, size), STRIDES, SIZES, CPU).shape == (count, 4)


def test_one_cell_by_hand() -> None:
    """Around (4, 4): 32 x 32 with width to height 1/2, 1, 2 of the same area, each times 1, 2^(1/3), 2^(2/3)."""
    anchors = pyramid_anchors((8, 8), (8,), (32.0,), CPU)
    expected = []
    for ratio in (0.5, 1, 2):
        for exponent in (0, 1 / 3, 2 / 3):
            size = 32 * 2**exponent
            width, height = size * math.sqrt(ratio), size / math.sqrt(ratio)
            expected.append([4 - width / 2, 4 - height / 2, 4 + width / 2, 4 + height / 2])
    assert len(expected) == NUM_SHAPES
    torch.testing.assert_close(anchors, torch.tensor(expected), rtol=1e-7, atol=0)


def test_order_of_cells_and_levels() -> None:
    """Canvas 17 x 30 at strides 8 and 16: 3 rows of 4, then 2 rows of 2, by the middles of the square anchors."""
    anchors = pyramid_anchors((17, 30), (8, 16), (32.0, 64.0), CPU)
    assert len(anchors) == 9 * (3 * 4 + 2 * 2)
    squares = anchors[3::9]
    middles = ((squares[:, :2] + squares[:, 2:]) / 2).tolist()
    first = [[x, y] for y in (4, 12, 20) for x in (4, 12, 20, 28)]
    assert middles == first + [[8, 8], [24, 8], [8, 24], [24, 24]]
    assert (squares[:, 2] - squares[:, 0]).tolist() == [32] * 12 + [64] * 4


@pytest.mark.parametrize("canvas", [(224, 352), (800, 1088), (192, 320), (64, 64)])
def test_torchvisions_layout(canvas: tuple[int, int]) -> None:
    """To the last bit, also where the canvas is no multiple of the last stride."""
    maps = [torch.zeros(1, 1, *size) for size in map_sizes(canvas, STRIDES)]
    expected = _default_anchorgen()(ImageList(torch.zeros(1, 3, *canvas), [canvas]), maps)[0]
    assert torch.equal(pyramid_anchors(canvas, STRIDES, SIZES, CPU, "torchvision"), expected)


@pytest.mark.parametrize("layout", ["centered", "torchvision"])
def test_other_scales(layout: Any) -> None:
    """With one scale, a proposal network's three shapes: every third of those with three."""
    one = pyramid_anchors((96, 64), STRIDES, SIZES, CPU, layout, (1.0,))
    assert torch.equal(one, pyramid_anchors((96, 64), STRIDES, SIZES, CPU, layout)[::3])
    generator = AnchorGenerator(tuple((int(size),) for size in SIZES), ((0.5, 1.0, 2.0),) * 5)
    maps = [torch.zeros(1, 1, *size) for size in map_sizes((96, 64), STRIDES)]
    expected = generator(ImageList(torch.zeros(1, 3, 96, 64), [(96, 64)]), maps)[0]
    assert torch.equal(one, expected) == (layout == "torchvision")


def test_kept_for_the_next_call() -> None:
    arguments = ((96, 64), STRIDES, SIZES, CPU)
    assert pyramid_anchors(*arguments) is pyramid_anchors(*arguments)
    assert pyramid_anchors(*arguments) is not pyramid_anchors((64, 96), STRIDES, SIZES, CPU)


def test_made_while_decoding_they_serve_training() -> None:
    with torch.inference_mode():
        anchors = pyramid_anchors((40, 24), STRIDES, SIZES, CPU)
    (torch.ones(len(anchors), 4, requires_grad=True) * anchors).sum().backward()
