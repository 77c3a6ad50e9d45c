"""COCO's instances format, for COCO or any other data set.

    annotations/instances_<split>.json    the images in images/<split>/, <split>/ (the official archives) or images/
    <split>/_annotations.coco.json        the images beside it (Roboflow)
    annotations/<split>.json, <split>.json    any other name, such as annotations.json or result.json of other tools

Format: https://cocodataset.org/#format-data. Category ids may have gaps: labels are their ranks. A box is left, top,
width and height in pixels, already continuous. Where an object states none, it is that of its segmentation's polygons.
"""

import json
import mmap
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from public.config.checks import require
from public.config.detection import DetectionData
from public.datasets.annotations import DetectionAnnotations
from public.datasets.archives import Archive, provide
from public.datasets.coco_file import CocoEntries, read_entries
from public.datasets.decoding import images_in
from public.datasets.format import DetectionFormat, Layout, Published, Results, choose_splits
from public.datasets.locations import where_to_get
from public.datasets.predictions import Predictions, with_sides
from public.datasets.results import IMAGES_FILE, names_text, read_coco_results
from public.datasets.scan import (
    Kind,
    Problem,
    RawAnnotations,
    class_name_problems,
    clean,
    find_missing,
    in_all_columns,
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


OTHER_FILES = ("annotations/{split}.json", "{split}.json")
"""Whose names say little: a folder is recognized by what is in them."""
ANNOTATION_FILES = ("annotations/instances_{split}.json", "{split}/_annotations.coco.json", *OTHER_FILES)
"""Where the annotations of a split may lie; the first that is there is taken."""


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
    lies_in = images_folder(folder, split, source, entries.files)
    if not lies_in.is_dir():  # one problem for all of its images: an evaluation of results goes on without them
        text = f"it is missing, and must hold the images of {source} (so may {folder / split} and {folder / 'images'})"
        text += f", of which the first is {entries.files[0]}"
        problems.append(Problem(Kind.MISSING_IMAGE, str(lies_in), f"{text}. {where_to_get(lies_in).rstrip('.')}"))
    return judge_entries(entries, source, lies_in, problems)


def annotation_file(folder: Path, split: str) -> Path:
    """The annotations of a split: the first that is there of where they may lie, else the usual place."""
    paths = [folder / pattern.replace("{split}", split) for pattern in ANNOTATION_FILES]
    return next((path for path in paths if path.is_file()), paths[0])


def images_folder(folder: Path, split: str, source: Path, files: Sequence[str]) -> Path:
    """Where the images lie: the first folder that holds one of the first of them; without any, the split's own."""
    own = [folder / "images" / split, folder / split]
    for path in (*own, folder / "images", source.parent, folder):
        if any(os.path.isfile(path / file) for file in files[:20]):
            return path
    return next((path for path in own if path.is_dir()), own[0])


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
    for file, times in Counter(entries.files).items():
        if times > 1:
            text = f"the image {file} has {times} ids, expected one with all of its objects"
            problems.append(Problem(Kind.REPEATED, str(source), text))
    missing = find_missing(folder, entries.files)
    for row in np.flatnonzero(missing & folder.is_dir()).tolist():
        text = f"the file is missing, and {source} lists it"
        problems.append(Problem(Kind.MISSING_IMAGE, str(folder / entries.files[row]), text, image=row))
    rows, has_image = _find(entries.of_image, entries.image_ids)
    labels, has_category = _find(entries.of_category, np.array(entries.category_ids, dtype=np.int64))
    has_box = ~in_all_columns(np.isnan(entries.boxes))
    problems += _reference_problems(entries, source, has_image, has_category)
    for row in rows[has_image & ~has_box].tolist():
        text = "an annotation has no bbox, expected x, y, width, height"
        problems.append(Problem(Kind.NO_BOX, f"{source}, {entries.files[row]}", text, image=row))
    kept = has_image & has_category & has_box
    kept = slice(None) if kept.all() else kept  # nothing is copied where nothing is left out
    written = entries.boxes[kept]
    boxes = written.copy()
    with np.errstate(invalid="ignore"):  # infinity - infinity: such boxes have no area
        boxes[:, 2:] += boxes[:, :2]
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


def _find(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each value in `among`, int64 [T], and whether it is there at all, bool [T]."""
    lowest, highest = int(among.min()), int(among.max())
    span = highest - lowest + 1
    if span <= 16 * len(among):  # a table: a search for each takes ten times as long
        table = np.full(span + 1, -1)  # the last for whatever lies beyond
        table[among - lowest] = np.arange(len(among))
        places = table.take(np.where((values >= lowest) & (values <= highest), values - lowest, span))
        return places.clip(min=0), places >= 0
    order = np.argsort(among)
    ordered = among[order]
    places = np.searchsorted(ordered, values).clip(max=len(among) - 1)
    return order[places], ordered[places] == values


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
    """Writes the results file that COCO's tools and server read, and beside it what its numbers are.

    A full disk is a warning, and no file.
    """
    columns = annotations.image_ids.tolist(), map(os.fsdecode, annotations.files.tolist()), annotations.sizes.tolist()
    images = [(number, name, *size) for number, name, size in zip(*columns, strict=True)]
    classes = zip(annotations.category_ids, annotations.class_names, strict=True)
    with going_on_when_disk_is_full(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(coco_rows(predictions, annotations.category_ids)) + "\n")
        replace_text(path.with_name(IMAGES_FILE), names_text(path.name, images, classes))


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
        paths = [path for path in sorted(folder.glob(f"{before}*{after}")) if path.is_file()]
        if pattern in OTHER_FILES:
            paths = [path for path in paths if _holds_instances(path)]
        names = [str(path.relative_to(folder))[len(before) :].removesuffix(after) for path in paths]
        names = [name for name in names if not name.startswith(".")]
        if not names and (folder / after.lstrip("/")).is_file():
            names = ["."]  # no folder of a split's own
        if names:
            return Layout(f"COCO's ({pattern.replace('{split}', '<split>')})", choose_splits(names), {})
    return None


def _holds_instances(path: Path) -> bool:
    """Whether a file has the three keys of COCO's format anywhere."""
    if not path.stat().st_size:  # which cannot be mapped
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))


COCO = DetectionFormat(
    options=CocoData,
    scan=_scan,
    images=_images,
    recognize=_recognize,
    published=Published("COCO 2017 (20 GB)", "COCO2017", download_coco),
    results=Results(".json", read_coco_results),
)
