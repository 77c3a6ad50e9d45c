"""From candidates to detections: ranks, clipping and packing, against plain loops."""

import torch

from public.datasets.batches import ImageSizes
from public.detectors.postprocess import best_of_group, clip_to_content, pack, rank_in_group, to_original
from public.geometry.labels import PADDING

NONE = torch.zeros(0, dtype=torch.int64)


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


# ---- geometry -------------------------------------------------------------------------------------------------------

SIZES = ImageSizes(torch.tensor([[60, 80], [100, 50]]), torch.tensor([[120, 240], [50, 25]]))  # height, width


def test_clipping_by_hand() -> None:
    """The first image fills 80 x 60 pixels of the canvas, the second 50 x 100."""
    boxes = torch.tensor([[-5.0, -5, 90, 70], [10, 10, 20, 20], [-5, -5, 90, 170], [60, 10, 70, 20]])
    clipped = clip_to_content(boxes, torch.tensor([0, 0, 1, 1]), SIZES.content)
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
