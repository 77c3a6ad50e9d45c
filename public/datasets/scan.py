"""What the files of a detection data set hold, and everything that is wrong with it.

A format's reader (`DetectionFormat.scan`) gives its raw arrays and the problems it met. From there two ways lead on:
training refuses or leaves out (`clean`), `public.datasets.check` lists everything. So both judge by the same code.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError

# Boxes of honest data sets reach over the border by what rounding to whole pixels or two decimals leaves.
BORDER_TOLERANCE = 0.5
SIDES = range(1, 2**31)
"""Heights and widths that an annotation may state, pixels."""


class Kind(StrEnum):
    """What can be wrong."""

    UNUSABLE_SPLIT = "unusable split"
    UNREADABLE_ANNOTATION = "unreadable annotation"
    UNKNOWN_IMAGE = "annotation of an unknown image"
    UNKNOWN_CLASS = "unknown class"
    HIDDEN = "hidden files"
    UNREAD = "images of kinds that are not read"
    REPEATED = "repeated id or image"
    DIFFERENT_CLASSES = "different classes"
    TOO_LITTLE = "too little to train on"
    MISSING_IMAGE = "missing image"
    UNREADABLE_IMAGE = "unreadable image"
    TRUNCATED_IMAGE = "truncated or damaged image"
    WRONG_SIZE = "image of another size than annotated"
    NO_AREA = "boxes without area"
    OUTSIDE = "boxes outside the image"
    PARTLY_OUTSIDE = "boxes partly outside the image"
    DUPLICATE = "duplicate boxes"
    UNSEEN_CLASS = "class never seen"
    RARE_CLASS = "class far out of balance"
    REPEATED_IMAGE = "image that is there twice"
    LEAKED_IMAGE = "validation image that is trained on"
    UNREAD_IMAGE = "image files that are not read"


TREATMENT: dict[Kind, str] = {
    Kind.HIDDEN: "skipped",
    Kind.UNREAD: "skipped",
    Kind.NO_AREA: "skipped",
    Kind.OUTSIDE: "skipped",
    Kind.PARTLY_OUTSIDE: "clipped",
    Kind.DUPLICATE: "kept",
    Kind.UNSEEN_CLASS: "kept",
    Kind.RARE_CLASS: "kept",
    Kind.REPEATED_IMAGE: "kept",
    Kind.LEAKED_IMAGE: "kept",
    Kind.UNREAD_IMAGE: "skipped",
}
"""What training does about the kinds that it does not refuse."""


class Problem(NamedTuple):
    """Something wrong with one file."""

    kind: Kind
    path: str
    """The file in which it is to be put right, or the place in it."""
    text: str
    """What was found and what was expected."""

    @property
    def is_refused(self) -> bool:
        """Whether training stops at it."""
        return self.kind not in TREATMENT

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class RawAnnotations:
    """N images and T objects as the files state them; what could not be read at all is in `problems` alone."""

    folder: Path
    """Of the image files."""
    files: list[str]
    """Paths below it [N]."""
    missing: np.ndarray
    """bool [N]: there is no such file."""
    image_ids: np.ndarray
    """int64 [N], each once."""
    sizes: np.ndarray
    """int64 [N, 2], height and width; 0 where the annotation does not tell."""
    object_images: np.ndarray
    """int64 [T]: the row of each object's image."""
    written: np.ndarray
    """float64 [T, 4]: each box in the numbers of the file."""
    written_as: str
    """What these numbers are."""
    boxes: np.ndarray
    """float64 [T, 4], x1 y1 x2 y2 in pixels (pixel i covers [i, i + 1)), neither clipped nor checked."""
    labels: np.ndarray
    """int64 [T], 0-based."""
    ignored: np.ndarray
    """bool [T]."""
    class_names: list[str]
    """The name of each label."""
    category_ids: list[int]
    """The data set's own number of each label."""
    source: Path
    """What the split was read from. For messages."""
    annotation_of: Callable[[int], str]
    """Where the objects of an image are to be put right."""
    problems: list[Problem]
    """What reading met."""
    coco_file: Path | None = None
    """See `DetectionAnnotations.coco_file`."""


class BoxFlaws(NamedTuple):
    """Which boxes cannot be used as they are; at most one is true of a box."""

    no_area: np.ndarray
    """bool [T]: not finite, or no width or height as float32."""
    outside: np.ndarray
    """bool [T]: nothing of it is in the image."""
    partly_outside: np.ndarray
    """bool [T]: it reaches over the border by more than BORDER_TOLERANCE pixels."""


def clip_boxes(raw: RawAnnotations) -> tuple[np.ndarray, BoxFlaws]:
    """The boxes cut at their image's borders, float32 [T, 4], and what is wrong with them."""
    with np.errstate(over="ignore"):  # 1e39 is no float32: infinite, and found so below
        boxes = raw.boxes.astype(np.float32)
    limits = raw.sizes[raw.object_images][:, [1, 0, 1, 0]].astype(np.float32)  # [T, 4]
    limits[limits == 0] = np.inf
    clipped = np.clip(boxes, 0, limits)
    has_area = np.isfinite(boxes).all(axis=1) & np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    is_inside = has_area & np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    with np.errstate(invalid="ignore"):  # infinity - infinity
        is_cut = np.any(np.abs(boxes - clipped) > BORDER_TOLERANCE, axis=1)
    return clipped, BoxFlaws(np.asarray(~has_area), np.asarray(has_area & ~is_inside), np.asarray(is_inside & is_cut))


def clean(raw: RawAnnotations) -> DetectionAnnotations:
    """What training and evaluation use: boxes without area or outside their image skipped, the others clipped.

    Raises:
        DataError: there is a problem that training must not pass over; the first of them, and how many there are.
    """
    refused = [problem for problem in raw.problems if problem.is_refused]
    if refused:
        more = f" (and {len(refused) - 1} more; python -m public.datasets.check <experiment> lists them)"
        raise DataError(f"{refused[0]}{more if len(refused) > 1 else ''}.")
    clipped, flaws = clip_boxes(raw)
    skipped = {Kind.NO_AREA: flaws.no_area, Kind.OUTSIDE: flaws.outside}
    kept = np.flatnonzero(~(flaws.no_area | flaws.outside))
    kept = kept[np.argsort(raw.object_images[kept], kind="stable")]
    num_objects = np.bincount(raw.object_images[kept], minlength=len(raw.files))  # [N]
    return DetectionAnnotations(
        folder=raw.folder,
        files=np.array([os.fsencode(file) for file in raw.files]),
        image_ids=raw.image_ids,
        sizes=raw.sizes,
        offsets=np.concatenate([[0], np.cumsum(num_objects)]).astype(np.int64),
        boxes=clipped[kept],
        labels=raw.labels[kept],
        ignored=raw.ignored[kept],
        class_names=raw.class_names,
        category_ids=raw.category_ids,
        source=raw.source,
        coco_file=raw.coco_file,
        skipped={str(kind): int(mask.sum()) for kind, mask in skipped.items() if mask.any()},
    )


def box_problems(raw: RawAnnotations) -> list[Problem]:
    """One problem for each flawed or duplicate box, and one for each class without a box to learn from."""
    flaws = clip_boxes(raw)[1]
    masks = {
        Kind.NO_AREA: flaws.no_area,
        Kind.OUTSIDE: flaws.outside,
        Kind.PARTLY_OUTSIDE: flaws.partly_outside,
        Kind.DUPLICATE: _is_duplicate(raw),
    }
    problems = [_box_problem(raw, kind, row) for kind, mask in masks.items() for row in np.flatnonzero(mask).tolist()]
    counts = np.bincount(raw.labels[_usable(raw, flaws)], minlength=len(raw.class_names))  # [C]
    unseen = [raw.class_names[label] for label in np.flatnonzero(counts == 0)]
    return problems + [
        Problem(Kind.UNSEEN_CLASS, str(raw.source), f"no usable box of class {name!r} in this split") for name in unseen
    ]


def num_usable(raw: RawAnnotations) -> int:
    """How many boxes there are to learn from."""
    return int(_usable(raw, clip_boxes(raw)[1]).sum())


def _usable(raw: RawAnnotations, flaws: BoxFlaws) -> np.ndarray:
    """bool [T]: neither skipped nor ignored."""
    return ~(flaws.no_area | flaws.outside | raw.ignored)


def _box_problem(raw: RawAnnotations, kind: Kind, row: int) -> Problem:
    image = int(raw.object_images[row])
    height, width = raw.sizes[image].tolist()
    numbers = ", ".join(f"{number:g}" for number in raw.written[row])
    wrong = {
        Kind.NO_AREA: "has no area",
        Kind.OUTSIDE: f"lies outside the image of {width} x {height} pixels",
        Kind.PARTLY_OUTSIDE: f"reaches out of the image of {width} x {height} pixels",
        Kind.DUPLICATE: "is there more than once",
    }[kind]
    name = raw.class_names[int(raw.labels[row])]
    text = f"the box ({raw.written_as}) = ({numbers}) of class {name!r} {wrong}"
    return Problem(kind, raw.annotation_of(image), text)


def _is_duplicate(raw: RawAnnotations) -> np.ndarray:
    """bool [T]: an earlier object has the same image, class and box."""
    keys = np.column_stack([raw.written, raw.labels, raw.object_images])  # [T, 6]
    order = np.lexsort(keys.T)  # stable: of equal rows the first stays the first
    repeats = (keys[order[1:]] == keys[order[:-1]]).all(1)
    result = np.zeros(len(keys), dtype=bool)
    result[order[1:]] = repeats
    return result


def find_missing(folder: Path, files: Sequence[str]) -> np.ndarray:
    """bool [N]: which files are not there, by one look into each folder instead of one a file."""
    listed: dict[str, set[str]] = {}
    missing = np.zeros(len(files), dtype=bool)
    for row, file in enumerate(files):
        parent, name = os.path.split(file)
        if parent not in listed:
            listed[parent] = names_in(folder / parent)
        missing[row] = name not in listed[parent]
    return missing


def names_in(folder: Path) -> set[str]:
    """The names of a folder's files; none if there is no such folder."""
    return set(os.listdir(folder)) if folder.is_dir() else set()
