"""From candidates to detections: ranks, suppression, clipping and packing, against plain loops and torchvision."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from public.datasets.batches import PADDING, ImageSizes
from public.detectors.postprocess import (
    best_of_group,
    clip_to_content,
    pack,
    rank_in_group,
    soft_suppress,
    suppress,
    to_original,
)

NONE = torch.zeros(0, dtype=torch.int64)


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 2, generator=generator).mul(50).sort(dim=1).values.flatten(1)


# ---- ranks ----------------------------------------------------------------------------------------------------------


def test_rank_by_hand() -> None:
    assert rank_in_group(torch.tensor([7, 3, 7, 7])).tolist() == [0, 0, 1, 2]
    assert rank_in_group(torch.tensor([5, 5, 5])).tolist() == [0, 1, 2]
    assert rank_in_group(torch.tensor([2, 1, 0])).tolist() == [0, 0, 0]
    assert rank_in_group(NONE).tolist() == []


def test_rank_against_a_plain_loop() -> None:
    groups = torch.randint(0, 9, (500,), generator=torch.Generator().manual_seed(0)).tolist()
    assert rank_in_group(torch.tensor(groups)).tolist() == [groups[:i].count(group) for i, group in enumerate(groups)]


def test_best_of_group_by_hand() -> None:
    """Two of each: 0.9 and 0.5 of the first, 0.8 and the earlier 0.2 of the second, best first."""
    scores = torch.tensor([0.5, 0.2, 0.9, 0.8, 0.2, 0.1])
    groups = torch.tensor([0, 1, 0, 1, 1, 0])
    assert best_of_group(scores, groups, 2).tolist() == [2, 3, 0, 1]
    assert best_of_group(scores, groups, 100).tolist() == [2, 3, 0, 1, 4, 5]
    assert best_of_group(torch.zeros(0), NONE, 2).tolist() == []


# ---- suppression ----------------------------------------------------------------------------------------------------


def test_suppression_by_hand() -> None:
    """The second overlaps the first by 2/3; the third does too, but is of another group; the fourth lies apart."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 15], [0, 0, 10, 15], [20, 20, 30, 30]])
    scores, groups = torch.tensor([0.6, 0.5, 0.9, 0.8]), torch.tensor([0, 0, 1, 0])
    assert suppress(boxes, scores, groups, 0.5).tolist() == [2, 3, 0]
    assert suppress(boxes, scores, groups, 0.67).tolist() == [2, 3, 0, 1]
    assert suppress(torch.zeros(0, 4), torch.zeros(0), NONE, 0.5).tolist() == []


@pytest.mark.parametrize("num_groups", [1, 3, 50])
def test_suppression_against_torchvision_and_a_plain_loop(num_groups: int) -> None:
    generator = torch.Generator().manual_seed(1)
    boxes, scores = random_boxes(200), torch.rand(200, generator=generator)
    groups = torch.randint(0, num_groups, (200,), generator=generator)
    kept = suppress(boxes, scores, groups, 0.3).tolist()
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
        assert suppress(boxes, scores, torch.tensor([group, group, 0]), 0.503).tolist() == [0, 2]


def test_negative_coordinates_do_not_bring_groups_together() -> None:
    boxes = torch.tensor([[-100.0, -100, 10, 10], [-100, -100, 10, 10]])
    assert suppress(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.0).tolist() == [0, 1]


# ---- soft suppression -----------------------------------------------------------------------------------------------


def softly(boxes: Tensor, scores: Tensor, groups: Tensor, method: Any, limit: int = 100) -> list[tuple[int, float]]:
    """(index, new score), best first."""
    kept, left = soft_suppress(boxes, scores, groups, method=method, iou_threshold=0.3, sigma=0.5, limit=limit)
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
    for method, wanted in expected.items():
        found = softly(boxes, scores, groups, method)
        assert [index for index, _ in found] == [index for index, _ in wanted]
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted], rel=1e-6)
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


# ---- geometry -------------------------------------------------------------------------------------------------------

SIZES = ImageSizes(torch.tensor([[60, 80], [100, 50]]), torch.tensor([[120, 240], [50, 25]]))  # height, width


def test_clipping_by_hand() -> None:
    """The first image fills 80 x 60 pixels of the canvas, the second 50 x 100."""
    boxes = torch.tensor([[-5.0, -5, 90, 70], [10, 10, 20, 20], [-5, -5, 90, 170], [60, 10, 70, 20]])
    clipped = clip_to_content(boxes, torch.tensor([0, 0, 1, 1]), SIZES)
    assert clipped.tolist() == [[0, 0, 80, 60], [10, 10, 20, 20], [0, 0, 50, 100], [50, 10, 50, 20]]


def test_back_to_the_original_by_hand() -> None:
    """The first image was 240 x 120: 3 times as wide, twice as high. The second half as large."""
    boxes = torch.tensor([[10.0, 10, 80, 60], [10, 10, 50, 100]])
    assert to_original(boxes, torch.tensor([0, 1]), SIZES).tolist() == [[30, 20, 240, 120], [5, 5, 25, 50]]


# ---- packing --------------------------------------------------------------------------------------------------------


def test_packing_by_hand() -> None:
    """Three of image 2, of which two stay; none of image 1; one of image 0."""
    boxes = torch.arange(16.0).view(4, 4)
    packed = pack(
        boxes,
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.tensor([4, 5, 6, 7]),
        torch.tensor([2, 0, 2, 2]),
        batch_size=3,
        max_detections=2,
    )
    assert packed.labels.tolist() == [[5, PADDING], [PADDING, PADDING], [4, 6]]
    torch.testing.assert_close(packed.scores, torch.tensor([[0.8, 0], [0, 0], [0.9, 0.7]]))
    assert packed.boxes[0].tolist() == [[4, 5, 6, 7], [0] * 4]
    assert packed.boxes[1].tolist() == [[0] * 4] * 2
    assert packed.boxes[2].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert (packed.boxes.dtype, packed.scores.dtype, packed.labels.dtype) == (
        torch.float32,
        torch.float32,
        torch.int64,
    )


def test_packing_nothing() -> None:
    packed = pack(torch.zeros(0, 4), torch.zeros(0), NONE, NONE, batch_size=2, max_detections=3)
    assert packed.boxes.shape == (2, 3, 4)
    assert (packed.labels == PADDING).all()
