"""COCO's instances format, for COCO or any other data set.

    annotations/instances_<split>.json    the images in images/<split>/, <split>/ (the official archives) or images/
    <split>/_annotations.coco.json        the images beside it (Roboflow)

Format: https://cocodataset.org/#format-data. Category ids may have gaps: labels are their ranks. A box is left, top,
width and height in pixels, already continuous. Segmentations are not read.
"""

import json
import os
import reprlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from public.config.checks import require
from public.config.detection import DetectionData
from public.datasets.annotations import DetectionAnnotations
from public.datasets.archives import Archive, provide
from public.datasets.batches import DataError
from public.datasets.decoding import images_in
from public.datasets.format import DetectionFormat, Layout, Published, Results, choose_splits
from public.datasets.locations import where_to_get
from public.datasets.predictions import Predictions, with_sides
from public.datasets.results import read_coco_results
from public.datasets.scan import (
    SIDES,
    Kind,
    Problem,
    RawAnnotations,
    areas_of,
    class_name_problems,
    clean,
    find_missing,
    is_file_name,
    with_sizes,
)
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text

URL = "http://images.cocodataset.org"


@dataclass(frozen=True, kw_only=True)
class CocoData(DetectionData):
    """annotations/instances_<split>.json and images/<split>/ of `folder`, or as Roboflow has it; one split each to
    train and to evaluate on, such as train2017. The annotations name the classes."""

    kind: ClassVar[str] = "coco"
    default_metrics: ClassVar[str] = "coco"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.train_splits) == len(self.val_splits) == 1,
            f"data.dataset={self.kind!r} takes one split each in data.train_splits and data.val_splits.",
        )


class _Field(NamedTuple):
    """What an entry must hold under a key."""

    fits: Callable[[Any], bool]
    expected: str
    default: Any = ...
    """Taken where the key is missing; `...`: it must be there."""


def _is_id(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and value != "" and is_file_name(value)


def _is_box(value: Any) -> bool:
    return value in (None, []) or (isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)))


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_id(value)  # JSON's whole numbers have no end, but arrays' have


_ID = _Field(_is_id, "a whole number of at most 64 bits")
_ENTRIES: dict[str, dict[str, _Field]] = {
    "images": {"id": _ID, "file_name": _Field(_is_file, "the name of a file")},
    "categories": {"id": _ID, "name": _Field(lambda value: isinstance(value, str), "a text")},
    "annotations": {
        "image_id": _ID,
        "category_id": _ID,
        "bbox": _Field(_is_box, "four numbers: x, y, width, height (whole ones of at most 64 bits)", None),
        # For evaluation: of the outline.
        "area": _Field(
            lambda value: value is None or _is_number(value), "a number (a whole one of at most 64 bits)", None
        ),
        "iscrowd": _Field(lambda value: value in (0, 1, None), "0 or 1", None),
    },
}
_LISTED_FLAWS = 20
"""So many entries with the same flaw are told one by one; more are told together."""

ANNOTATION_FILES = ("annotations/instances_{split}.json", "{split}/_annotations.coco.json")
"""Where the annotations of a split may lie; the first that is there is taken."""


class CocoEntries(NamedTuple):
    """N images, C categories and T annotations of a file, each sound in itself: what a decoder has to give."""

    image_ids: np.ndarray
    """int64 [N], each once."""
    files: list[str]
    """[N]."""
    sizes: np.ndarray
    """int64 [N, 2], height and width; 0 where no usable one is stated."""
    category_ids: list[int]
    """[C], each once, rising."""
    class_names: list[str]
    """[C]."""
    supercategories: list[str]
    """[C]."""
    of_image: np.ndarray
    """int64 [T], an image's id."""
    of_category: np.ndarray
    """int64 [T], a category's id."""
    boxes: np.ndarray
    """float64 [T, 4], x y width height; NaN where none is stated."""
    areas: np.ndarray
    """float64 [T]; those of the boxes where none are stated."""
    crowds: np.ndarray
    """bool [T]."""


def read_coco(folder: Path, split: str) -> DetectionAnnotations:
    """Reads the annotations of a split for training or evaluation; images without objects stay.

    Args:
        folder: holds annotations/ and images/, or another of the layouts above.
        split: train2017 for annotations/instances_train2017.json and images/train2017/.

    Raises:
        DataError: a file is missing or damaged, or an annotation is of a category that is not there.
    """
    return clean(with_sizes(scan_coco(folder, split)))


def scan_coco(folder: Path, split: str) -> RawAnnotations:
    """Reads all that the annotations of a split hold, and notes what is wrong with them.

    Raises:
        DataError: there is no such split, or its annotation file as a whole cannot be used.
    """
    source, problems = annotation_file(folder, split), []
    entries = read_entries(source, problems)
    return judge_entries(entries, source, images_folder(folder, split, source, entries.files), problems)


def annotation_file(folder: Path, split: str) -> Path:
    """The annotations of a split: the first that is there of where they may lie, else the usual place."""
    paths = [folder / pattern.replace("{split}", split) for pattern in ANNOTATION_FILES]
    return next((path for path in paths if path.is_file()), paths[0])


def images_folder(folder: Path, split: str, source: Path, files: Sequence[str]) -> Path:
    """Where the images lie: the first folder that holds one of the first of them.

    Raises:
        DataError: there is none, nor an empty one for this split.
    """
    own = [folder / "images" / split, folder / split]
    for path in (*own, folder / "images", source.parent, folder):
        if any(os.path.isfile(path / file) for file in files[:_LISTED_FLAWS]):
            return path
    found = next((path for path in own if path.is_dir()), None)
    if found is None:
        raise DataError(
            f"{own[0]} is missing; it must hold the images of {source} (so may {own[1]} and {folder / 'images'}). "
            f"{where_to_get()}"
        )
    return found


def judge_entries(entries: CocoEntries, source: Path, folder: Path, problems: list[Problem]) -> RawAnnotations:
    """The arrays of a split, and what is wrong with its entries as they refer to each other and to files.

    Args:
        entries: of its file.
        source: the file.
        folder: of the images.
        problems: that reading met; more are appended.
    """
    entries = _without_placeholder(entries, source, problems)
    problems += class_name_problems(source, entries.class_names)
    missing = find_missing(folder, entries.files)
    for row in np.flatnonzero(missing).tolist():
        text = f"the file is missing, and {source} lists it"
        problems.append(Problem(Kind.MISSING_IMAGE, str(folder / entries.files[row]), text, image=row))
    rows, has_image = _find(entries.of_image, entries.image_ids)
    labels, has_category = _find(entries.of_category, np.array(entries.category_ids, dtype=np.int64))
    has_box = ~np.isnan(entries.boxes).all(axis=1)
    problems += _reference_problems(entries, source, has_image, has_category)
    for row in rows[has_image & ~has_box].tolist():
        text = "an annotation has no bbox, expected x, y, width, height"
        problems.append(Problem(Kind.NO_BOX, f"{source}, {entries.files[row]}", text, image=row))
    kept = has_image & has_category & has_box
    written = entries.boxes[kept]
    with np.errstate(invalid="ignore"):  # infinity - infinity: such boxes have no area
        boxes = np.concatenate([written[:, :2], written[:, :2] + written[:, 2:]], axis=1)
    return RawAnnotations(
        folder=folder,
        files=entries.files,
        missing=missing,
        image_ids=entries.image_ids,
        sizes=entries.sizes,
        object_images=rows[kept],
        written=written,
        written_as="x, y, width, height",
        boxes=boxes,
        labels=labels[kept],
        ignored=entries.crowds[kept],
        class_names=entries.class_names,
        category_ids=entries.category_ids,
        source=source,
        areas=entries.areas[kept],
        annotation_of=lambda row: f"{source}, {entries.files[row]}",
        problems=problems,
    )


def _without_placeholder(entries: CocoEntries, source: Path, problems: list[Problem]) -> CocoEntries:
    """Less the category that Roboflow puts above all others, as their supercategory, if it has no object."""
    columns = list(zip(entries.category_ids, entries.class_names, entries.supercategories, strict=True))
    tops = [column for column in columns if column[2] == "none"]
    if len(tops) != 1 or len(columns) == 1 or {column[2] for column in columns} != {"none", tops[0][1]}:
        return entries
    number, name, _ = tops[0]
    if (entries.of_category == number).any():
        return entries
    text = f"the category {name!r} (id {number}) stands above the others alone and has no object"
    problems.append(Problem(Kind.PLACEHOLDER, str(source), text))
    columns.remove(tops[0])
    ids, names, supers = (list(column) for column in zip(*columns, strict=True))
    return entries._replace(category_ids=ids, class_names=names, supercategories=supers)


def _reference_problems(
    entries: CocoEntries, source: Path, has_image: np.ndarray, has_category: np.ndarray
) -> list[Problem]:
    """Of annotations whose image or category is not there, one for each category."""
    problems = []
    orphans = entries.of_image[~has_image]
    if len(orphans):
        text = f"{len(orphans)} annotations have an image_id that no entry of images has: {orphans[0]}"
        text += ", ..." if len(orphans) > 1 else ""
        problems.append(Problem(Kind.UNKNOWN_IMAGE, str(source), text, len(orphans)))
    for number, count in zip(*np.unique(entries.of_category[~has_category], return_counts=True), strict=True):
        text = f"{count} annotations have category_id {number}, which no category has"
        problems.append(Problem(Kind.UNKNOWN_CLASS, str(source), text, int(count)))
    return problems


# ---- from the file to sound entries ----------------------------------------------------------------------------------


def read_entries(source: Path, problems: list[Problem]) -> CocoEntries:
    """The sound entries of an annotation file; what is wrong with the others becomes problems.

    Raises:
        DataError: it is missing, is not of the format, or has no sound image or category.
    """
    content = _load(source)
    images, categories, annotations = (
        _sound_entries(source, content, name, problems) for name in ("images", "categories", "annotations")
    )
    images = _first_of_each_id(source, "images", images, problems)
    categories = sorted(_first_of_each_id(source, "categories", categories, problems), key=lambda entry: entry["id"])
    boxes = [entry.get("bbox") or [np.nan] * 4 for entry in annotations]
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)  # [T, 4]
    areas = [entry.get("area") for entry in annotations]
    is_stated = np.array([area is not None for area in areas], dtype=bool)
    stated = np.array([0.0 if area is None else area for area in areas], dtype=np.float64)
    return CocoEntries(
        image_ids=np.array([entry["id"] for entry in images], dtype=np.int64),
        files=[entry["file_name"] for entry in images],
        sizes=np.array([_size(entry) for entry in images], dtype=np.int64).reshape(-1, 2),
        category_ids=[entry["id"] for entry in categories],
        class_names=[entry["name"] for entry in categories],
        supercategories=[str(entry.get("supercategory")) for entry in categories],
        of_image=np.array([entry["image_id"] for entry in annotations], dtype=np.int64),
        of_category=np.array([entry["category_id"] for entry in annotations], dtype=np.int64),
        boxes=boxes,
        areas=np.where(is_stated, stated, areas_of(boxes)),
        crowds=np.array([entry.get("iscrowd") or 0 for entry in annotations], dtype=bool),
    )


def _load(source: Path) -> dict[str, Any]:
    """The JSON file as a dict that has COCO's three lists."""
    try:
        content = json.loads(source.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"{source} is missing; expected annotations/instances_<split>.json and images/<split>/, or "
            f"<split>/_annotations.coco.json. {where_to_get()}"
        ) from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON, or was cut short: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{source} holds a {type(content).__name__}, expected an object with the keys {[*_ENTRIES]}.")
    lacking = [name for name in _ENTRIES if not isinstance(content.get(name), list)]
    if lacking:
        raise DataError(f"{source} has no list under {lacking}; expected the keys {[*_ENTRIES]}.")
    empty = [name for name in ("images", "categories") if not content[name]]
    if empty:
        raise DataError(f"{source} has an empty list of {empty[0]}; it must hold at least one image and one category.")
    return content


def _sound_entries(source: Path, content: dict[str, Any], name: str, problems: list[Problem]) -> list[dict[str, Any]]:
    """The entries of a list that hold what they must; the flaws of the others become problems.

    Raises:
        DataError: none of the images or of the categories does.
    """
    sound: list[dict[str, Any]] = []
    flawed: dict[str, list[tuple[int, str]]] = defaultdict(list)  # by the key that is wrong
    for row, entry in enumerate(content[name]):
        flaw = _flaw(entry, _ENTRIES[name])
        if flaw is None:
            sound.append(entry)
        else:
            flawed[flaw[0]].append((row, flaw[1]))
    for flaws in flawed.values():
        texts = [f"{name}[{row}] {text}" for row, text in flaws]
        if not sound and name != "annotations":
            raise DataError(f"{source}: not one of its {len(content[name])} {name} can be read: {texts[0]}, and so on.")
        if len(texts) > _LISTED_FLAWS:
            text = f"{texts[0]}, and {len(texts) - 1} more of the {len(content[name])} {name} have the same flaw"
            problems.append(Problem(Kind.UNREADABLE_ANNOTATION, str(source), text, len(texts)))
        else:
            problems += [Problem(Kind.UNREADABLE_ANNOTATION, str(source), text) for text in texts]
    return sound


def _flaw(entry: Any, fields: dict[str, _Field]) -> tuple[str, str] | None:
    """Which key of an entry is wrong, and what is wrong with it; None for nothing."""
    if not isinstance(entry, dict):
        return "", f"is a {type(entry).__name__}, expected an object with the keys {[*fields]}"
    for key, field in fields.items():
        value = entry.get(key, field.default)
        if value is ...:
            return key, f"lacks the key {key!r}"
        if not field.fits(value):
            return key, f"has {key} = {reprlib.repr(value)}, expected {field.expected}"
    return None


def _size(image: dict[str, Any]) -> tuple[int, int]:
    """Height and width; 0 and 0 unless both are usable. 96.0 is: JSON has one kind of number."""
    height, width = (_side(image.get(side)) for side in ("height", "width"))
    return (height, width) if height and width else (0, 0)


def _side(value: Any) -> int:
    is_whole = type(value) is int or (type(value) is float and value.is_integer())
    return int(value) if is_whole and int(value) in SIDES else 0


def _first_of_each_id(
    source: Path, name: str, entries: list[dict[str, Any]], problems: list[Problem]
) -> list[dict[str, Any]]:
    """The entries without those whose id was there before; each of these becomes a problem."""
    by_id: dict[int, dict[str, Any]] = {}
    for entry in entries:
        if by_id.setdefault(entry["id"], entry) is not entry:
            text = f"the id {entry['id']} is more than once in {name}, expected each once"
            problems.append(Problem(Kind.REPEATED, str(source), text))
    return list(by_id.values())


def _find(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each value in `among`, int64 [T], and whether it is there at all, bool [T]."""
    order = np.argsort(among)
    places = order[np.searchsorted(among, values, sorter=order).clip(max=len(among) - 1)]
    return places, among[places] == values


# ---- files of results ------------------------------------------------------------------------------------------------


def coco_rows(predictions: Predictions, category_ids: list[int]) -> list[dict[str, Any]]:
    """One dict a detection, as COCO's results files have them: x y width height, the data set's category ids."""
    written = with_sides(predictions)
    boxes = np.concatenate([written.predictions.boxes[:, :2], written.sides], axis=1)  # [D, 4]
    categories = np.asarray(category_ids, dtype=np.int64)[predictions.labels]
    columns = predictions.image_ids.tolist(), categories.tolist(), boxes.tolist(), predictions.scores.tolist()
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(*columns, strict=True)
    ]


def write_coco_json(path: Path, predictions: Predictions, annotations: DetectionAnnotations) -> None:
    """Writes the results file that COCO's tools and server read. A full disk is a warning, and no file."""
    with going_on_when_disk_is_full(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(coco_rows(predictions, annotations.category_ids)) + "\n")


# ---- the published data set ------------------------------------------------------------------------------------------

_COCO_ANNOTATIONS = Archive(
    "annotations/annotations_trainval2017.zip",
    "f4bbac642086de4f52a3fdda2de5fa2c",
    tuple((name, name) for name in ("annotations/instances_train2017.json", "annotations/instances_val2017.json")),
)
COCO_ARCHIVES: dict[str, Archive] = {
    "annotations/instances_train2017.json": _COCO_ANNOTATIONS,
    "annotations/instances_val2017.json": _COCO_ANNOTATIONS,
    "images/train2017": Archive(
        "zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", (("train2017", "images/train2017"),)
    ),
    "images/val2017": Archive("zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", (("val2017", "images/val2017"),)),
}
"""What brings each part of a split, by the path that shows that it is there. 0.25, 18 and 0.8 GB."""


def download_coco(folder: Path, splits: Sequence[str] = ("train2017", "val2017"), url: str = URL) -> None:
    """Makes sure that a folder holds splits of COCO 2017.

    Args:
        folder: takes annotations/ and images/, and the archives.
        splits: train2017, val2017; what the folder holds already may have any name.
        url: where zips/ and annotations/ are served.

    Raises:
        DataError: a split that nobody publishes; an archive could not be fetched, is not the published one, or could
            not be unpacked.
    """
    for split in splits:
        provide(f"annotations/instances_{split}.json", COCO_ARCHIVES, folder, url)
        provide(f"images/{split}", COCO_ARCHIVES, folder, url)


# ---- the row ---------------------------------------------------------------------------------------------------------


def _scan(folder: Path, splits: Sequence[str], data: CocoData) -> RawAnnotations:
    (split,) = splits
    return scan_coco(folder, split)


def _images(folder: Path, data: CocoData) -> list[Path]:
    (split,) = data.val_splits
    usual = folder / "images" / split
    source = annotation_file(folder, split)
    if usual.is_dir() or not source.is_file():
        return images_in(usual)
    files = read_entries(source, []).files
    lies_in = images_folder(folder, split, source, files)
    found = sorted(lies_in / file for file in files if os.path.isfile(lies_in / file))
    if not found:
        raise FileNotFoundError(f"not one image of {source} is in {lies_in}.")
    return found


def _recognize(folder: Path) -> Layout | None:
    """Annotation files where they may lie, all in one of these ways."""
    for pattern in ANNOTATION_FILES:
        before, _, after = pattern.partition("{split}")
        paths = sorted(folder.glob(f"{before}*{after}"))
        names = [str(path.relative_to(folder))[len(before) :].removesuffix(after) for path in paths if path.is_file()]
        names = [name for name in names if not name.startswith(".")]
        if not names and (folder / after.lstrip("/")).is_file():
            names = ["."]  # no folder of a split's own
        if names:
            return Layout(f"COCO's ({pattern.replace('{split}', '<split>')})", choose_splits(names), {})
    return None


def _write(folder: Path, predictions: Predictions, annotations: DetectionAnnotations) -> None:
    write_coco_json(folder / "predictions.json", predictions, annotations)


COCO = DetectionFormat(
    options=CocoData,
    scan=_scan,
    images=_images,
    write=_write,
    recognize=_recognize,
    published=Published("COCO 2017 (20 GB)", "COCO2017", download_coco),
    results=Results(".json", read_coco_results),
)
