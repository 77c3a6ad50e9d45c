"""Mosaic and copy-paste: numbers by hand, and painted boxes that are where their paint is."""

import pickle
from typing import Any

import numpy as np
import pytest

from public.transforms.detection import FILL, DetectionSample
from public.transforms.mixing_boxes import CopyPaste, MixingTransform, Mosaic, cut
from tests.transforms.painted import color_of, painted, row_of, sample_of


def plain(height: int, width: int, level: int, boxes: Any, labels: list[int] | None = None) -> DetectionSample:
    """A picture of one gray."""
    return sample_of(np.full((height, width, 3), level, dtype=np.uint8), boxes, labels)


def test_a_cut_by_hand() -> None:
    """Of 4 x 4 boxes the window 6..12 leaves all, a quarter (2 x 2), an eighth (1 x 2) and nothing; an ignore region
    stays with 1 of 16 pixels."""
    boxes = [(7, 7, 11, 11), (4, 4, 8, 8), (3, 4, 7, 8), (1, 1, 5, 5), (3, 3, 7, 7)]
    sample = plain(16, 16, 9, boxes, [0, 1, 2, 3, -2])
    found = cut(sample, (6, 6, 12, 12), 0.25)
    assert (found.image.shape, found.content_size) == ((6, 6, 3), (6, 6))
    assert found.labels.tolist() == [0, 1, -2]
    assert found.boxes.tolist() == [[1, 1, 5, 5], [0, 0, 2, 2], [0, 0, 1, 1]]
    assert cut(sample, (6, 6, 12, 12), 0.125).labels.tolist() == [0, 1, 2, -2]


@pytest.mark.parametrize(("min_share", "labels"), [(0.06, [0, 1, 2, 3]), (0.1, [0, 1, 2])])
def test_a_mosaic_by_hand(min_share: float, labels: list[int]) -> None:
    """Around (4, 4) of 10 x 10: of the first picture the last four columns and rows are seen, of the last the first
    six; of each box 5..9 then 9, 3, 3 and 1 of 16 pixels. The third picture is 4 high: below it lies FILL."""
    transform = Mosaic(size=10, probability=1.0, center=(0.4, 0.4), scale=(1.0, 1.0), min_share=min_share)
    boxes = [(5, 5, 9, 9)]
    four = [plain(10, 10, 10 * place, boxes, [place]) for place in (0, 1, 2, 3)]
    four[2] = plain(4, 10, 20, [(5, 0, 9, 1)], [2])
    found = transform(four[0], np.zeros(transform.num_draws), four[1:])
    expected = [[0, 0, 3, 3], [9, 0, 10, 3], [0, 4, 3, 5], [9, 9, 10, 10]]
    assert found.labels.tolist() == labels
    assert found.boxes.tolist() == expected[: len(labels)]
    assert (found.image.shape, found.content_size) == ((10, 10, 3), (10, 10))
    for place, (rows, columns) in enumerate(
        [((0, 4), (0, 4)), ((0, 4), (4, 10)), ((4, 8), (0, 4)), ((4, 10), (4, 10))]
    ):
        assert (found.image[slice(*rows), slice(*columns)] == 10 * place).all()
    assert (found.image[8:, :4] == FILL).all()


def test_the_pictures_of_a_mosaic_are_scaled() -> None:
    """20 x 40 at half of the size 20: 5 x 10, so that a box 8..24 x 4..12 is 2..6 x 1..3, at the corner (10, 10) in the
    quarter below right."""
    transform = Mosaic(size=20, probability=1.0, center=(0.5, 0.5), scale=(0.5, 0.5))
    empty = plain(20, 20, 0, [])
    found = transform(empty, np.zeros(10), [empty, empty, plain(20, 40, 7, [(8, 4, 24, 12)], [5])])
    assert found.boxes.tolist() == [[12, 11, 16, 13]]
    assert (found.image[10:15, 10:] == 7).all()
    assert (found.image[15:, 10:] == FILL).all()


@pytest.mark.parametrize("min_share", [0.25, 0.26])
def test_a_paste_by_hand(min_share: float) -> None:
    """A strip 12 x 3 on a picture 12 x 4 lies at row 0 or 1; of a box 8 x 4 it leaves one row: 8 of 32 pixels. What
    fills the strip, an ignore region, comes along; an object of which it shows a tenth does not."""
    sample = plain(4, 12, 10, [(2, 0, 10, 4)], [0])
    other = plain(12, 12, 20, [(0, 2, 12, 5), (3, 2, 6, 5), (4, 4, 6, 14 - 4)], [1, -2, -2])
    other = other._replace(boxes=np.concatenate([other.boxes, [[9, 4, 11, 12]]]).astype(np.float32))
    other = other._replace(labels=np.array([1, -2, -2, 2]))
    transform, seen = CopyPaste(probability=1.0, most=1, scale=(1.0, 1.0), min_share=min_share), set()
    for draw in np.arange(40) / 40:
        found = transform(sample, np.array([0, 0, draw]), [other])
        rows = dict(zip(found.labels.tolist(), found.boxes.tolist(), strict=True))
        if 1 not in rows:
            continue  # the other object was drawn
        top = int(rows[1][1])
        seen.add(top)
        left_of_it = [[2, 3, 10, 4], [2, 0, 10, 1]][top]
        kept = {0: left_of_it} if min_share == 0.25 else {}
        assert rows == kept | {1: [0, top, 12, top + 3], -2: [4, top + 2, 6, top + 3]}
        assert (found.image[top : top + 3] == 20).all()
        assert (found.image[3 - 3 * top] == 10).all()
    assert seen == {0, 1}
    assert (sample.image == 10).all()
    assert len(transform(sample, np.zeros(3), [plain(5, 5, 0, [(0, 0, 2, 2)], [-2])]).labels) == 1  # no object


def test_a_pasted_object_keeps_its_share_of_the_picture() -> None:
    """6 x 3 of a picture 30 wide is 12 x 6 of one 60 wide; one that would not fit is as large as fits."""
    sample, other = plain(20, 60, 0, []), plain(30, 30, 9, [(2, 2, 8, 5)], [4])
    for scale, (height, width) in {1.0: (6, 12), 9.0: (20, 40)}.items():
        transform = CopyPaste(probability=1.0, scale=(scale, scale))
        ((x1, y1, x2, y2),) = transform(sample, np.full(3, 0.4), [other]).boxes.tolist()
        assert (y2 - y1, x2 - x1) == (height, width)


def marked(rng: np.random.Generator, place: int) -> DetectionSample:
    """A painted sample of 60 x 60 whose colors and labels tell which picture it is."""
    while (sample := painted(rng)).image.shape[0] < 60 or sample.image.shape[1] < 60:
        pass
    sample = cut(sample, (0, 0, 60, 60), 0.0)
    image = np.where(sample.image[..., :1] >= 200, sample.image - np.array([0, place, 0], np.uint8), sample.image)
    return sample._replace(image=image, labels=np.where(sample.labels < 0, -20, 20) * place + sample.labels)


@pytest.mark.slow
@pytest.mark.parametrize("transform", [Mosaic(size=60, scale=(1.0, 1.0)), CopyPaste(scale=(1.0, 1.0))], ids=str)
def test_boxes_are_their_paint(transform: Any) -> None:
    """Every box of the result is the bounds of the pixels of its color; one that is gone shows less than its share."""
    rng, num_boxes, num_gone = np.random.default_rng(0), 0, 0
    for _ in range(50):
        pictures = [marked(rng, place) for place in range(1 + transform.num_others)]
        draws = rng.random(transform.num_draws)
        found = pickle.loads(pickle.dumps(transform))(pictures[0], draws, pictures[1:])
        rows = dict(zip(found.labels.tolist(), found.boxes.tolist(), strict=True))
        assert len(rows) == len(found.labels)
        for place, picture in enumerate(pictures):
            for label, box in zip(picture.labels.tolist(), picture.boxes, strict=True):
                color = np.array(color_of(row_of(label + (20 if label < 0 else -20) * place))) - (0, place, 0)
                y, x = np.nonzero((found.image == color).all(axis=2))
                share = len(x) / (box[2:] - box[:2]).prod()
                if label in rows:
                    assert rows[label] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
                    num_boxes += 1
                else:
                    assert share < (transform.min_share if label >= 0 else 1e-9)
                    num_gone += share > 0
        assert found.image.flags.c_contiguous
        assert (found.boxes.dtype, found.labels.dtype, found.image.dtype) == (np.float32, np.int64, np.uint8)
    assert num_boxes > 150
    assert num_gone > 0


def test_which_pictures() -> None:
    """None beyond the probability; else by the draws that follow, each image as likely as any other."""
    transform = Mosaic(size=8, probability=0.5)
    draws = np.array([0.5, 0.0, 0.1, 0.99, *[0.0] * 6])
    assert transform.others(draws, 10) == []
    draws[0] = 0.49
    assert transform.others(draws, 10) == [0, 1, 9]
    assert CopyPaste(probability=1.0).others(np.array([0.9, 0.35, 0.0]), 10) == [3]


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (Mosaic, {"size": 1}, "size must be given in whole pixels, 2 or more"),
        (Mosaic, {"size": 8, "center": (0.5, 1.5)}, "center must be the least and the most, above 0 and up to 1"),
        (Mosaic, {"size": 8, "scale": (1.0, 0.5)}, "scale must be the least and the most, above 0 and up to 4"),
        (Mosaic, {"size": 8, "probability": 1.5}, r"probability must lie in 0\.\.1"),
        (Mosaic, {"size": 8, "close": -1}, "close must be a whole number of epochs, 0 or more"),
        (CopyPaste, {"most": 0}, "most must be a whole number, 1 or more"),
        (CopyPaste, {"scale": (0.0, 1.0)}, "scale must be the least and the most, above 0 and up to 10"),
        (CopyPaste, {"min_share": -0.1}, r"min_share must lie in 0\.\.1"),
    ],
)
def test_impossible_settings(kind: type[MixingTransform], settings: dict[str, Any], expected: str) -> None:
    """Refused by name, with what was given."""
    with pytest.raises(ValueError, match=f"{kind.__name__}.*: {expected}"):
        kind(**settings)
