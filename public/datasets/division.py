"""Training and validation images of data that has no such split: by a hash of their names, the same on any machine."""

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from public.datasets.batches import DataError


def validation_rows(names: Sequence[str], fraction: float, groups: np.ndarray | None = None) -> np.ndarray:
    """Which images become validation images: those whose names have the lowest hashes.

    Args:
        names: paths below the data set's folder [N].
        fraction: their share, rounded to whole images, of each group that has two or more: one at least, and not all.
        groups: int64 [N], such as classes; None: one group.

    Returns:
        bool [N].
    """
    hashes = np.array([_hash(name) for name in names], dtype=np.uint64)
    groups = np.zeros(len(names), dtype=np.int64) if groups is None else groups
    chosen = np.zeros(len(names), dtype=bool)
    for group in np.unique(groups).tolist():
        rows = np.flatnonzero(groups == group)
        lowest_first = rows[np.argsort(hashes[rows], kind="stable")]
        chosen[lowest_first[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
    return chosen


def require_images(num_left: int, side: str, source: Path, num_images: int, expected: str) -> None:
    """Sees to it that a division leaves something on a side.

    Args:
        num_left: how many images it leaves there.
        side: training or validation, for the message.
        source: what is divided.
        num_images: how many it holds.
        expected: how many it should.

    Raises:
        DataError: the side has no image.
    """
    if not num_left:
        raise DataError(
            f"{source}: the division of its {num_images} images by data.val_fraction leaves no {side} image; expected "
            f"{expected}."
        )


def _hash(name: str) -> int:
    # Composed: the file systems of macOS give the letters of accents apart.
    plain = os.fsencode(unicodedata.normalize("NFC", name.replace(os.sep, "/")))
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "big")
