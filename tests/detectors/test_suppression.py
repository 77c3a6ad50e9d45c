"""Suppression, hard and soft, by hand, against plain loops and torchvision."""

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from public.detectors import suppression
from public.detectors.suppression import soft_nms, suppress
from public.geometry.fixed_shapes import fixed_shapes
from public.geometry.labels import PADDING


def kept(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> list[int]:
    """The indices of one image's boxes that stay: on a CPU and in fixed shapes."""
    found = []
    for context in (nullcontext(), fixed_shapes()):
        with context:
            stays = suppress(boxes[None], scores[None], labels[None], iou_threshold, 10)
        assert (stays.shape, stays.dtype) == ((1, len(boxes)), torch.bool)
        found.append(torch.nonzero(stays[0]).flatten().tolist())
    assert found[0] == found[1]
    return found[0]


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 2, generator=generator).mul(50).sort(dim=1).values.flatten(1)


# ---- suppression ----------------------------------------------------------------------------------------------------


def test_suppression_by_hand() -> None:
    """The second overlaps the first by 2/3; the third does too, but is of another group; the fourth lies apart."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 15], [0, 0, 10, 15], [20, 20, 30, 30]])
    scores, groups = torch.tensor([0.6, 0.5, 0.9, 0.8]), torch.tensor([0, 0, 1, 0])
    assert kept(boxes, scores, groups, 0.5) == [0, 2, 3]
    assert kept(boxes, scores, groups, 0.67) == [0, 1, 2, 3]
    assert kept(boxes, scores, torch.full((4,), PADDING), 0.5) == []
    assert kept(boxes, scores, torch.tensor([PADDING, 0, PADDING, 0]), 0.5) == [1, 3]


@pytest.mark.parametrize("num_groups", [1, 3, 50])
def test_suppression_against_torchvision_and_a_plain_loop(num_groups: int) -> None:
    generator = torch.Generator().manual_seed(1)
    boxes, scores = random_boxes(200), torch.rand(200, generator=generator)
    groups = torch.randint(0, num_groups, (200,), generator=generator)
    found = kept(boxes, scores, groups, 0.3)
    overlaps, expected = box_iou(boxes, boxes), []
    for i in scores.argsort(descending=True).tolist():
        if all(groups[i] != groups[j] or overlaps[i, j] <= 0.3 for j in expected):
            expected.append(i)
    assert found == sorted(expected) == sorted(batched_nms(boxes, scores, groups, 0.3).tolist())
    assert len(found) < 200 or num_groups == 50


def test_far_groups_are_as_exact_as_near_ones() -> None:
    """Group 5119 (image 63, class 79 of 80) of boxes 1333 pixels wide lies 6.8 million pixels away.

    There float32 only knows half pixels: [0, 0, 4, 4] and [0, 0, 4, 7.9], which overlap by 0.506, would become
    [.., 4] and [.., 8] with an overlap of 0.5 exactly.
    """
    boxes = torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 7.9], [0, 0, 1333, 1333]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    for group in (0, 5119):
        assert kept(boxes, scores, torch.tensor([group, group, 0]), 0.503) == [0, 2]


def test_negative_coordinates_do_not_bring_groups_together() -> None:
    boxes = torch.tensor([[-100.0, -100, 10, 10], [-100, -100, 10, 10]])
    assert kept(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.0) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("num_rows", [1, 70, 700])
def test_images_do_not_suppress_one_another(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch at once, in one piece or in many, is image by image the same; on a CPU and in fixed shapes."""
    generator = torch.Generator().manual_seed(2)
    boxes = random_boxes(5 * num_rows).view(5, -1, 4)
    scores, labels = (torch.randint(0, n, (5, num_rows), generator=generator) for n in (40, 4))
    labels -= 1  # a quarter only fills up
    alone = [kept(*of_image, 0.3) for of_image in zip(boxes, scores / 40, labels, strict=True)]
    for piece in (1, 150, 2**16):
        monkeypatch.setattr(suppression, "_CPU_PIECE", piece)
        monkeypatch.setattr(suppression, "_GPU_PIECE", piece)
        for context in (nullcontext(), fixed_shapes()):
            with context:
                stays = suppress(boxes, scores / 40, labels, 0.3, 10)
            assert [torch.nonzero(row).flatten().tolist() for row in stays] == alone


# ---- soft suppression -----------------------------------------------------------------------------------------------


def softly(boxes: Tensor, scores: Tensor, groups: Tensor, method: Any, limit: int = 100) -> list[tuple[int, float]]:
    """(index, new score), best first, of one image; beside it lies another, of the same boxes in turned order."""
    batch = [torch.stack([x, x.flip(0)]) for x in (boxes, scores, groups)]
    found = []
    for context in (nullcontext(), fixed_shapes()):
        with context:
            found.append(soft_nms(*batch, method=method, iou_threshold=0.3, sigma=0.5, limit=limit))
    assert torch.equal(found[0], found[1])
    left, turned = found[0]
    assert left.dtype == torch.float32
    assert (left > 0).sum() == (turned > 0).sum()
    order = left.argsort(descending=True, stable=True).tolist()
    return [(i, left[i].item()) for i in order if left[i] > 0]


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
    assert [index for index, _ in softly(boxes, scores, groups, "gaussian", limit=3)] == [0, 4, 3]


def test_hardly_any_score_is_none() -> None:
    """Ten equal boxes: each one before leaves exp(-2) of a score; 0.9 exp(-2)^3 is above 0.001, 0.9 exp(-2)^4 not."""
    boxes, groups = torch.tensor([[0.0, 0, 10, 10]]).repeat(10, 1), torch.zeros(10, dtype=torch.int64)
    found = softly(boxes, torch.full((10,), 0.9), groups, "gaussian")
    assert [score for _, score in found] == pytest.approx([0.9 * math.exp(-2 * i) for i in range(4)])
    assert len(softly(boxes, torch.full((10,), 0.9), groups, "linear")) == 1
    assert softly(boxes[:1], torch.ones(1), torch.tensor([PADDING]), "linear") == []


def slow_soft_suppression(boxes: Tensor, scores: Tensor, method: str) -> dict[int, float]:
    """One group, one box after the other."""
    left, kept = dict(enumerate(scores.tolist())), {}
    while left:
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


@pytest.mark.parametrize("limit", [20, 100])
@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_suppression_against_a_plain_loop(method: Any, limit: int) -> None:
    """Groups of different sizes, at once."""
    generator = torch.Generator().manual_seed(3)
    boxes, scores = random_boxes(80), torch.rand(80, generator=generator)
    groups = torch.randint(0, 30, (80,), generator=generator) // 7 * 1000
    expected = {}
    for group in groups.unique():
        members = torch.nonzero(groups == group).flatten()
        of_group = slow_soft_suppression(boxes[members], scores[members], method)
        expected |= {int(members[i]): score for i, score in of_group.items()}
    assert len(expected) > 30
    best = sorted(expected, key=lambda i: -expected[i])[:limit]
    found = softly(boxes, scores, groups, method, limit)
    assert dict(found) == pytest.approx({i: expected[i] for i in best}, rel=1e-4)
    ordered = [score for _, score in found]
    assert ordered == sorted(ordered, reverse=True)
