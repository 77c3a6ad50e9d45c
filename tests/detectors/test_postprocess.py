"""From candidates to detections: ranks, clipping and packing, against plain loops."""

from contextlib import nullcontext

import torch

from public.datasets.batches import ImageSizes
from public.detectors.postprocess import (
    ByImage,
    best_of_group,
    best_pairs,
    best_places,
    clip_to_content,
    pack,
    rank_in_group,
    to_original,
)
from public.geometry.fixed_shapes import fixed_shapes
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
    boxes = torch.tensor([[[-5.0, -5, 90, 70], [10, 10, 20, 20]], [[-5, -5, 90, 170], [60, 10, 70, 20]]])
    clipped = clip_to_content(boxes, SIZES.content[:, None])
    assert clipped.tolist() == [[[0, 0, 80, 60], [10, 10, 20, 20]], [[0, 0, 50, 100], [50, 10, 50, 20]]]
    assert clip_to_content(boxes[:, 0], SIZES.content).tolist() == [[0, 0, 80, 60], [0, 0, 50, 100]]


def test_back_to_the_original_by_hand() -> None:
    """The first image was 240 x 120: 3 times as wide, twice as high. The second half as large."""
    boxes = torch.tensor([[[10.0, 10, 80, 60]], [[10, 10, 50, 100]]])
    assert to_original(boxes, SIZES).tolist() == [[[30, 20, 240, 120]], [[5, 5, 25, 50]]]


# ---- the best -------------------------------------------------------------------------------------------------------


def test_best_places_by_hand() -> None:
    """Of equals the first, or the first in an order; -0 equals 0; what is no number is the worst."""
    scores = torch.tensor([[0.5, 0.9, 0.5, -0.0, 0.0], [-2.0, -torch.inf, -1.0, torch.nan, torch.inf]])
    assert best_places(scores, 4).tolist() == [[1, 0, 2, 3], [4, 2, 0, 1]]
    assert best_places(scores, 9)[0].tolist() == [1, 0, 2, 3, 4]
    order = torch.tensor([[9, 9, 3, 8, 7]]).expand(2, 5)
    assert best_places(scores, 5, order)[0].tolist() == [1, 2, 0, 4, 3]


def test_best_places_against_a_stable_sort() -> None:
    """Scores of all signs and sizes, many of them equal."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 2000, generator=generator) * 10 ** torch.randint(-30, 30, (3, 2000), generator=generator)
    scores[:, ::2] = torch.randint(-5, 5, (3, 1000), generator=generator).float()
    assert torch.equal(best_places(scores, 1500), scores.argsort(dim=1, descending=True, stable=True)[:, :1500])


def test_best_pairs_are_those_of_a_plain_loop() -> None:
    """On a CPU and in fixed shapes: the k best pairs above the threshold, of equals the first class of the first place,
    where first are places with better best classes. Scores of few values have many ties."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 12, (3, 40, 4), generator=generator) / 12
    scores[2] = 0
    for limit, threshold in ((5, 0.5), (25, 0.5), (25, 0.9), (1000, 0.1)):
        expected = []
        for of_image in scores:
            in_order = of_image.amax(1).argsort(descending=True, stable=True).tolist()[:limit]
            pairs = [(-of_image[p, c].item(), rank, c, p) for rank, p in enumerate(in_order) for c in range(4)]
            best = sorted(pair for pair in pairs if -pair[0] > threshold)[:limit]
            expected.append([(-score, place, label) for score, _, label, place in best])
        for context in (nullcontext(), fixed_shapes()):
            with context:
                pairs = best_pairs(scores.amax(2), lambda i, p: scores[i, p], threshold, limit, 4)
            rows = [[x[i][pairs.labels[i] != PADDING].tolist() for x in pairs] for i in range(3)]
            assert [[*zip(*of_image, strict=True)] for of_image in rows] == expected


# ---- packing --------------------------------------------------------------------------------------------------------


def test_packing_by_hand() -> None:
    """Of the first image the two best of three, in original pixels; of the second none; of equals the lower class."""
    boxes = torch.arange(24.0).view(2, 3, 4)
    scores = torch.tensor([[0.7, 0.9, 0.7], [0.9, 0.9, 0.9]])
    labels = torch.tensor([[7, 4, 6], [PADDING] * 3])
    packed = pack(boxes, scores, labels, SIZES, 2)
    assert packed.labels.tolist() == [[4, 6], [PADDING, PADDING]]
    torch.testing.assert_close(packed.scores, torch.tensor([[0.9, 0.7], [0, 0]]))
    assert packed.boxes.tolist() == [[[12, 10, 18, 14], [24, 18, 30, 22]], [[0] * 4] * 2]
    assert [x.dtype for x in packed] == [torch.float32, torch.float32, torch.int64]


def test_packing_fills_up() -> None:
    packed = pack(torch.ones(2, 1, 4), torch.ones(2, 1), torch.tensor([[3], [PADDING]]), SIZES, 3)
    assert packed.boxes.shape == (2, 3, 4)
    assert packed.labels.tolist() == [[3, PADDING, PADDING], [PADDING] * 3]
    assert packed.scores.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_one_row_for_each_image() -> None:
    """Three of image 2, none of image 1, one of image 0."""
    by_image = ByImage(torch.tensor([2, 0, 2, 2]), 3)
    assert by_image.of(torch.tensor([4, 5, 6, 7]), PADDING).tolist() == [[5, -1, -1], [-1, -1, -1], [4, 6, 7]]
    assert ByImage(NONE, 2).of(torch.zeros(0, 4), 0).tolist() == [[[0] * 4]] * 2
