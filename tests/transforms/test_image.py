"""Transforms of one image: by hand, against torchvision, and what they draw from."""

import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from public.runtime.seeding import drawing_for
from public.transforms.image import Cutout, RandomErasing, RandomResizedCrop


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (64, 64), (256, 341), (341, 256)])
@pytest.mark.parametrize("layout", ["decoded", "planar", "pil"])
def test_random_resized_crop_is_torchvisions(height: int, width: int, layout: str) -> None:
    generator = torch.Generator().manual_seed(height)
    decoded = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)
    image = {"decoded": decoded, "planar": decoded.contiguous(), "pil": v2.functional.to_pil_image(decoded)}[layout]
    for seed in range(5):
        results = []
        for transform in (RandomResizedCrop(32), v2.RandomResizedCrop(32)):
            torch.manual_seed(seed)
            results.append(v2.functional.to_image(transform(image)))
        assert torch.equal(*results)


def test_the_decoded_layout_is_kept() -> None:
    decoded = torch.zeros(50, 60, 3, dtype=torch.uint8).permute(2, 0, 1)
    assert RandomResizedCrop(32)(decoded).stride() == (1, 96, 3)


# ---- Cutout and random erasing ---------------------------------------------------------------------------------------


def noise(height: int, width: int) -> torch.Tensor:
    """A decoded image, whose memory is [H, W, 3], without the colors that the tests fill in."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(8, 256, (height, width, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)


@pytest.mark.parametrize(("y", "x"), [(0, 0), (5, 3), (9, 11), (2, 11)])
@pytest.mark.parametrize("size", [4, 5])
def test_cutout_by_hand(y: int, x: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around pixel (y, x) from y - size // 2 on, `size` rows; likewise columns; what lies outside is lost."""
    image = noise(10, 12)
    before = image.clone()
    draws = iter((torch.tensor(y), torch.tensor(x)))
    monkeypatch.setattr(torch, "randint", lambda high, shape: next(draws))
    top, left = y - size // 2, x - size // 2
    expected = image.clone()
    for row in range(max(top, 0), min(top + size, 10)):
        for column in range(max(left, 0), min(left + size, 12)):
            expected[:, row, column] = torch.tensor([1, 2, 3])
    assert torch.equal(Cutout(size, fill=(1, 2, 3))(image), expected)
    assert torch.equal(image, before)


def test_cutouts_centre_is_anywhere() -> None:
    """Each pixel of a 4x5 image is covered alone a 20th of the time, 2,000 times: 100 +- 5 x 9.7."""
    torch.manual_seed(0)
    transform, image = Cutout(1, fill=(0, 0, 0)), noise(4, 5)
    counts = torch.stack([transform(image)[0] == 0 for _ in range(2000)]).sum(0)
    assert counts.sum() == 2000
    assert (counts - 100).abs().max() < 5 * 9.7


def test_random_erasing_follows_its_numbers() -> None:
    """Areas, sides and probability; the pixels are random ones, and the rest stays."""
    torch.manual_seed(0)
    image = torch.full((3, 60, 80), 7, dtype=torch.uint8)
    transform, num_erased = RandomErasing(probability=0.6, scale=(0.1, 0.3), ratio=(0.5, 2.0)), 0
    for _ in range(400):
        changed = (transform(image) != 7).any(0)  # one of 256^3 pixels is drawn as it was
        if not changed.any():
            continue
        num_erased += 1
        height, width = int(changed.any(1).sum()), int(changed.any(0).sum())
        assert changed.sum() == height * width
        assert 0.1 * 4800 - height - width - 1 <= height * width <= 0.3 * 4800
        assert 0.45 < height / width < 2.2
    # Ten tries miss in few cases: 240 +- 5 x 9.8, less some that found no place.
    assert 185 < num_erased < 289
    erased = RandomErasing(probability=1.0, scale=(0.3, 0.3))(image).flatten()
    assert len(erased.unique()) == 256


def test_a_rectangle_that_never_fits_covers_nothing() -> None:
    """Taller than the image at every try."""
    image = noise(10, 100)
    assert RandomErasing(1.0, scale=(0.4, 0.4), ratio=(3.0, 3.0))(image) is image


TRANSFORMS = {
    "rotation": v2.RandomRotation((-15, 15)),
    "jitter": v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "autoaugment": v2.AutoAugment(),
    "randaugment": v2.RandAugment(),
    "trivialaugment": v2.TrivialAugmentWide(),
    "torchvision_erasing": v2.RandomErasing(p=1.0),
    "erasing": RandomErasing(probability=1.0),
    "cutout": Cutout(8),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("decoder", ["opencv", "pil"])
def test_draws_depend_on_seed_epoch_and_image_alone(name: str, decoder: str) -> None:
    """Every transform that a config may list draws from torch's generator, whatever numpy's and python's hold.

    It takes what both decoders give, keeps its size and leaves the global generator alone.
    """
    transform = TRANSFORMS[name]
    image = noise(24, 31)
    source = image if decoder == "opencv" else v2.functional.to_pil_image(image)
    results = []
    for coordinates in ((0, 1, 2), (0, 1, 2), (0, 1, 3), (0, 2, 2), (1, 1, 2)):
        torch.manual_seed(len(results))
        np.random.seed(len(results))  # noqa: NPY002 - the global generator is what must not matter
        random.seed(len(results))
        before = torch.get_rng_state()
        with drawing_for(*coordinates):
            result = transform(source)
        assert torch.equal(torch.get_rng_state(), before)
        assert isinstance(result, torch.Tensor) == (decoder == "opencv")
        results.append(v2.functional.pil_to_tensor(result) if decoder == "pil" else result)
    assert all((result.shape, result.dtype) == ((3, 24, 31), torch.uint8) for result in results)
    assert torch.equal(results[0], results[1])
    assert any(not torch.equal(results[0], other) for other in results[2:])


@pytest.mark.parametrize("name", ["erasing", "cutout"])
def test_both_decoders_give_the_same_pixels(name: str) -> None:
    """PIL images are covered as tensors are, all three colors of them."""
    image = noise(24, 31)
    results = []
    for source in (image, v2.functional.to_pil_image(image)):
        torch.manual_seed(3)
        results.append(v2.functional.to_image(TRANSFORMS[name](source)))
    assert torch.equal(*results)
    assert not torch.equal(results[0], image)


def test_the_record_tells_their_settings_apart() -> None:
    """What config.json and checkpoints keep of a transform."""
    assert repr(Cutout(16)) == "Cutout(size=16, fill=(124, 116, 104))"
    assert repr(RandomErasing(0.25)).startswith("RandomErasing(probability=0.25, scale=(0.02, 0.4), ratio=(0.3, 3.33")
