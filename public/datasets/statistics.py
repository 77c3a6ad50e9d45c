"""What only all the files of a data set together show: the same image twice, images that nobody reads, rare classes."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from public.config.names import first_few
from public.datasets.checking import SplitFacts
from public.datasets.decoding import EXTENSIONS, UNREAD_EXTENSIONS, is_hidden
from public.datasets.scan import Kind, Problem

RARE = 100
"""A class with fewer than 1 / RARE of the objects of the most frequent one is far out of balance."""


def problems_of_all(folder: Path, splits: Sequence[SplitFacts], named: set[str]) -> list[Problem]:
    """Equal images, leakage, rare classes, and image files that no split has.

    Args:
        folder: of the data set.
        splits: the training split first.
        named: paths of files that the splits' own reports name.
    """
    return [
        *repeated_images(splits),
        *(problem for facts in splits[:1] for problem in rare_classes(facts)),
        *unread_images(folder, named.union(one.path for facts in splits for one in facts.found)),
    ]


def repeated_images(splits: Sequence[SplitFacts]) -> list[Problem]:
    """A problem for each file whose content an earlier one has: in its own split, or in the one that is trained on."""
    problems, first_of = [], {}
    for facts in splits:
        for one in facts.found:
            name, path = (
                first_of.setdefault(one.digest, (facts.name, one.path)) if one.digest else (facts.name, one.path)
            )
            if path == one.path:
                continue
            kind = Kind.REPEATED_IMAGE if name == facts.name else Kind.LEAKED_IMAGE
            problems.append(Problem(kind, one.path, f"the same image is {path}, of {name}"))
    return problems


def rare_classes(facts: SplitFacts) -> list[Problem]:
    """A problem for each class that is there, and far more seldom than the most frequent one."""
    counts = np.bincount(facts.labels, minlength=len(facts.class_names))
    most = int(counts.argmax()) if counts.any() else 0
    rare = np.flatnonzero((counts > 0) & (counts * RARE < counts.max(initial=0))).tolist()
    what = "images" if facts.boxes is None else "objects"
    return [
        Problem(
            Kind.RARE_CLASS,
            facts.name,
            f"class {facts.class_names[label]!r} has {counts[label]} {what}, and {facts.class_names[most]!r} has "
            f"{counts[most]}; --data.balance takes images of rare classes more often",
        )
        for label in rare
    ]


def unread_images(folder: Path, read: set[str]) -> list[Problem]:
    """A problem for each folder with files that look like images and are in no split, which names them.

    Args:
        folder: of the data set; hidden files and folders are passed over.
        read: the paths of what the splits have, or name.
    """
    known = {os.path.realpath(path) for path in read}
    unread: dict[tuple[str, str], list[str]] = defaultdict(list)
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            path = os.path.join(base, name)
            if not is_hidden(name) and _looks_like_an_image(path) and os.path.realpath(path) not in known:
                is_kind = name.lower().endswith(EXTENSIONS)
                unread[base, "in no split that is read" if is_kind else "of a kind that is not read"].append(name)
    return [
        Problem(Kind.UNREAD_IMAGE, base, f"{len(names)} files look like images and are {why}: {first_few(names, 20)}")
        for (base, why), names in unread.items()
    ]


def _looks_like_an_image(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    if suffix:
        return suffix in EXTENSIONS or suffix in UNREAD_EXTENSIONS
    return os.path.isfile(path) and cv2.haveImageReader(path)
