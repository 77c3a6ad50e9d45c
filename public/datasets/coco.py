"""COCO's instances format: annotations/instances_<split>.json and images/<split>/, for COCO or any other data set.

Format: https://cocodataset.org/#format-data. Category ids may have gaps: labels are their ranks. A box is left, top,
width and height in pixels, already continuous. Segmentations are not read.
"""

import json
import reprlib
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
from public.datasets.format import DetectionFormat, Published, Results
from public.datasets.locations import where_to_get
from public.datasets.predictions import Predictions, with_sides
from public.datasets.results import read_coco_results
from public.datasets.scan import SIDES, Kind, Problem, RawAnnotations, clean, find_missing
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text

URL = "http://images.cocodataset.org"


@dataclass(frozen=True, kw_only=True)
class CocoData(DetectionData):
    """annotations/instances_<split>.json and images/<split>/ of `folder`, one split each to train and to evaluate on,
    such as train2017. The annotations name the classes."""

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


def _is_side(value: Any) -> bool:
    return type(value) is int and value in SIDES


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_id(value)  # JSON's whole numbers have no end, but arrays' have


_ID = _Field(_is_id, "a whole number of at most 64 bits")
_SIDE = _Field(_is_side, f"a whole number of pixels from 1 to {SIDES[-1]}")
_TEXT = _Field(_is_text, "a text")
_ENTRIES: dict[str, dict[str, _Field]] = {
    "images": {"id": _ID, "file_name": _TEXT, "height": _SIDE, "width": _SIDE},
    "categories": {"id": _ID, "name": _TEXT},
    "annotations": {
        "image_id": _ID,
        "category_id": _ID,
        "bbox": _Field(_is_box, "four numbers: x, y, width, height (whole ones of at most 64 bits)"),
        # For evaluation, which reads it from the file.
        "area": _Field(_is_number, "a number (a whole one of at most 64 bits)", 0),
        "iscrowd": _Field(lambda value: value in (0, 1), "0 or 1", 0),
    },
}


def read_coco(folder: Path, split: str) -> DetectionAnnotations:
    """Reads the annotations of a split for training or evaluation; images without objects stay.

    Args:
        folder: holds annotations/ and images/.
        split: train2017 for annotations/instances_train2017.json and images/train2017/.

    Raises:
        DataError: a file is missing or damaged, or an annotation is of an image or a category that is not there.
    """
    return clean(scan_coco(folder, split))


def scan_coco(folder: Path, split: str) -> RawAnnotations:
    """Reads all that the annotations of a split hold, and notes what is wrong with them.

    Raises:
        DataError: there is no such split, or its annotation file as a whole cannot be used.
    """
    source, images_folder = folder / "annotations" / f"instances_{split}.json", folder / "images" / split
    content = _load(source)
    if not images_folder.is_dir():
        raise DataError(f"{images_folder} is missing; it must hold the images of {source}. {where_to_get()}")
    problems: list[Problem] = []
    images, categories, annotations = (
        _sound_entries(source, content, name, problems) for name in ("images", "categories", "annotations")
    )
    images = _first_of_each_id(source, "images", images, problems)
    categories = sorted(_first_of_each_id(source, "categories", categories, problems), key=lambda entry: entry["id"])
    if not images or not categories:
        raise DataError(f"{source} must hold at least one image and one category, each with the keys of COCO's format.")
    image_ids = np.array([entry["id"] for entry in images], dtype=np.int64)
    objects = _read_objects(source, annotations, image_ids, [entry["id"] for entry in categories], problems)
    files = [entry["file_name"] for entry in images]
    missing = find_missing(images_folder, files)
    for row in np.flatnonzero(missing).tolist():
        path = str(images_folder / files[row])
        problems.append(Problem(Kind.MISSING_IMAGE, path, f"the file is missing, and {source} lists it"))
    return RawAnnotations(
        folder=images_folder,
        files=files,
        missing=missing,
        image_ids=image_ids,
        sizes=np.array([(entry["height"], entry["width"]) for entry in images], dtype=np.int64),
        **objects,
        written_as="x, y, width, height",
        class_names=[entry["name"] for entry in categories],
        category_ids=[entry["id"] for entry in categories],
        source=source,
        coco_file=source,
        annotation_of=lambda row: f"{source}, {files[row]}",
        problems=problems,
    )


def _load(source: Path) -> dict[str, Any]:
    """The JSON file as a dict that has COCO's three lists."""
    try:
        content = json.loads(source.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"{source} is missing; expected annotations/instances_<split>.json and images/<split>/. {where_to_get()}"
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
    return content


def _sound_entries(source: Path, content: dict[str, Any], name: str, problems: list[Problem]) -> list[dict[str, Any]]:
    """The entries of a list that hold what they must; each of the others becomes a problem."""
    sound = []
    for row, entry in enumerate(content[name]):
        flaw = _flaw(entry, _ENTRIES[name])
        if flaw is None:
            sound.append(entry)
        else:
            problems.append(Problem(Kind.UNREADABLE_ANNOTATION, str(source), f"{name}[{row}] {flaw}"))
    return sound


def _flaw(entry: Any, fields: dict[str, _Field]) -> str | None:
    """What is wrong with an entry, None for nothing."""
    if not isinstance(entry, dict):
        return f"is a {type(entry).__name__}, expected an object with the keys {[*fields]}"
    for key, field in fields.items():
        value = entry.get(key, field.default)
        if value is ...:
            return f"lacks the key {key!r}"
        if not field.fits(value):
            return f"has {key} = {reprlib.repr(value)}, expected {field.expected}"
    return None


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


def _read_objects(
    source: Path,
    annotations: list[dict[str, Any]],
    image_ids: np.ndarray,
    category_ids: list[int],
    problems: list[Problem],
) -> dict[str, np.ndarray]:
    """The T annotations of known images and categories, as those fields of RawAnnotations that have a row for each."""
    of_image = np.array([entry["image_id"] for entry in annotations], dtype=np.int64)
    of_category = np.array([entry["category_id"] for entry in annotations], dtype=np.int64)
    rows, has_image = _find(of_image, image_ids)
    labels, has_category = _find(of_category, np.array(category_ids, dtype=np.int64))
    for row in np.flatnonzero(~has_image).tolist():
        text = f"an annotation has image_id {of_image[row]}, which no entry of images has"
        problems.append(Problem(Kind.UNKNOWN_IMAGE, str(source), text))
    for row in np.flatnonzero(~has_category).tolist():
        text = f"an annotation of image {of_image[row]} has category_id {of_category[row]}, which no category has"
        problems.append(Problem(Kind.UNKNOWN_CLASS, str(source), text))
    known = has_image & has_category
    written = np.array([entry["bbox"] for entry in annotations], dtype=np.float64).reshape(-1, 4)[known]
    ignored = np.array([entry.get("iscrowd", 0) for entry in annotations], dtype=bool)[known]
    with np.errstate(invalid="ignore"):  # infinity - infinity: such boxes have no area
        boxes = np.concatenate([written[:, :2], written[:, :2] + written[:, 2:]], axis=1)
    return {
        "object_images": rows[known],
        "written": written,
        "boxes": boxes,
        "labels": labels[known],
        "ignored": ignored,
    }


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
    return images_in(folder / "images" / split)


def _write(folder: Path, predictions: Predictions, annotations: DetectionAnnotations) -> None:
    write_coco_json(folder / "predictions.json", predictions, annotations)


COCO = DetectionFormat(
    options=CocoData,
    scan=_scan,
    images=_images,
    write=_write,
    published=Published("COCO 2017 (20 GB)", "COCO2017", download_coco),
    results=Results(".json", read_coco_results),
)
