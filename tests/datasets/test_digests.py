"""What a run and its checkpoint compare of the data."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from public.datasets.coco import read_coco
from public.datasets.digests import annotations_digest, digest


def test_the_width_of_texts_is_no_difference() -> None:
    """And an empty one beside none, or the same bytes in another shape, is."""
    files = np.array([b"a/1.jpg", b"b/2.jpg"])
    assert digest(files) == digest(files.astype("S99"))
    assert len({digest(files), digest(files[::-1]), digest(files[:1]), digest(np.array([b"a/1.jpg", b""]))}) == 4
    numbers = np.arange(4)
    assert digest(numbers) == digest(np.arange(8)[::2] // 2)
    assert digest(numbers) != digest(numbers.reshape(2, 2))


def test_of_objects(real_data: Path) -> None:
    """A box that moved by a pixel, an object of another class or one to ignore; not the folder's place."""
    split = read_coco(real_data / "coco_mini", "val2017")
    moved, labels, ignored = split.boxes.copy(), split.labels.copy(), split.ignored.copy()
    moved[0, 0] += 1
    labels[-1] += 1
    ignored[3] ^= True
    others = [replace(split, boxes=moved), replace(split, labels=labels), replace(split, ignored=ignored)]
    assert len({annotations_digest(one) for one in (split, *others)}) == 4
    assert annotations_digest(replace(split, folder=Path("elsewhere"))) == annotations_digest(split)
