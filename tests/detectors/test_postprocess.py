"""From candidates to detections: ranks, suppression, clipping and packing, against plain loops and torchvision."""

import pytest
import torch
from torchvision.ops import batched_nms, box_iou

from public.datasets.batches import PADDING, ImageSizes
from public.detectors.postprocess import best_of_group, clip_to_content, pack, rank_in_group, suppress, to_original

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
