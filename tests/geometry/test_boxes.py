"""Overlaps and deltas of boxes against torchvision and numbers worked out by hand."""

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from public.geometry.boxes import (
    LARGEST_LOG_RATIO,
    areas,
    decode_boxes,
    encode_boxes,
    pairwise_coverage,
    pairwise_intersections,
    pairwise_iou,
)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator).mul(100).sort(dim=1).values
    return corners.flatten(1) + torch.tensor([0.0, 0.0, 0.1, 0.1])


def test_overlaps_by_hand() -> None:
    """A box of 4 x 2; the same; half of it; touching; apart; around it."""
    a = torch.tensor([[0.0, 0, 4, 2]])
    b = torch.tensor([[0.0, 0, 4, 2], [2, 0, 4, 2], [4, 0, 8, 2], [9, 9, 10, 10], [-1, -1, 5, 3]])
    assert areas(b).tolist() == [8, 4, 8, 1, 24]
    assert pairwise_intersections(a, b).tolist() == [[8, 4, 0, 0, 8]]
    torch.testing.assert_close(pairwise_iou(a, b), torch.tensor([[1, 0.5, 0, 0, 1 / 3]]))
    torch.testing.assert_close(pairwise_coverage(a, b), torch.tensor([[1, 1, 0, 0, 1 / 3]]))
    torch.testing.assert_close(pairwise_coverage(b, a), torch.tensor([[1], [0.5], [0], [0], [1.0]]))


def test_iou_is_torchvisions_to_the_last_bit() -> None:
    """So that ties and thresholds fall the same way."""
    a, b = random_boxes(40, 0), random_boxes(300, 1)
    assert torch.equal(pairwise_iou(a, b), box_iou(a, b))


def test_many_lists_at_once_are_one_after_the_other() -> None:
    a, b = random_boxes(24, 0).view(2, 3, 4, 4), random_boxes(30, 1).view(2, 3, 5, 4)
    for pairwise in (pairwise_intersections, pairwise_iou, pairwise_coverage):
        together = pairwise(a, b)
        assert together.shape == (2, 3, 4, 5)
        for i in range(2):
            for j in range(3):
                assert torch.equal(together[i, j], pairwise(a[i, j], b[i, j]))


def test_no_boxes() -> None:
    some, none = random_boxes(3, 0), torch.zeros(0, 4)
    assert pairwise_iou(some, none).shape == (3, 0)
    assert pairwise_iou(none, some).shape == (0, 3)
    assert encode_boxes(none, none, (1, 1, 1, 1)).shape == decode_boxes(none, none, (1, 1, 1, 1)).shape == (0, 4)


def test_codes_by_hand() -> None:
    """From an anchor of 10 x 20 around (5, 10) to a box of 20 x 10 around (10, 5): half a width right, 1/4 up."""
    anchors, boxes = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[0.0, 0, 20, 10]])
    log2 = math.log(2)
    deltas = encode_boxes(boxes, anchors, (10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(deltas, torch.tensor([[5.0, -2.5, 5 * log2, -5 * log2]]))
    torch.testing.assert_close(encode_boxes(anchors, anchors, (1.0, 1.0, 1.0, 1.0)), torch.zeros(1, 4))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_codes_are_torchvisions_and_can_be_undone(weights: tuple[float, float, float, float]) -> None:
    boxes, anchors, coder = random_boxes(200, 2), random_boxes(200, 3), BoxCoder(weights)
    deltas = encode_boxes(boxes, anchors, weights)
    torch.testing.assert_close(deltas, coder.encode_single(boxes, anchors), rtol=1e-5, atol=1e-5)
    wild = deltas + torch.randn(200, 4, generator=torch.Generator().manual_seed(4)) * 3
    torch.testing.assert_close(
        decode_boxes(wild, anchors, weights), coder.decode_single(wild, anchors), rtol=1e-5, atol=1e-3
    )
    moderate = (deltas[:, 2:] / deltas.new_tensor(weights[2:]) < LARGEST_LOG_RATIO).all(dim=1)
    assert moderate.sum() > 150
    torch.testing.assert_close(decode_boxes(deltas, anchors, weights)[moderate], boxes[moderate], rtol=1e-4, atol=1e-3)


def test_sides_are_bounded() -> None:
    """A logarithm of 1000 means 62.5 times the anchor's side."""
    box = decode_boxes(torch.tensor([[0.0, 0, 1000, 0]]), torch.tensor([[0.0, 0, 16, 16]]), (1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(box, torch.tensor([[8 - 500.0, 0, 8 + 500, 16]]), rtol=1e-5, atol=1e-3)
