"""Photometric jitter: pixels by hand, and torchvision's operations as the reference."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from public.transforms.detection import PhotometricJitter
from tests.transforms.painted import noise, sample_of


def jitter_draws(brightness: float, contrast: float, saturation: float, hue: float, late: bool = False) -> np.ndarray:
    """Draws for amounts given as parts -1..1 of the greatest; 0 leaves that one out."""
    amounts = np.array([brightness, contrast, saturation, hue])
    return np.concatenate((np.where(amounts == 0, 0.9, 0), (amounts + 1) / 2, [0.9 if late else 0.1]))


def jittered(jitter: PhotometricJitter, image: np.ndarray, *amounts: float, late: bool = False) -> np.ndarray:
    """The image distorted by parts -1..1 of each greatest amount."""
    return jitter(sample_of(image, []), jitter_draws(*amounts, late=late)).image


def difference(image: np.ndarray, expected: torch.Tensor) -> np.ndarray:
    """Levels between an image [H, W, 3] and torchvision's [3, H, W]."""
    return np.abs(image.astype(int) - expected.permute(1, 2, 0).numpy().astype(int))


def test_jitter_by_hand() -> None:
    """Pixels (100, 150, 200) and (0, 0, 0): mean gray (29.9 + 88.05 + 22.8) / 2 = 70.375 and own gray 140.75."""
    image = np.array([[[100, 150, 200], [0, 0, 0]]], dtype=np.uint8)
    jitter = PhotometricJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5)
    assert jittered(jitter, image, 1, 0, 0, 0).tolist() == [[[150, 225, 255], [0, 0, 0]]]
    assert jittered(jitter, image, -1, 0, 0, 0).tolist() == [[[50, 75, 100], [0, 0, 0]]]
    # Half way to 70.375: 85.2, 110.2, 135.2 and 35.2.
    assert jittered(jitter, image, 0, -1, 0, 0).tolist() == [[[85, 110, 135], [35, 35, 35]]]
    # Half way to 140.75: 120.4, 145.4, 170.4.
    assert jittered(jitter, image, 0, 0, -1, 0).tolist() == [[[120, 145, 170], [0, 0, 0]]]
    # A third of the color circle forward, and one back.
    pure = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    assert jittered(jitter, pure, 0, 0, 0, 2 / 3).tolist() == np.roll(pure, 1, axis=2).tolist()
    assert jittered(jitter, pure, 0, 0, 0, -2 / 3).tolist() == np.roll(pure, -1, axis=2).tolist()


@pytest.mark.parametrize("part", [-1, -0.5, 0.3, 1])
def test_each_distortion_is_torchvisions(part: float) -> None:
    """On noise, the hardest picture: to one level, but for the hue, which passes through 8 bits."""
    image = noise(60, 80)
    planar = torch.from_numpy(image).permute(2, 0, 1)
    jitter = PhotometricJitter()
    factor = 1 + part / 2
    expected = reference.adjust_brightness(planar, 1 + part / 8)
    assert difference(jittered(jitter, image, part, 0, 0, 0), expected).max() <= 1
    expected = reference.adjust_contrast(planar, factor)
    assert difference(jittered(jitter, image, 0, part, 0, 0), expected).max() <= 1
    expected = reference.adjust_saturation(planar, factor)
    assert difference(jittered(jitter, image, 0, 0, part, 0), expected).max() <= 1
    hue = difference(jittered(jitter, image, 0, 0, 0, part), reference.adjust_hue(planar, part / 20))
    assert hue.max() <= 8
    assert hue.mean() <= 0.5


@pytest.mark.parametrize("late", [False, True])
def test_the_order_is_torchvisions(late: bool) -> None:
    """Brightness, contrast, saturation, hue, or contrast last."""
    image = noise(60, 80, seed=1)
    planar = reference.adjust_brightness(torch.from_numpy(image).permute(2, 0, 1), 1.125)
    expected = planar if late else reference.adjust_contrast(planar, 1.5)
    expected = reference.adjust_hue(reference.adjust_saturation(expected, 1.5), 0.05)
    expected = reference.adjust_contrast(expected, 1.5) if late else expected
    assert difference(jittered(PhotometricJitter(), image, 1, 1, 1, 1, late=late), expected).mean() <= 2
    other = jittered(PhotometricJitter(), image, 1, 1, 1, 1, late=not late)
    assert difference(other, expected).mean() > 4


def test_no_jitter_changes_nothing() -> None:
    """Amounts of zero, a probability of zero, and draws that choose none; color changes leave gray pixels alone."""
    image = noise(20, 30)
    rng = np.random.default_rng(0)
    still = PhotometricJitter(brightness=0, contrast=0, saturation=0, hue=0, probability=1)
    gray = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    colors_only = PhotometricJitter(brightness=0, contrast=0, probability=1)
    for _ in range(50):
        draws = rng.random(9)
        assert np.array_equal(still(sample_of(image, []), draws).image, image)
        assert np.array_equal(PhotometricJitter(probability=0)(sample_of(image, []), draws).image, image)
        assert np.array_equal(colors_only(sample_of(gray, []), draws).image, gray)
    assert np.array_equal(jittered(PhotometricJitter(), image, 0, 0, 0, 0), image)


def test_jitter_leaves_boxes_alone() -> None:
    """It hands on the very arrays."""
    sample = sample_of(noise(20, 30), [(1, 2, 3, 4)])
    result = PhotometricJitter(probability=1)(sample, np.full(9, 0.2))
    assert result.boxes is sample.boxes
    assert result.labels is sample.labels
    assert not np.array_equal(result.image, sample.image)
