"""Mixing the images of a batch two by two: mixup and CutMix. Both work where the images lie, also on a GPU.

Images are paired with their neighbors: 0 with 1, 2 with 3, ... The order of an epoch is a random one, so each image's
partner is a random one too; and as long as every process holds an even number of images, the pairs are the same for any
number of processes. What is drawn depends on (seed, step) alone and is the same for the whole global batch.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Draws(NamedTuple):
    """How one step mixes."""

    method: str
    """mixup or cutmix."""
    share: float
    """How much of the mixed image is to be the first one, 0 to 1: lambda in both papers."""
    x: float
    """cutmix: the center of the box as a share of the width."""
    y: float
    """cutmix: the center of the box as a share of the height."""


class Mixed(NamedTuple):
    """Mixed images, as `public.losses.classification.cross_entropy` takes their labels."""

    images: Tensor
    """[B, 3, H, W], 0..255: float32 of mixup, uint8 of cutmix."""
    labels: Tensor
    """int64 [B], of the first image of each mixture."""
    others: Tensor
    """int64 [B], of the second."""
    shares: Tensor
    """float32 [B], how much of the mixture is the first image."""


class Mixing:
    """Mixup, CutMix or, where both are asked for, one of them at each step, with equal chances.

    Args:
        mixup_alpha: both parameters of the beta distribution from which the share is drawn, or None: no mixup.
        cutmix_alpha: the same for CutMix.
        probability: share of the steps that mix at all.
        seed: of the draws.
    """

    def __init__(
        self, mixup_alpha: float | None, cutmix_alpha: float | None, probability: float = 1.0, *, seed: int
    ) -> None:
        given = {"mixup": mixup_alpha, "cutmix": cutmix_alpha}
        self.alphas = {method: alpha for method, alpha in given.items() if alpha is not None}
        self.probability, self.seed = probability, seed

    def draws(self, step: int) -> Draws | None:
        """What a step, counted from the beginning of the run, does; None where it leaves the images alone."""
        if not self.alphas:
            return None
        generator = np.random.default_rng((self.seed % 2**64, step))
        if generator.random() >= self.probability:
            return None
        method = sorted(self.alphas)[int(generator.random() * len(self.alphas))]
        alpha = self.alphas[method]
        return Draws(method, float(generator.beta(alpha, alpha)), generator.random(), generator.random())

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> Mixed | tuple[Tensor, Tensor]:
        """uint8 [B, 3, H, W] (B even), int64 [B] -> the mixed images of a step, or the same two where it does not mix.

        Images may be float32 too, of the same range.
        """
        draws = self.draws(step)
        if draws is None:
            return images, labels
        if draws.method == "mixup":
            return mixup(images, labels, draws.share)
        return cutmix(images, labels, draws)


def partners(values: Tensor) -> Tensor:
    """[B, ...] -> [B, ...] with neighbors changed over: 1, 0, 3, 2, ..."""
    assert len(values) % 2 == 0, "an image would have no partner"
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def mixup(images: Tensor, labels: Tensor, share: float) -> Mixed:
    """share x image + (1 - share) x partner. Zhang et al. 2017, https://arxiv.org/abs/1710.09412.

    As normalization is affine and the two shares make up 1, mixing before it is mixing after it.
    """
    pixels = images.float()
    mixed = share * pixels + (1 - share) * partners(pixels)
    return Mixed(mixed, labels, partners(labels), _shares_of(labels, share))


def cutmix(images: Tensor, labels: Tensor, draws: Draws) -> Mixed:
    """A box of the partner, of about 1 - share of the area, in each image. Yun et al. 2019, arXiv 1905.04899.

    The center of the box lies anywhere in the image, and what lies outside is cut off (the paper's algorithm A1); the
    labels count with the area that is really covered.
    """
    height, width = images.shape[-2:]
    left, right = _span(draws.x, draws.share, width)
    top, bottom = _span(draws.y, draws.share, height)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = partners(images[:, :, top:bottom, left:right])
    covered = (bottom - top) * (right - left) / (height * width)
    return Mixed(mixed, labels, partners(labels), _shares_of(labels, 1 - covered))


def _span(center: float, share: float, length: int) -> tuple[int, int]:
    """First and last + 1 pixel of the box along one side of the image, of `length` pixels."""
    half = length * math.sqrt(1 - share) / 2
    return round(max(0.0, center * length - half)), round(min(float(length), center * length + half))


def _shares_of(labels: Tensor, share: float) -> Tensor:
    return torch.full(labels.shape, share, dtype=torch.float32, device=labels.device)
