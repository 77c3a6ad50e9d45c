"""Which anchors and regions a loss is taken over: so many of each image, drawn anew in each epoch.

A draw is a hash of (the image's seed, what is drawn for, the number of the anchor). There is no generator whose state
would have to be saved, every device gives the same numbers, and an image's sample is the same in whatever batch it
lies.
"""

import torch
from torch import Tensor

from public.geometry.labels import BACKGROUND

# SplitMix64 (Steele, Lea, Flood 2014), as in public/runtime/seeding.py; torch has no arithmetic of unsigned numbers.
_STEP, _MIX_1, _MIX_2 = (x - 2**64 for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_LAST = torch.iinfo(torch.int64).max


def draws(seeds: Tensor, purpose: int, numbers: Tensor) -> Tensor:
    """A random number for each thing of each image.

    Args:
        seeds: int64 [B], of the images.
        purpose: what is drawn for: other purposes get other numbers.
        numbers: int64 [N] or [B, N], of the things.

    Returns:
        int64 [B, N], evenly spread from 0 to 2^63 - 1.
    """
    keys = _splitmix64(_splitmix64(seeds) + purpose)  # [B]
    return _unsigned_shift(_splitmix64(keys[:, None] + numbers * _STEP), 1)


def _splitmix64(state: Tensor) -> Tensor:
    z = state + _STEP  # wraps around, which is meant
    z = (z ^ _unsigned_shift(z, 30)) * _MIX_1
    z = (z ^ _unsigned_shift(z, 27)) * _MIX_2
    return z ^ _unsigned_shift(z, 31)


def _unsigned_shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & (2 ** (64 - bits) - 1)


def balanced_sample(labels: Tensor, order: Tensor, *, size: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Up to `size` of each image, of which up to a fraction are positives; the rest is filled up with background.

    Where there are fewer positives, more background is taken; where there is less background, the sample is smaller.

    Args:
        labels: int64 [B, N], the class, BACKGROUND or IGNORED.
        order: int64 [B, N], 0 or more: those with the lowest numbers are taken.
        size: see above.
        positive_fraction: see above, 0 to 1.

    Returns:
        int64 [B, S] places in N, positives first, and bool [B, S], whether there is such a one; S is at most `size`.
    """
    positives, is_positive = _first(labels >= 0, order, int(size * positive_fraction))
    background, is_background = _first(labels == BACKGROUND, order, size)
    left = size - is_positive.sum(1, keepdim=True)  # [B, 1]
    is_background &= torch.arange(is_background.shape[1], device=labels.device) < left
    places, taken = torch.cat([positives, background], dim=1), torch.cat([is_positive, is_background], dim=1)
    order = torch.argsort(taken, dim=1, descending=True, stable=True)[:, :size]  # what was taken comes first
    return places.gather(1, order), taken.gather(1, order)


def _first(chosen: Tensor, order: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first of those chosen [B, N], at most `count`: places [B, k], rising in order, and whether there are any."""
    values, places = torch.where(chosen, order, _LAST).topk(min(count, order.shape[1]), largest=False)
    return places, values < _LAST
