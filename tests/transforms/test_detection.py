"""Transforms of image and boxes: numbers by hand, torchvision as the reference, painted boxes that stay painted."""

import inspect
import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from public.transforms import detection
from public.transforms.detection import (
    FILL,
    DetectionSample,
    DetectionTransform,
    PhotometricJitter,
    RandomCrop,
    RandomHorizontalFlip,
    RandomShortSideResize,
    RandomSquareResize,
    RandomTranslate,
    ShortSideResize,
    SquareResize,
)
from tests.transforms.painted import ALMOST_ONE, assert_painted, noise, painted_cases, sample_of

RESIZES = (
    SquareResize(size=97),
    ShortSideResize(short=80, long_cap=131),
    RandomSquareResize(sizes=(64, 97, 128)),
    RandomShortSideResize(shorts=(64, 80), long_cap=131),
)
MOVES = (RandomHorizontalFlip(probability=0.7), RandomCrop(probability=0.9), RandomTranslate(probability=0.9))
ALL = (*MOVES, PhotometricJitter(), *RESIZES)
NAMES = [type(t).__name__ for t in ALL]


def ramp(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3] whose pixel at row r, column c is (r, c, r + c)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack((rows, columns, rows + columns), axis=2).astype(np.uint8)


def draw_for(place: int, num_places: int) -> float:
    """A draw in the middle of those that choose a place."""
    return (place + 0.5) / num_places


def no_draws() -> np.ndarray:
    """What a transform without draws is called with."""
    return np.zeros(0)


def assert_sound(result: DetectionSample) -> None:
    """The contract of a sample."""
    image, boxes, labels, (height, width) = result
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert boxes.dtype == np.float32
    assert boxes.shape == (len(labels), 4)
    assert labels.dtype == np.int64
    assert 1 <= height <= image.shape[0]
    assert 1 <= width <= image.shape[1]
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= (width, height)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


# What all transforms have in common


def test_the_sweep_covers_every_transform() -> None:
    """The eight of the module, and of them the four resizes that make a canvas."""
    classes = {c for _, c in inspect.getmembers(detection, inspect.isclass) if c.__module__ == detection.__name__}
    classes -= {DetectionSample, DetectionTransform}
    assert classes == {type(t) for t in ALL}
    assert len(classes) == 8
    assert {c for c in classes if hasattr(c, "canvas_multiple")} == {type(t) for t in RESIZES}
    assert [t.canvas_multiple for t in RESIZES] == [1, 32, 1, 32]
    assert [t.per_batch for t in RESIZES] == [False, False, True, True]


@pytest.mark.parametrize("transform", ALL, ids=NAMES)
def test_contract(transform: DetectionTransform) -> None:
    """Sound results, objects never lost, the same from the same draws, and the sample given is not written into."""
    for sample, draws in painted_cases(transform.num_draws, 100):
        for array in (sample.image, sample.boxes, sample.labels, draws):
            array.flags.writeable = False
        result = transform(sample, draws)
        assert_sound(result)
        assert result.labels[result.labels >= 0].tolist() == sample.labels[sample.labels >= 0].tolist()
        again = pickle.loads(pickle.dumps(transform))(sample, draws)
        assert all(np.array_equal(a, b) for a, b in zip(result, again, strict=True))


@pytest.mark.parametrize("transform", ALL, ids=NAMES)
def test_images_without_objects(transform: DetectionTransform) -> None:
    """No rows, or nothing but an ignore region: then crop and shift leave the sample alone."""
    for boxes, labels in (([], []), ([(1.0, 1.0, 5.0, 6.0)], [-2])):
        sample = sample_of(ramp(20, 30), boxes, labels)
        result = transform(sample, np.full(transform.num_draws, 0.01))
        assert_sound(result)
        assert result.labels.tolist() == labels
        if isinstance(transform, RandomCrop | RandomTranslate):
            assert result is sample


@pytest.mark.parametrize("transform", ALL, ids=NAMES)
def test_repr_says_everything(transform: DetectionTransform) -> None:
    """config.json records the transforms by it."""
    assert eval(repr(transform), dict(vars(detection))) == transform
    assert all(f"{field.name}=" in repr(transform) for field in fields(transform))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("transform", ALL, ids=NAMES)
def test_nothing_may_follow_the_canvas(transform: DetectionTransform) -> None:
    """It would move the border into the picture. (The multi-scale resizes hand on to the plain ones.)"""
    canvas = SquareResize(size=50)(sample_of(ramp(20, 30), []), no_draws())
    name = type(transform).__name__
    name = name.removeprefix("Random") if transform in RESIZES else name
    expected = rf"{name}\(.*picture of \(33, 50\) on a canvas of \(50, 50\).* come last"
    with pytest.raises(ValueError, match=expected):
        transform(canvas, np.full(transform.num_draws, 0.5))


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (SquareResize, {"size": 0}, "size must be given in whole pixels"),
        (SquareResize, {"size": 667.0}, "size must be given in whole pixels"),
        (ShortSideResize, {"short": -1, "long_cap": 9}, "short must be given in whole pixels"),
        (ShortSideResize, {"short": 8, "long_cap": 0}, "long_cap must be given in whole pixels"),
        (ShortSideResize, {"short": 800, "long_cap": 667}, "long_cap must be 800 or more"),
        (RandomSquareResize, {"sizes": ()}, "sizes must be given in whole pixels"),
        (RandomSquareResize, {"sizes": (64, 0)}, "sizes must be given in whole pixels"),
        (RandomShortSideResize, {"shorts": (), "long_cap": 9}, "shorts must be given in whole pixels"),
        (RandomShortSideResize, {"shorts": (640, 800), "long_cap": 700}, "long_cap must be 800 or more"),
        (RandomHorizontalFlip, {"probability": 1.1}, "probability must lie in 0..1"),
        (RandomCrop, {"probability": -0.1}, "probability must lie in 0..1"),
        (RandomTranslate, {"probability": 2}, "probability must lie in 0..1"),
        (PhotometricJitter, {"probability": float("nan")}, "probability must lie in 0..1"),
        (PhotometricJitter, {"brightness": -0.1}, r"brightness=-0.1\) must lie in 0..1"),
        (PhotometricJitter, {"contrast": 1.5}, r"contrast=1.5\) must lie in 0..1"),
        (PhotometricJitter, {"saturation": 2}, r"saturation=2\) must lie in 0..1"),
        (PhotometricJitter, {"hue": 0.6}, r"hue=0.6\) must lie in 0..0.5"),
    ],
)
def test_impossible_settings(kind: type, settings: dict[str, object], expected: str) -> None:
    """Each names the transform and the setting."""
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(.*{expected}"):
        kind(**settings)


# Resizes


def test_square_resize_by_hand() -> None:
    """480x640 -> 500x667 (480 x 667 / 640 = 500.25); x by 667 / 640, y by 500 / 480 = 25 / 24."""
    sample = sample_of(np.full((480, 640, 3), 9, dtype=np.uint8), [(64, 48, 320, 240), (0, 0, 640, 480)])
    result = SquareResize(size=667)(sample, no_draws())
    assert result.content_size == (500, 667)
    assert result.image.shape == (667, 667, 3)
    assert (result.image[:500] == 9).all()
    assert (result.image[500:] == FILL).all()
    assert result.boxes == pytest.approx(np.array([[66.7, 50, 333.5, 250], [0, 0, 667, 500]], dtype=np.float32))
    assert result.boxes[1].tolist() == [0, 0, 667, 500]


def test_square_resize_of_a_tall_picture() -> None:
    """The border is on the right; sizes that stay the same keep every pixel."""
    image = noise(8, 5)
    result = SquareResize(size=8)(sample_of(image, [(1, 2, 3, 4)]), no_draws())
    assert np.array_equal(result.image[:, :5], image)
    assert (result.image[:, 5:] == FILL).all()
    assert result.boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.slow
@pytest.mark.parametrize("size", [512, 667, 1000])
def test_the_long_side_is_exact(size: int) -> None:
    """For every length up to 2000 pixels, 2020's int(length * (size / length)) one less for many; a short side of one
    pixel stays one."""
    for length in range(1, 2001):
        image = np.zeros((1, length, 3), dtype=np.uint8)
        result = SquareResize(size=size)(sample_of(image, [(0, 0, length, 1)]), no_draws())
        assert result.content_size == (max(size // length, 1), size)
        assert result.boxes[0].tolist() == [0, 0, size, max(size // length, 1)]


def test_short_side_resize_by_hand() -> None:
    """480x640 by 800 / 480 -> 800x1066 (1066.67); 200x640 by 1333 / 640 -> 416x1333 (416.56)."""
    resize = ShortSideResize(short=800, long_cap=1333)
    result = resize(sample_of(noise(480, 640), [(64, 48, 320, 240)]), no_draws())
    assert result.image.shape == (800, 1066, 3)
    assert result.boxes == pytest.approx(np.array([[106.6, 80, 533, 400]], dtype=np.float32))
    result = resize(sample_of(noise(200, 640), [(64, 50, 320, 200)]), no_draws())
    assert result.content_size == (416, 1333)
    assert result.boxes == pytest.approx(np.array([[133.3, 104, 666.5, 416]], dtype=np.float32))
    assert resize(sample_of(noise(1, 4000), []), no_draws()).content_size == (1, 1333)


@pytest.mark.parametrize(("short", "long_cap"), [(80, 131), (33, 1000), (64, 64)])
def test_short_side_resize_is_torchvisions(short: int, long_cap: int) -> None:
    """Sizes and boxes of torchvision's detectors for 60 sizes; pixels to one level."""
    theirs = GeneralizedRCNNTransform(short, long_cap, [0.0] * 3, [1.0] * 3)
    rng = np.random.default_rng(short)
    for height, width in rng.integers(20, 150, (60, 2)).tolist():
        sample = sample_of(noise(height, width, height), [(1.5, 2.25, 17.75, 19)])
        result = ShortSideResize(short=short, long_cap=long_cap)(sample, no_draws())
        image = torch.from_numpy(sample.image).permute(2, 0, 1) / 255
        target = {"boxes": torch.from_numpy(sample.boxes), "labels": torch.from_numpy(sample.labels)}
        images, targets = theirs([image], [target])
        assert images.image_sizes == [result.content_size]
        assert targets is not None
        assert result.boxes == pytest.approx(targets[0]["boxes"].numpy(), rel=1e-6)
        pixels = images.tensors[0, :, : result.content_size[0], : result.content_size[1]].permute(1, 2, 0) * 255
        assert np.abs(result.image - pixels.numpy()).max() <= 1


def test_multi_scale_takes_each_size_equally() -> None:
    """Thirds of the draws choose the first, second and third; each is the plain resize."""
    sample = sample_of(noise(30, 40), [(3, 4, 25, 26)])
    for draw, place in ((0.0, 0), (0.33, 0), (0.34, 1), (0.66, 1), (0.67, 2), (ALMOST_ONE, 2)):
        square = RandomSquareResize(sizes=(64, 96, 80))(sample, np.array([draw]))
        expected = SquareResize(size=(64, 96, 80)[place])(sample, no_draws())
        assert all(np.array_equal(a, b) for a, b in zip(square, expected, strict=True))
        short = RandomShortSideResize(shorts=(64, 96, 80), long_cap=120)(sample, np.array([draw]))
        expected = ShortSideResize(short=(64, 96, 80)[place], long_cap=120)(sample, no_draws())
        assert all(np.array_equal(a, b) for a, b in zip(short, expected, strict=True))


@pytest.mark.parametrize("transform", RESIZES, ids=[type(t).__name__ for t in RESIZES])
def test_resized_boxes_lie_on_their_paint(transform: DetectionTransform) -> None:
    """A white box on black is more than half white just where its new box says, to 1/20 of a pixel."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(45, 150, 2).tolist()
        (x1, y1), (x2, y2) = rng.integers(0, 20, 2), (width, height) - rng.integers(0, 20, 2)
        image = np.zeros((height, width, 3), dtype=np.uint8)
        image[y1:y2, x1:x2] = 255
        result = transform(sample_of(image, [(x1, y1, x2, y2)]), rng.random(transform.num_draws))
        height, width = result.content_size
        white = result.image[:height, :width, 0] > 127
        left, top, right, bottom = result.boxes[0].tolist()
        across, down = np.arange(width) + 0.5, np.arange(height) + 0.5
        clear = np.minimum(abs(across - left), abs(across - right)) > 0.05
        assert np.array_equal(white[height // 2][clear], ((left < across) & (across < right))[clear])
        clear = np.minimum(abs(down - top), abs(down - bottom)) > 0.05
        assert np.array_equal(white[:, width // 2][clear], ((top < down) & (down < bottom))[clear])


# Moves


def test_flip_by_hand() -> None:
    """x1, x2 -> 6 - x2, 6 - x1 in a picture 6 pixels wide; a draw equal to the probability does nothing."""
    sample = sample_of(ramp(4, 6), [(0, 1, 1.25, 3), (2, 0, 6, 4)], [5, -2])
    flip = RandomHorizontalFlip(probability=0.25)
    result = flip(sample, np.array([0.2499]))
    assert result.boxes.tolist() == [[4.75, 1, 6, 3], [0, 0, 4, 4]]
    assert result.labels.tolist() == [5, -2]
    assert result.image[2, :, 1].tolist() == [5, 4, 3, 2, 1, 0]
    assert flip(sample, np.array([0.25])) is sample
    assert RandomHorizontalFlip(probability=0)(sample, np.zeros(1)) is sample


def test_crop_by_hand() -> None:
    """Objects from 3.5, 2 to 7.25, 5 in 8 rows, 10 columns: left edge 0..3, top 0..2, right 8..10, bottom 5..8."""
    sample = sample_of(ramp(8, 10), [(3.5, 2, 5, 4), (4, 3, 7.25, 5), (0, 0, 3, 3), (1, 0, 6, 8)], [7, 8, -2, -3])
    crop = RandomCrop(probability=0.5)
    draws = np.array([0.4, draw_for(3, 4), draw_for(1, 3), draw_for(1, 3), draw_for(3, 4)])
    result = crop(sample, draws)  # left 3, top 1, right 10 - 1 = 9, bottom 8 - 3 = 5
    assert np.array_equal(result.image, sample.image[1:5, 3:9])
    assert result.content_size == (4, 6)
    # The first ignore region ended where the window begins: gone. The second is cut on three sides.
    assert result.boxes.tolist() == [[0.5, 1, 2, 3], [1, 2, 4.25, 4], [0, 0, 3, 4]]
    assert result.labels.tolist() == [7, 8, -3]
    smallest = crop(sample, np.array([0, *[ALMOST_ONE] * 4]))
    assert np.array_equal(smallest.image, sample.image[2:5, 3:8])
    largest = crop(sample, np.zeros(5))
    assert np.array_equal(largest.image, sample.image)
    assert crop(sample, np.array([0.5, *[0.9] * 4])) is sample


def test_translate_by_hand() -> None:
    """Objects from 3.5, 2 to 7.25, 5 in 8 rows, 10 columns: shifts by -3..2 and -2..3."""
    sample = sample_of(ramp(8, 10), [(3.5, 2, 7.25, 5), (0, 4, 5, 8), (0, 7, 9, 8)], [7, -2, -3])
    translate = RandomTranslate(probability=0.5)
    result = translate(sample, np.array([0.4, draw_for(2, 6), draw_for(4, 6)]))  # 2 - 3 = -1 and 4 - 2 = 2
    assert np.array_equal(result.image[2:, :9], sample.image[:6, 1:])
    assert (result.image[:2] == FILL).all()
    assert (result.image[:, 9] == FILL).all()
    assert result.content_size == (8, 10)
    assert result.boxes.tolist() == [[2.5, 4, 6.25, 7], [0, 6, 4, 8]]
    assert result.labels.tolist() == [7, -2]
    up_left = translate(sample, np.zeros(3))
    assert np.array_equal(up_left.image[:6, :7], sample.image[2:, 3:])
    down_right = translate(sample, np.array([0, ALMOST_ONE, ALMOST_ONE]))
    assert np.array_equal(down_right.image[3:, 2:], sample.image[:5, :8])
    assert translate(sample, np.array([0.5, 0, 0])) is sample


def test_objects_that_fill_the_picture_hold_it_in_place() -> None:
    """No crop and no shift is possible then."""
    sample = sample_of(noise(9, 7), [(0, 0, 3, 9), (6.5, 0, 7, 1)])
    for transform in (RandomCrop(probability=1), RandomTranslate(probability=1)):
        for draw in (0, 0.5, ALMOST_ONE):
            result = transform(sample, np.full(transform.num_draws, draw))
            assert all(np.array_equal(a, b) for a, b in zip(result, sample, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("transform", MOVES, ids=NAMES[:3])
def test_moved_boxes_are_their_paint(transform: DetectionTransform) -> None:
    """To the pixel, ignore regions (whole, cut or gone) included."""
    for sample, draws in painted_cases(transform.num_draws):
        assert_painted(transform(sample, draws), len(sample.labels))


@pytest.mark.slow
def test_a_whole_chain() -> None:
    """Flip, crop and shift one after the other keep the paint; the canvas after it is sound."""
    num_gone = 0
    for sample, draws in painted_cases(9):
        result = sample
        for transform, part in zip(MOVES, np.split(draws, [1, 6]), strict=True):
            result = transform(result, part)
        assert_painted(result, len(sample.labels))
        num_gone += len(sample.labels) - len(result.labels)
        final = SquareResize(size=97)(result, no_draws())
        assert_sound(final)
        assert len(final.labels) == len(result.labels)
    assert num_gone > 20  # ignore regions beyond a window


@pytest.mark.slow
def test_every_side_is_cut_and_every_border_is_filled() -> None:
    """2020 could crop only left and top. One object in the middle: each side loses its outermost row in most draws, and
    on average half of what it can lose."""
    sample = sample_of(ramp(60, 60), [(20, 20, 40, 40)])
    rng = np.random.default_rng(0)
    cut = np.zeros((2000, 4))
    shift = np.zeros((2000, 2))
    for row in range(2000):
        result = RandomCrop(probability=1)(sample, rng.random(5))
        left, top = 20 - result.boxes[0, :2]
        cut[row] = left, top, 60 - result.image.shape[1] - left, 60 - result.image.shape[0] - top
        shift[row] = RandomTranslate(probability=1)(sample, rng.random(3)).boxes[0, :2] - 20
    assert cut.min(axis=0).tolist() == [0] * 4
    assert cut.max(axis=0).tolist() == [20] * 4
    assert cut.mean(axis=0) == pytest.approx(10, abs=0.7)  # 5 standard deviations of 6.06 / sqrt(2000)
    assert shift.min(axis=0).tolist() == [-20] * 2
    assert shift.max(axis=0).tolist() == [20] * 2
    assert shift.mean(axis=0) == pytest.approx(0, abs=1.4)


@pytest.mark.slow
def test_boxes_at_fractions_stay_inside() -> None:
    """Boxes to the last bit below an edge, over 2000 random chains: nothing leaves the picture or loses its area."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        height, width = rng.integers(3, 40, 2).tolist()
        corners = np.sort(rng.random((4, 2, 2)), axis=1) * (width, height)  # [4, 2, 2]
        corners[0, 1] = np.nextafter(np.array([width, height], dtype=np.float32), np.float32(0))
        corners[1, 1] = width, height
        boxes = corners.reshape(4, 4).astype(np.float32)
        result = DetectionSample(
            np.zeros((height, width, 3), np.uint8), boxes, np.array([1, -2, 0, 3]), (height, width)
        )
        for transform in (*MOVES, SquareResize(size=int(rng.integers(1, 70)))):
            result = transform(result, rng.random(transform.num_draws))
            assert_sound(result)
            assert (result.labels >= 0).sum() == 3


def test_a_box_that_rounding_flattens_goes() -> None:
    """1e-6 pixels wide at 0, where float32 tells such numbers apart; mirrored to 640 it cannot."""
    sample = sample_of(np.zeros((5, 640, 3), dtype=np.uint8), [(1e-6, 0, 2e-6, 5), (1, 0, 2, 5)])
    result = RandomHorizontalFlip(probability=1)(sample, np.zeros(1))
    assert result.labels.tolist() == [1]
