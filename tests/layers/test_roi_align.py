"""RoI Align on a CPU against torchvision's operator."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import ops

from public.geometry.fixed_shapes import fixed_shapes
from public.layers import roi_align as module
from public.layers.roi_align import roi_align

HEIGHT, WIDTH, SCALE = 20, 30, 1 / 8
SIDES = [
    (0, 0, 240, 160),  # the whole map
    (3.3, 5.1, 40.2, 150.9),
    (100, 80, 100.5, 80.25),  # far smaller than a pixel
    (16, 16, 72, 72),  # whole pixels
    (7, 9, 238.9, 11),
    (200, 10, 203, 159),
    (-30, -20, 20, 12),  # in part outside
    (230, 150, 300, 240),
    (-900, -900, -800, -850),  # outside
    (50, 60, 50, 60),  # no area
    (90, 80, 60, 40),  # turned around
]


def boxes_of(sides: Any = SIDES) -> Tensor:
    sides = torch.tensor(sides, dtype=torch.float32)
    return torch.cat([(torch.arange(len(sides)) % 2)[:, None], sides], dim=1)


def both(x: Tensor, boxes: Tensor, *options: Any) -> list[tuple[Tensor, Tensor]]:
    """What ours and torchvision's cut out, and the gradient of the map that a random one of the result leads to.

    torchvision's works in float64: of 64 x 64 points in float32 its sums are off by 5e-5.
    """
    grad = torch.randn(len(boxes), x.shape[1], options[0], options[0], generator=torch.Generator().manual_seed(1))
    found = []
    for function, dtype in ((roi_align, torch.float32), (ops.roi_align, torch.float64)):
        own = x.to(dtype, memory_format=torch.preserve_format, copy=True).requires_grad_()
        out = function(own, boxes.to(dtype), *options)
        out.backward(grad.to(dtype))
        assert own.grad is not None
        found.append((out.detach().float(), own.grad.float()))
    return found


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3, 64])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_regions_are_cut_out_as_torchvision_does(ratio: int, aligned: bool, layout: torch.memory_format) -> None:
    x = torch.randn(2, 5, HEIGHT, WIDTH).contiguous(memory_format=layout)
    for size in (1, 7):
        ours, theirs = both(x, boxes_of(), size, SCALE, ratio, aligned)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_many_regions_of_all_sizes() -> None:
    begins, ends = torch.rand(2, 500, 2).sort(dim=0).values * torch.tensor([WIDTH, HEIGHT]) / SCALE
    boxes = boxes_of(torch.cat([begins, ends], dim=1).tolist())
    x = torch.randn(2, 16, HEIGHT, WIDTH)
    for ratio in (0, 2):
        ours, theirs = both(x, boxes, 7, SCALE, ratio, True)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("ratio", [0, 2])
def test_a_region_does_not_depend_on_the_others(ratio: int) -> None:
    x, boxes = torch.randn(2, 4, HEIGHT, WIDTH), boxes_of()
    together = roi_align(x, boxes, 7, SCALE, ratio, True)
    for number in range(len(boxes)):
        assert torch.equal(roi_align(x, boxes[number : number + 1], 7, SCALE, ratio, True)[0], together[number])


@pytest.mark.parametrize("ratio", [0, 2])
def test_gradients_in_double_precision(ratio: int) -> None:
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    boxes = boxes_of([(1, 2, 30, 40), (-5, 8, 22, 47.5), (0, 0, 41, 12)]).double()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, boxes, 3, SCALE, ratio, True), x)


@pytest.mark.parametrize("ratio", [0, 2])
def test_no_regions_at_all(ratio: int) -> None:
    x = torch.randn(2, 4, HEIGHT, WIDTH, requires_grad=True)
    out = roi_align(x, torch.zeros(0, 5), 7, SCALE, ratio, True)
    assert out.shape == (0, 4, 7, 7)
    out.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_region_that_is_no_number_is_empty(ratio: int, number: float) -> None:
    out = roi_align(torch.ones(2, 4, HEIGHT, WIDTH), boxes_of([(number, 2, number, 8)]), 7, SCALE, ratio, True)
    assert not out.any()


def test_a_region_far_larger_than_its_map_takes_no_memory_for_it() -> None:
    x, boxes = torch.randn(2, 4, HEIGHT, WIDTH), boxes_of([(0, 0, 9000, 9000), (0, 0, 240, 160)])
    ours, theirs = both(x, boxes, 7, SCALE, 0, True)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)  # torchvision's, a sum of 160 x 160 points


@pytest.mark.parametrize("way", ["a CPU", "fixed shapes", "half precision"])
def test_who_computes_it(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's operator does where shapes may not depend on values, and in precisions that are not known."""
    asked: list[str] = []

    def theirs(x: Tensor, *_: Any) -> Tensor:
        asked.append("torchvision")
        return x

    monkeypatch.setattr(module.ops, "roi_align", theirs)
    x, boxes = torch.randn(2, 4, HEIGHT, WIDTH), boxes_of()
    if way == "fixed shapes":
        with fixed_shapes():
            roi_align(x, boxes, 7, SCALE, 0, True)
    else:
        dtype = torch.float16 if way == "half precision" else torch.float32
        roi_align(x.to(dtype), boxes.to(dtype), 7, SCALE, 0, True)
    assert asked == ([] if way == "a CPU" else ["torchvision"])
