"""What the files of a detection data set hold, and everything that is wrong with it.

A format's reader (`DetectionFormat.scan`) gives its raw arrays and the problems it met. From there two ways lead on:
training refuses or leaves out (`clean`), `public.datasets.check` lists everything. So both judge by the same code.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from public.config.names import first_few, first_line, printable, unusable_names
from public.datasets.annotations import DetectionAnnotations, WrittenObjects
from public.datasets.batches import DataError
from public.datasets.decoding import DECODING_ERRORS, decode_pixels, is_hidden

# Boxes of honest data sets reach over the border by what rounding to whole pixels or two decimals leaves.
BORDER_TOLERANCE = 0.5
AREAS = (0.0, 1e10)
"""Areas that COCO's rules count, square pixels."""
SIDES = range(1, 2**31)
"""Heights and widths that an annotation may state, pixels."""


class Kind(StrEnum):
    """What can be wrong."""

    UNUSABLE_SPLIT = "unusable split"
    UNREADABLE_ANNOTATION = "unreadable annotation"
    UNKNOWN_IMAGE = "annotations of unlisted images"
    UNKNOWN_CLASS = "unknown class"
    BAD_NAME = "unusable class name"
    OTHER_CLASS = "objects of other classes"
    PLACEHOLDER = "placeholder class"
    HIDDEN = "hidden files"
    UNREAD = "images of kinds that are not read"
    NO_ANNOTATION = "images without an annotation file"
    NO_SIZE = "image sizes that are not stated"
    BAD_FLAG = "difficult flags that are none"
    BAD_AREA = "areas that are none"
    NO_BOX = "objects without a box"
    UNLISTED = "listed images that are not there"
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
    UNCLEAR_WAY = "turned photos that may be annotated as stored"
    MISSING_SPLIT = "splits that are not there"


TREATMENT: dict[Kind, str] = {
    Kind.UNKNOWN_IMAGE: "skipped",
    Kind.OTHER_CLASS: "skipped",
    Kind.PLACEHOLDER: "skipped",
    Kind.HIDDEN: "skipped",
    Kind.UNREAD: "skipped",
    Kind.UNLISTED: "skipped",
    Kind.NO_BOX: "skipped",
    Kind.NO_AREA: "skipped",
    Kind.OUTSIDE: "skipped",
    Kind.PARTLY_OUTSIDE: "clipped",
    Kind.DUPLICATE: "kept",
    Kind.UNSEEN_CLASS: "kept",
    Kind.RARE_CLASS: "kept",
    Kind.REPEATED_IMAGE: "kept",
    Kind.LEAKED_IMAGE: "kept",
    Kind.UNREAD_IMAGE: "skipped",
    Kind.UNCLEAR_WAY: "kept",  # and takes them upright
    Kind.MISSING_SPLIT: "skipped",
    Kind.NO_ANNOTATION: "filled",  # no object
    Kind.NO_SIZE: "filled",  # the picture's own
    Kind.BAD_FLAG: "filled",  # not difficult
    Kind.BAD_AREA: "filled",  # the box's
}
"""What training does about the kinds that it does not refuse: skipped and filled are counted in the log. The picture
stays usable without a label that is skipped; what would teach something wrong in silence is refused."""


class Problem(NamedTuple):
    """Something wrong with one file."""

    kind: Kind
    path: str
    """The file in which it is to be put right, or the place in it."""
    text: str
    """What was found and what was expected."""
    times: int = 1
    """How often it is there; the text is of the first."""
    image: int | None = None
    """The row of the image that it is of; None: of more, or of none."""

    @property
    def is_refused(self) -> bool:
        """Whether training stops at it."""
        return self.kind not in TREATMENT

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.text}")


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
    """int64 [N, 2], height and width; 0 where neither annotation nor picture tells."""
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
    areas: np.ndarray | None = None
    """float64 [T], of the objects' outlines, where the format states them; `written` is then x, y, width, height, and
    both together are what COCO's rules judge by, see `DetectionAnnotations.truth`."""


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
    limits = np.tile(raw.sizes[:, ::-1], 2).astype(np.float32)  # [N, 4]
    limits[limits == 0] = np.inf
    limits = limits.take(raw.object_images, axis=0)  # [T, 4]; several times as fast as indexing
    # In place where it can be: the first touch of fresh memory takes longer than the arithmetic.
    clipped = np.clip(boxes, 0, limits, out=limits)
    has_area = in_all_columns(np.isfinite(boxes)) & in_all_columns(boxes[:, 2:] > boxes[:, :2])
    is_inside = has_area & in_all_columns(clipped[:, 2:] > clipped[:, :2])
    with np.errstate(invalid="ignore"):  # infinity - infinity
        moved = np.abs(np.subtract(boxes, clipped, out=boxes), out=boxes)
    is_cut = ~in_all_columns(~(moved > BORDER_TOLERANCE))
    return clipped, BoxFlaws(np.asarray(~has_area), np.asarray(has_area & ~is_inside), np.asarray(is_inside & is_cut))


def in_all_columns(mask: np.ndarray) -> np.ndarray:
    """As `mask.all(axis=1)`, bool [T, k] -> bool [T], by columns: many times as fast where k is small."""
    return reduce(np.logical_and, mask.T)


def clean(raw: RawAnnotations) -> DetectionAnnotations:
    """What training and evaluation use: boxes without area or outside their image skipped, the others clipped.

    Raises:
        DataError: there is a problem that training must not pass over; the first of them, and how many there are.
    """
    refused = [problem for problem in raw.problems if problem.is_refused]
    if refused:
        others = sum(problem.times for problem in refused) - 1
        more = f" (and {others} more; python -m public.datasets.check <experiment> lists them)"
        raise DataError(f"{refused[0]}{more if others else ''}.")
    clipped, flaws = clip_boxes(raw)
    counts = Counter({Kind.NO_AREA: int(flaws.no_area.sum()), Kind.OUTSIDE: int(flaws.outside.sum())})
    counts[Kind.BAD_AREA] = int(_bad_areas(raw).sum())
    for problem in raw.problems:
        counts[problem.kind] += problem.times
    kept = np.flatnonzero(~(flaws.no_area | flaws.outside))
    kept = kept.take(_stable_order(raw.object_images.take(kept)))
    num_objects = np.bincount(raw.object_images.take(kept), minlength=len(raw.files))  # [N]
    return DetectionAnnotations(
        folder=raw.folder,
        files=np.array([os.fsencode(file) for file in raw.files]),
        image_ids=raw.image_ids,
        sizes=raw.sizes,
        offsets=np.concatenate([[0], np.cumsum(num_objects)]).astype(np.int64),
        boxes=clipped.take(kept, axis=0),
        labels=raw.labels.take(kept),
        ignored=raw.ignored.take(kept),
        class_names=raw.class_names,
        category_ids=raw.category_ids,
        source=raw.source,
        truth=_written_objects(raw),
        skipped=_treated(counts, "skipped"),
        filled=_treated(counts, "filled"),
    )


def _stable_order(numbers: np.ndarray) -> np.ndarray:
    """As `np.argsort(numbers, kind="stable")`, of 0 or more and below 2^32: by halves numpy has a faster sort for."""
    return np.lexsort(((numbers & 0xFFFF).astype(np.uint16), (numbers >> 16).astype(np.uint16)))


def _treated(counts: Counter[Kind], treatment: str) -> dict[str, int]:
    return {str(kind): count for kind, count in counts.items() if count and TREATMENT[kind] == treatment}


def _written_objects(raw: RawAnnotations) -> WrittenObjects | None:
    """Those whose box is finite, in the file's order, whatever else may be wrong with them."""
    if raw.areas is None:
        return None
    kept, bad = in_all_columns(np.isfinite(raw.written)), _bad_areas(raw)
    areas = np.where(bad, areas_of(raw.written), raw.areas) if bad.any() else raw.areas
    fields = (raw.image_ids.take(raw.object_images), raw.labels, raw.written, areas, raw.ignored)
    return WrittenObjects(*(fields if kept.all() else (field[kept] for field in fields)))


def _bad_areas(raw: RawAnnotations) -> np.ndarray:
    """bool [T]: an area that is stated and is none: COCO's rules would pass over the object, or give no number."""
    if raw.areas is None:
        return np.zeros(len(raw.boxes), dtype=bool)
    return ~((raw.areas >= AREAS[0]) & (raw.areas <= AREAS[1]))  # NaN is neither


def areas_of(written: np.ndarray) -> np.ndarray:
    """float64 [T], as COCO's rules take them, of boxes [T, 4] that are x, y, width, height."""
    with np.errstate(over="ignore", invalid="ignore"):
        return written[:, 2:].prod(axis=1).clip(*AREAS)


def box_problems(raw: RawAnnotations) -> list[Problem]:
    """One problem for each flawed or duplicate box, and one for each class without a box to learn from."""
    flaws = clip_boxes(raw)[1]
    masks = {
        Kind.NO_AREA: flaws.no_area,
        Kind.OUTSIDE: flaws.outside,
        Kind.PARTLY_OUTSIDE: flaws.partly_outside,
        Kind.DUPLICATE: _is_duplicate(raw),
        Kind.BAD_AREA: _bad_areas(raw),
    }
    problems = [_box_problem(raw, kind, row) for kind, mask in masks.items() for row in np.flatnonzero(mask).tolist()]
    counts = np.bincount(raw.labels[usable(raw, flaws)], minlength=len(raw.class_names))  # [C]
    unseen = [raw.class_names[label] for label in np.flatnonzero(counts == 0)]
    return problems + unseen_problems(str(raw.source), "usable box", unseen, len(raw.class_names))


def unseen_problems(source: str, what: str, unseen: Sequence[str], num_classes: int) -> list[Problem]:
    """One for all classes of which a split holds nothing; none where it holds something of each."""
    names = first_few(unseen, 10)
    text = f"no {what} of {len(unseen)} of {num_classes} classes in this split: {names}"
    return [Problem(Kind.UNSEEN_CLASS, source, text, times=len(unseen))] if unseen else []


def num_usable(raw: RawAnnotations) -> int:
    """How many boxes there are to learn from."""
    return int(usable(raw, clip_boxes(raw)[1]).sum())


def usable(raw: RawAnnotations, flaws: BoxFlaws) -> np.ndarray:
    """bool [T], boxes to learn from: neither skipped nor ignored."""
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
        Kind.BAD_AREA: f"has the area {_area(raw, row):g}, expected one from 0 to {AREAS[1]:g}",
    }[kind]
    name = raw.class_names[int(raw.labels[row])]
    text = f"the box ({raw.written_as}) = ({numbers}) of class {name!r} {wrong}"
    return Problem(kind, raw.annotation_of(image), text, image=image)


def _area(raw: RawAnnotations, row: int) -> float:
    return 0.0 if raw.areas is None else float(raw.areas[row])


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
    """The names of a folder's files; none if there is no such folder, or can be none of that name."""
    try:
        return set(os.listdir(folder))
    except (OSError, ValueError):  # missing, no folder, a name of more than 255 bytes; one with a NUL
        return set()


def holds(folder: Path, extensions: str | tuple[str, ...]) -> bool:
    """Whether one file of a folder, hidden ones apart, is of one of these kinds."""
    return any(name.lower().endswith(extensions) and not is_hidden(name) for name in names_in(folder))


def visible_files(folder: Path, extensions: tuple[str, ...], problems: list[Problem]) -> list[str]:
    """The files of some kinds in a folder and all below it, as sorted paths below it.

    Hidden folders, and hidden files of these kinds, are passed over and counted.
    """
    found: list[str] = []
    hidden: list[str] = []
    for path, folders, names in os.walk(folder):
        prefix = os.path.relpath(path, folder) + os.sep if path != str(folder) else ""
        hidden += [prefix + name for name in folders if is_hidden(name)]
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in names:
            if name.lower().endswith(extensions):
                (hidden if is_hidden(name) else found).append(prefix + name)
    for one in sorted(hidden):
        problems.append(Problem(Kind.HIDDEN, str(folder / one), "it is hidden, and passed over"))
    return sorted(found)


def is_file_name(text: str) -> bool:
    """Whether a file can be called so at all: no NUL, nothing that has no bytes."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def class_name_problems(source: Path | str, names: Sequence[str]) -> list[Problem]:
    """See `unusable_names`."""
    return [Problem(Kind.BAD_NAME, str(source), text) for text in unusable_names(names)]


def with_sizes(raw: RawAnnotations) -> RawAnnotations:
    """The same with the pictures' own sizes where the annotations state none; counted, for a tool forgot them."""
    rows = np.flatnonzero((raw.sizes == 0).any(axis=1) & ~raw.missing).tolist()
    if not rows:
        return raw
    sizes, problems = raw.sizes.copy(), list(raw.problems)
    known = {problem.path for problem in problems if problem.kind == Kind.UNREADABLE_IMAGE}
    filled = [row for row in rows if str(raw.folder / raw.files[row]) not in known]
    for row in filled:
        sizes[row] = size_or_problem(raw.folder / raw.files[row], row, problems)
    # Of a picture whose annotations are not there, or damaged, that alone is said.
    untold = {one.image for one in problems if one.kind in (Kind.NO_ANNOTATION, Kind.UNREADABLE_ANNOTATION)}
    filled = [row for row in filled if row not in untold]
    if filled:
        text = "no usable height and width is stated; the picture's are taken"
        problems.append(Problem(Kind.NO_SIZE, raw.annotation_of(filled[0]), text, len(filled)))
    return replace(raw, sizes=sizes, problems=problems)


def size_or_problem(path: Path, row: int, problems: list[Problem]) -> tuple[int, int]:
    """`image_size`, or 0 and 0 and a problem of the image of that row."""
    try:
        return image_size(path)
    except DECODING_ERRORS as error:
        problems.append(Problem(Kind.UNREADABLE_IMAGE, str(path), first_line(error), image=row))
        return 0, 0


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture, upright as its EXIF orientation says, from the head of its file where that tells.

    Raises:
        DECODING_ERRORS: it is missing, or no image.
    """
    try:
        with Image.open(path) as image:
            # PIL decodes a whole PNG to look for an orientation behind its pixels.
            asks = image.format != "PNG" or "exif" in image.info
            is_turned = asks and image.getexif().get(0x0112) in (5, 6, 7, 8)
            return (image.width, image.height) if is_turned else (image.height, image.width)
    except DECODING_ERRORS:
        height, width = decode_pixels(path).shape[:2]
        return height, width
