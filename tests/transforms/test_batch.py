"""Whole-batch augmentation: every window of a 4x4 image by hand, and torchvision as the reference."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from public.transforms.batch import (
    BatchCutout,
    BatchRandomCrop,
    BatchRandomErasing,
    BatchRandomHorizontalFlip,
    EachImage,
    _mirror,
)

# Rows and columns 2 1 | 0 1 2 3 | 2 1 of a 4x4 image, padded by 2 on every side.
MIRRORED = [2, 1, 0, 1, 2, 3, 2, 1]


def grid() -> torch.Tensor:
    """One image [1, 3, 4, 4] whose pixel at row r, column c of channel k is 100 k + 10 r + c."""
    rows, columns, channels = torch.arange(4)[:, None], torch.arange(4), torch.arange(3)[:, None, None]
    return (100 * channels + 10 * rows + columns).to(torch.uint8)[None]


def draw_for(place: int, num_places: int) -> float:
    """A draw in the middle of those that choose a place."""
    return (place + 0.5) / num_places


@pytest.mark.parametrize("y", range(5))
@pytest.mark.parametrize("x", range(5))
def test_every_reflected_window_by_hand(y: int, x: int) -> None:
    """Padded by 2, a 4x4 image has 5 x 5 windows; pixel (i, j) of window (y, x) is 10 M[y + i] + M[x + j]."""
    crop = BatchRandomCrop(size=4, padding=2)
    draws = torch.tensor([[draw_for(y, 5), draw_for(x, 5)]], dtype=torch.float64)
    window = crop(grid(), draws)
    expected = [[10 * MIRRORED[y + i] + MIRRORED[x + j] for j in range(4)] for i in range(4)]
    assert window[0, 0].tolist() == expected
    assert window[0, 1].tolist() == [[100 + pixel for pixel in row] for row in expected]
    padded = F.pad(grid().float(), [2] * 4, mode="reflect").to(torch.uint8)
    assert torch.equal(window, reference.crop(padded, y, x, 4, 4))


@pytest.mark.parametrize("y", [0, 1, 4])
@pytest.mark.parametrize("x", [0, 3, 4])
def test_black_padding(y: int, x: int) -> None:
    """With reflect=False what lies outside the image is 0."""
    crop = BatchRandomCrop(size=4, padding=2, reflect=False)
    draws = torch.tensor([[draw_for(y, 5), draw_for(x, 5)]], dtype=torch.float64)
    assert torch.equal(crop(grid(), draws), reference.crop(reference.pad(grid(), [2] * 4), y, x, 4, 4))


def test_mirrored_rows() -> None:
    """The edge itself is not repeated; padding of length - 1 still works, 0 changes nothing."""
    assert _mirror(torch.arange(4), 0, 2).tolist() == MIRRORED
    assert _mirror(torch.arange(3), 0, 2).tolist() == [2, 1, 0, 1, 2, 1, 0]
    assert _mirror(torch.arange(3), 0, 0).tolist() == [0, 1, 2]


def test_each_image_gets_its_own_window() -> None:
    """A batch of non-square images against torchvision, one by one; the input is left as it was."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 3, 10, 14), dtype=torch.uint8, generator=generator)
    draws = torch.rand(32, 2, dtype=torch.float64, generator=generator)
    before = images.clone()
    windows = BatchRandomCrop(size=8, padding=3)(images, draws)  # places: 10 + 6 - 8 + 1 = 9 and 14 + 6 - 8 + 1 = 13
    padded = F.pad(images.float(), [3] * 4, mode="reflect").to(torch.uint8)
    for window, image, (y, x) in zip(windows, padded, draws.tolist(), strict=True):
        assert torch.equal(window, reference.crop(image, int(y * 9), int(x * 13), 8, 8))
    assert torch.equal(images, before)
    assert windows.dtype == torch.uint8


def test_the_largest_draw_stays_inside() -> None:
    """1 - 2**-53 times the number of places never rounds up to it, from 1 to 65 places."""
    draws = torch.full((1, 2), 1 - 2.0**-53, dtype=torch.float64)
    for padding in range(33):
        images = torch.arange(40, dtype=torch.uint8).expand(1, 3, 40, 40)
        window = BatchRandomCrop(size=40, padding=padding)(images, draws)
        assert window[0, 0, 0, 0] == padding  # the last window starts 2 x padding - padding pixels into the image


def test_all_places_are_equally_likely() -> None:
    """20,000 windows of one pixel from 9x9 different ones: each 247 times, within 5 standard deviations of 15.6."""
    draws = torch.rand(20_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = torch.arange(81, dtype=torch.uint8).view(1, 1, 9, 9).expand(20_000, 3, 9, 9)
    pixels = BatchRandomCrop(size=1, padding=0)(images, draws)[:, 0, 0, 0]
    assert (torch.bincount(pixels, minlength=81) - 20_000 / 81).abs().max() < 5 * 15.6


def test_flip_by_hand() -> None:
    """Draws below the probability mirror the image left to right; a draw equal to it does not."""
    images = grid().repeat(3, 1, 1, 1)
    draws = torch.tensor([[0.0], [0.25], [0.2499]], dtype=torch.float64)
    flipped = BatchRandomHorizontalFlip(probability=0.25)(images, draws)
    assert flipped[0, 0, 1].tolist() == [13, 12, 11, 10]
    assert torch.equal(flipped[1], images[1])
    assert torch.equal(flipped[2], reference.horizontal_flip(images[2]))
    assert flipped.dtype == torch.uint8


@pytest.mark.parametrize(("probability", "is_flipped"), [(0.0, False), (1.0, True)])
def test_never_and_always_flip(probability: float, is_flipped: bool) -> None:
    """At both ends of the draws."""
    draws = torch.tensor([[0.0], [1 - 2.0**-53]], dtype=torch.float64)
    images = grid().repeat(2, 1, 1, 1)
    expected = images.flip(3) if is_flipped else images
    assert torch.equal(BatchRandomHorizontalFlip(probability=probability)(images, draws), expected)


def places_of(images: torch.Tensor, color: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    """The rectangle of each image in a color, as its first and last row and its first and last column."""
    covered = (images == torch.tensor(color).view(3, 1, 1)).all(1)  # [B, H, W]
    rectangles = []
    for mask in covered:
        rows, columns = mask.any(1).nonzero()[:, 0].tolist(), mask.any(0).nonzero()[:, 0].tolist()
        assert int(mask.sum()) == len(rows) * len(columns), "a whole rectangle"
        rectangles.append((rows[0], rows[-1], columns[0], columns[-1]) if rows else (0, -1, 0, -1))
    return rectangles


def test_cutout_by_hand() -> None:
    """Squares of 4 around (0, 0), (5, 2) and (9, 11) of a 10x12 image: 2 before the center, 1 after it."""
    images = torch.full((3, 3, 10, 12), 50, dtype=torch.uint8)
    draws = torch.tensor([[0.0, 0.0], [draw_for(5, 10), draw_for(2, 12)], [1 - 2.0**-53] * 2], dtype=torch.float64)
    covered = BatchCutout(size=4, fill=(1, 2, 3))(images, draws)
    assert covered.dtype == torch.uint8
    assert places_of(covered, (1, 2, 3)) == [(0, 1, 0, 1), (3, 6, 0, 3), (7, 9, 9, 11)]
    assert (images == 50).all()


def erasing_draws(erase: float, *tries: tuple[float, float, float, float]) -> list[float]:
    """The 41 draws of an image: whether, and up to ten tries of area, ratio, y and x; the others are too large."""
    too_large = [(0.5, 0.5, 0.99, 0.99)] * (10 - len(tries))
    return [erase, *(number for one in (*tries, *too_large) for number in one)]


def test_random_erasing_by_hand() -> None:
    """scale 0.1 to 0.3 of 20x20 = 40 to 120 pixels, ratio 0.5 to 2.

    area 0.5 -> 80, ratio 1/3 -> 1: sides floor(sqrt(80)) = 8. ratio 1 -> 2 with area 0.5: sqrt(160) = 12 by
    sqrt(40) = 6. The second image's first try, 8 rows from row 15 on, leaves the image; its second one counts.
    """
    transform = BatchRandomErasing(probability=0.5, scale=(0.1, 0.3), ratio=(0.5, 2.0), fill=(9, 8, 7))
    third, last = 1 / 3, 1 - 2.0**-53
    draws = [
        erasing_draws(0.49, (0.5, third, draw_for(3, 20), draw_for(12, 20))),
        erasing_draws(0.0, (0.5, third, draw_for(15, 20), 0.0), (0.5, last, draw_for(8, 20), draw_for(14, 20))),
        erasing_draws(0.5, (0.5, third, 0.0, 0.0)),
        erasing_draws(0.0),
    ]
    images = torch.full((4, 3, 20, 20), 50, dtype=torch.uint8)
    covered = transform(images, torch.tensor(draws, dtype=torch.float64))
    nothing = (0, -1, 0, -1)
    assert places_of(covered, (9, 8, 7)) == [(3, 10, 12, 19), (8, 19, 14, 19), nothing, nothing]
    assert ((covered == 50) | (covered == torch.tensor([9, 8, 7]).view(3, 1, 1))).all()


def test_each_image_is_transformed_by_its_own_draw() -> None:
    """A draw gives the same result in any batch; another draw another one; the global generator is left alone."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=generator).repeat(3, 1, 1, 1)
    transform = EachImage(transform=v2.ColorJitter(0.5, 0.5))
    before = torch.get_rng_state()
    first = transform(images, torch.tensor([[0.25], [0.5], [0.25]], dtype=torch.float64))
    assert torch.equal(torch.get_rng_state(), before)
    assert (first.shape, first.dtype) == (images.shape, torch.uint8)
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(transform(images[:1], torch.tensor([[0.5]], dtype=torch.float64))[0], first[1])
    assert repr(transform).startswith("EachImage(transform=ColorJitter(brightness=(0.5, 1.5)")
