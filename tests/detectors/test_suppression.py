"""Suppression, hard and soft, by hand, against plain loops and torchvision."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from public.detectors.suppression import nms, soft_nms

NONE = torch.zeros(0, dtype=torch.int64)


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 2, generator=generator).mul(50).sort(dim=1).values.flatten(1)


# ---- suppression ----------------------------------------------------------------------------------------------------


def test_suppression_by_hand() -> None:
    """The second overlaps the first by 2/3; the third does too, but is of another group; the fourth lies apart."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 15], [0, 0, 10, 15], [20, 20, 30, 30]])
    scores, groups = torch.tensor([0.6, 0.5, 0.9, 0.8]), torch.tensor([0, 0, 1, 0])
    assert nms(boxes, scores, groups, 0.5).tolist() == [2, 3, 0]
    assert nms(boxes, scores, groups, 0.67).tolist() == [2, 3, 0, 1]
    assert nms(torch.zeros(0, 4), torch.zeros(0), NONE, 0.5).tolist() == []


@pytest.mark.parametrize("num_groups", [1, 3, 50])
def test_suppression_against_torchvision_and_a_plain_loop(num_groups: int) -> None:
    generator = torch.Generator().manual_seed(1)
    boxes, scores = random_boxes(200), torch.rand(200, generator=generator)
    groups = torch.randint(0, num_groups, (200,), generator=generator)
    kept = nms(boxes, scores, groups, 0.3).tolist()
    overlaps, expected = box_iou(boxes, boxes), []
    for i in scores.argsort(descending=True).tolist():
        if all(groups[i] != groups[j] or overlaps[i, j] <= 0.3 for j in expected):
            expected.append(i)
    assert kept == expected == batched_nms(boxes, scores, groups, 0.3).tolist()
    assert len(kept) < 200 or num_groups == 50


def test_far_groups_are_as_exact_as_near_ones() -> None:
    """Group 5119 (image 63, class 79 of 80) of boxes 1333 pixels wide lies 6.8 million pixels away.

    There float32 only knows half pixels: [0, 0, 4, 4] and [0, 0, 4, 7.9], which overlap by 0.506, would become
    [.., 4] and [.., 8] with an overlap of 0.5 exactly.
    """
    boxes = torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 7.9], [0, 0, 1333, 1333]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    for group in (0, 5119):
        assert nms(boxes, scores, torch.tensor([group, group, 0]), 0.503).tolist() == [0, 2]


def test_negative_coordinates_do_not_bring_groups_together() -> None:
    boxes = torch.tensor([[-100.0, -100, 10, 10], [-100, -100, 10, 10]])
    assert nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.0).tolist() == [0, 1]


# ---- soft suppression -----------------------------------------------------------------------------------------------


def softly(boxes: Tensor, scores: Tensor, groups: Tensor, method: Any, limit: int = 100) -> list[tuple[int, float]]:
    """(index, new score), best first."""
    kept, left = soft_nms(boxes, scores, groups, method=method, iou_threshold=0.3, sigma=0.5, limit=limit)
    assert left.dtype == torch.float32
    return list(zip(kept.tolist(), left.tolist(), strict=True))


def test_soft_suppression_by_hand() -> None:
    """A box of 10 x 10; one of 10 x 15 around it, overlap 2/3; one a quarter of it, 1/4 and 1/6; a far one.

    Gaussian: the second loses by exp(-(2/3)^2 / 0.5) = 0.411. The third loses by exp(-(1/4)^2 / 0.5) = 0.882 to the
    first and by exp(-(1/6)^2 / 0.5) = 0.946 to the second, which is taken first. Linear, by the threshold of 0.3: the
    second keeps a third, the others everything. The last is of another group.
    """
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 15], [0, 0, 5, 5], [50, 50, 60, 60], [0, 0, 10, 10]])
    scores, groups = torch.tensor([0.9, 0.8, 0.3, 0.5, 0.7]), torch.tensor([3, 3, 3, 3, 9])
    second = 0.8 * math.exp(-8 / 9)
    third = 0.3 * math.exp(-1 / 8) * math.exp(-1 / 18)
    expected = {"gaussian": [(0, 0.9), (4, 0.7), (3, 0.5), (1, second), (2, third)]}
    expected["linear"] = [(0, 0.9), (4, 0.7), (3, 0.5), (2, 0.3), (1, 0.8 / 3)]
    for method, want in expected.items():
        found = softly(boxes, scores, groups, method)
        assert [index for index, _ in found] == [index for index, _ in want]
        assert [score for _, score in found] == pytest.approx([score for _, score in want], rel=1e-6)
    assert [index for index, _ in softly(boxes, scores, groups, "gaussian", limit=2)] == [0, 4, 3]


def test_hardly_any_score_is_none() -> None:
    """Ten equal boxes: each one before leaves exp(-2) of a score; 0.9 exp(-2)^3 is above 0.001, 0.9 exp(-2)^4 not."""
    boxes, groups = torch.tensor([[0.0, 0, 10, 10]]).repeat(10, 1), torch.zeros(10, dtype=torch.int64)
    found = softly(boxes, torch.full((10,), 0.9), groups, "gaussian")
    assert [score for _, score in found] == pytest.approx([0.9 * math.exp(-2 * i) for i in range(4)])
    assert len(softly(boxes, torch.full((10,), 0.9), groups, "linear")) == 1
    assert softly(torch.zeros(0, 4), torch.zeros(0), NONE, "linear") == []


def slow_soft_suppression(boxes: Tensor, scores: Tensor, method: str, limit: int) -> dict[int, float]:
    """One group, one box after the other."""
    left, kept = dict(enumerate(scores.tolist())), {}
    while left and len(kept) < limit:
        best = max(left, key=lambda i: left[i])
        score = left.pop(best)
        if score < 0.001:
            break
        kept[best] = score
        for i in left:
            overlap = box_iou(boxes[best][None], boxes[i][None]).item()
            if method == "gaussian":
                left[i] *= math.exp(-(overlap**2) / 0.5)
            elif overlap > 0.3:
                left[i] *= 1 - overlap
    return kept


@pytest.mark.parametrize("limit", [5, 100])
@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_suppression_against_a_plain_loop(method: Any, limit: int) -> None:
    """Groups of different sizes, at once."""
    generator = torch.Generator().manual_seed(3)
    boxes, scores = random_boxes(80), torch.rand(80, generator=generator)
    groups = torch.randint(0, 30, (80,), generator=generator) // 7 * 1000
    expected = {}
    for group in groups.unique():
        members = torch.nonzero(groups == group).flatten()
        of_group = slow_soft_suppression(boxes[members], scores[members], method, limit)
        expected |= {int(members[i]): score for i, score in of_group.items()}
    found = softly(boxes, scores, groups, method, limit)
    assert dict(found) == pytest.approx(expected, rel=1e-4)
    assert len(found) == len(expected) > 20
    ordered = [score for _, score in found]
    assert ordered == sorted(ordered, reverse=True)
