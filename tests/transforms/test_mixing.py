"""Mixup and CutMix by hand, and what their draws depend on."""

import numpy as np
import pytest
import torch

from public.transforms.mixing import Draws, Mixed, Mixing, cutmix, mixup, partners


def images_of(count: int, side: int = 10) -> torch.Tensor:
    """uint8 [count, 3, side, side]; image n is all n."""
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 3, side, side).contiguous()


def test_neighbors_are_partners() -> None:
    """Of any number of dimensions."""
    assert partners(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    assert torch.equal(partners(images_of(4))[:, 0, 0, 0], torch.tensor([1, 0, 3, 2], dtype=torch.uint8))


def test_mixup_by_hand() -> None:
    """0.75 of each image and 0.25 of its partner: 0.25, 0.75, 2.25 and 2.75."""
    mixed = mixup(images_of(4), torch.tensor([5, 6, 7, 8]), 0.75)
    assert mixed.images.dtype == torch.float32
    assert mixed.images.shape == (4, 3, 10, 10)
    assert mixed.images[:, 2, 3, 4].tolist() == [0.25, 0.75, 2.25, 2.75]
    assert (mixed.labels.tolist(), mixed.others.tolist()) == ([5, 6, 7, 8], [6, 5, 8, 7])
    assert mixed.shares.tolist() == [0.75] * 4


def test_cutmix_by_hand() -> None:
    """A share of 0.75 on 10x10 pixels: a box of sqrt(0.25) x 10 = 5 pixels.

    Around x = 1.5 it would reach from -1 to 4: columns 0 to 3. Around y = 9.5 from 7 to 12: rows 7 to 9. 3 x 4 = 12
    of the 100 pixels are the partner's, so the share is 0.88.
    """
    before = images_of(2)
    mixed = cutmix(before, torch.tensor([5, 6]), Draws("cutmix", 0.75, x=0.15, y=0.95))
    assert mixed.images.dtype == torch.uint8
    expected = torch.zeros(10, 10, dtype=torch.uint8)
    expected[7:10, 0:4] = 1
    assert torch.equal(mixed.images[0], expected.expand(3, 10, 10))
    assert torch.equal(mixed.images[1], 1 - expected.expand(3, 10, 10))
    assert (mixed.labels.tolist(), mixed.others.tolist()) == ([5, 6], [6, 5])
    assert mixed.shares.tolist() == pytest.approx([0.88, 0.88])
    assert torch.equal(before, images_of(2))


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.0, 0.0)])
def test_the_ends_of_cutmix(share: float, expected: float) -> None:
    """Nothing or, around the center, everything is the partner's."""
    mixed = cutmix(images_of(2), torch.tensor([0, 1]), Draws("cutmix", share, x=0.5, y=0.5))
    assert mixed.shares.tolist() == [expected] * 2
    assert torch.equal(mixed.images, images_of(2) if share else images_of(2).flip(0))


def test_draws_depend_on_seed_and_step_alone() -> None:
    """Asked in any order, whatever the global generators hold; other seeds and steps draw otherwise."""
    mixing = Mixing(0.2, 1.0, seed=3)
    forward = [mixing.draws(step) for step in range(20)]
    np.random.seed(0)  # noqa: NPY002 - the global generator is what must not matter
    torch.manual_seed(0)
    assert [Mixing(0.2, 1.0, seed=3).draws(step) for step in reversed(range(20))][::-1] == forward
    assert len({draws.share for draws in forward if draws}) == 20
    assert [Mixing(0.2, 1.0, seed=4).draws(step) for step in range(20)] != forward
    assert Mixing(0.2, 1.0, seed=-1).draws(0) is not None


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)), within five standard deviations of 4000 draws."""
    mixing = Mixing(alpha, None, seed=0)
    shares = np.array([draws.share for step in range(4000) if (draws := mixing.draws(step))])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 5 * np.sqrt(variance / 4000)
    assert abs(shares.var() - variance) < 0.01


def test_methods_and_steps_that_do_not_mix() -> None:
    """Both halves of the steps; a quarter of the steps; none."""
    mixing = Mixing(0.2, 1.0, seed=0)
    methods = [draws.method for step in range(2000) if (draws := mixing.draws(step))]
    assert abs(methods.count("mixup") - 1000) < 5 * 22.4
    quarter = Mixing(None, 1.0, 0.25, seed=0)
    mixed = [quarter.draws(step) for step in range(2000)]
    assert abs(sum(draws is not None for draws in mixed) - 500) < 5 * 19.4
    assert {draws.method for draws in mixed if draws} == {"cutmix"}
    images, labels = images_of(4), torch.arange(4)
    batch = Mixing(None, None, seed=0)(images, labels, 0)
    assert batch[0] is images
    assert batch[1] is labels


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), [(0.2, None), (None, 1.0)])
def test_the_number_of_processes_changes_nothing(mixup_alpha: float | None, cutmix_alpha: float | None) -> None:
    """Each half of a batch, mixed by itself, is a half of the mixed batch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 6, 7), dtype=torch.uint8, generator=generator)
    labels = torch.arange(8)
    mixing = Mixing(mixup_alpha, cutmix_alpha, seed=0)
    for step in range(5):
        whole = mixing(images, labels, step)
        halves = [mixing(images[part], labels[part], step) for part in (slice(0, 4), slice(4, 8))]
        assert isinstance(whole, Mixed)
        for field, parts in zip(whole, zip(*halves, strict=True), strict=True):
            assert torch.equal(field, torch.cat(parts))
