"""A split of a detection config as it is meant: its images by a list, its classes by their names in any order.

A format's reader gives what the files hold (`scan.py`); training, evaluation and the check take it from here.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from public.config.detection import DetectionData
from public.config.names import first_line, nearest_names
from public.config.record import class_summary
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.division import require_images, validation_rows
from public.datasets.formats import format_of, of_a_classification, recognized
from public.datasets.locations import dataset_folder
from public.datasets.scan import Kind, Problem, RawAnnotations, clean, with_sizes

Purpose = Literal["train", "val"]
PURPOSES: tuple[Purpose, Purpose] = ("train", "val")


def scan_undivided(data: DetectionData) -> RawAnnotations | None:
    """What both parts of a divided split are of, which `scan_split` then need not read twice; None where none is.

    Raises:
        DataError: there is no such split, or it as a whole cannot be used.
    """
    return _scan(data, "train") if is_divided(data) else None


def scan_split(
    data: DetectionData,
    purpose: Purpose,
    class_names: Sequence[str] | None = None,
    undivided: RawAnnotations | None = None,
) -> RawAnnotations:
    """All that a split holds of what is wanted of it, and every problem.

    Args:
        data: of a format in the table.
        purpose: which of its splits.
        class_names: in the order of their labels, those of the training split or of a checkpoint: objects of others are
            left out and counted. None: `data.classes`, else all that the files have.
        undivided: what `scan_undivided` gave, if that was asked.

    Raises:
        DataError: there is no such split, or it as a whole cannot be used.
    """
    raw = undivided or _scan(data, purpose)
    names = list_for(data, purpose)
    if names is None and is_divided(data):
        names = _part(data, purpose, raw)
    if names is not None:
        raw = select_images(raw, names)
    raw = with_sizes(raw)
    if data.classes is not None:
        raw = match_classes(raw, data.classes, "data.classes", whole=purpose == "train" and class_names is None)
    if class_names is not None:
        raw = match_classes(raw, class_names, "what is trained")
    return raw


def _scan(data: DetectionData, purpose: Purpose) -> RawAnnotations:
    folder = dataset_folder(data.folder)
    try:
        return format_of(data).scan(folder, splits_for(data, purpose), data)
    except DataError as error:
        found = recognized(folder)
        if found is None and (said := of_a_classification(folder)):
            raise DataError(f"{said}; expected for a detector are annotations ({first_line(error)}).") from error
        if found is None or found.format.options.kind == data.kind:
            raise
        raise DataError(
            f"{error} It was read as data of kind {data.kind}, and the folder is in {found.layout.title} format, which "
            "--data.dataset auto finds out."
        ) from error


def read_truth(data: DetectionData) -> tuple[DetectionAnnotations, str]:
    """The validation splits, whether their images are there or not, and the first that is missing; empty for none.

    Raises:
        DataError: they are missing or damaged.
    """
    raw = scan_split(data, "val")
    missing = [one.path for one in raw.problems if one.kind == Kind.MISSING_IMAGE]
    kept = [one for one in raw.problems if one.kind != Kind.MISSING_IMAGE]
    return clean(replace(raw, problems=kept)), missing[0] if missing else ""


def splits_for(data: DetectionData, purpose: Purpose) -> tuple[str, ...]:
    """The names of the splits."""
    return data.train_splits if purpose == "train" else data.val_splits


def list_for(data: DetectionData, purpose: Purpose) -> list[str] | None:
    """The images of the splits that are meant, see `DetectionData.train_list`; None: all.

    Raises:
        DataError: there is no such list, or it names no image.
    """
    file = data.train_list if purpose == "train" else data.val_list
    if file is None:
        return None
    path = dataset_folder(data.folder) / file
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"data.{purpose}_list={str(path)!r} cannot be read: {error}.") from error
    names = [line for line in lines if line]
    if not names:
        raise DataError(f"data.{purpose}_list={str(path)!r} names no image; expected a path a line.")
    return names


def is_divided(data: DetectionData) -> bool:
    """Whether one split gives training and validation images, by a hash of their names."""
    is_one = (data.train_splits, data.train_list, data.val_list) == (data.val_splits, None, None)
    return is_one and data.val_fraction is not None


def _part(data: DetectionData, purpose: Purpose, raw: RawAnnotations) -> list[str]:
    """The images of a divided split that are meant: those that a run keeps, or else those with the lowest hashes."""
    assert data.val_fraction is not None
    kept = data.val_images
    if kept is None:
        is_val = validation_rows(raw.files, data.val_fraction)
        kept = [file for file, chosen in zip(raw.files, is_val.tolist(), strict=True) if chosen]
    chosen = set(kept)
    part = list(kept) if purpose == "val" else [file for file in raw.files if file not in chosen]
    side = "validation" if purpose == "val" else "training"
    require_images(len(part), side, raw.source, len(raw.files), "two images or more")
    return part


def val_images(data: DetectionData) -> list[Path]:
    """The image files of the validation splits, sorted, without a look at what is on them.

    Raises:
        FileNotFoundError, DataError: there are none.
    """
    found, names = format_of(data).images(dataset_folder(data.folder), data), list_for(data, "val")
    if names is None and is_divided(data):
        names = data.val_images
    if names is None:
        return found
    listed = {os.path.normpath(name) for name in names}
    chosen = [path for path in found if _ends_listed(path, listed)]
    if not chosen:
        raise FileNotFoundError(
            f"not one image of data.val_list={data.val_list!r} is in {dataset_folder(data.folder)}."
        )
    return chosen


def _ends_listed(path: Path, listed: set[str]) -> bool:
    """Whether the path, or its end, is listed: lists name images below a folder of the format's own."""
    return str(path) in listed or any("/".join(path.parts[i:]) in listed for i in range(1, len(path.parts)))


def select_images(raw: RawAnnotations, names: Sequence[str]) -> RawAnnotations:
    """The images of a list alone, with their objects and problems.

    Args:
        raw: of which.
        names: paths as `raw.files` has them, in any order; those that are not there are counted.

    Raises:
        DataError: not one of them is there.
    """
    wanted = set(names)
    rows = [row for row, file in enumerate(raw.files) if file in wanted]
    if not rows:
        raise DataError(f"{raw.source} holds not one of the {len(wanted)} images of the list: {sorted(wanted)[0]}, ...")
    new_row = np.full(len(raw.files), -1)
    new_row[rows] = np.arange(len(rows))
    problems = [one for one in raw.problems if one.image is None or new_row[one.image] >= 0]
    gone = len(wanted) - len({raw.files[row] for row in rows})
    if gone:
        text = f"{gone} of the {len(wanted)} images of the list are not there any more"
        problems.append(Problem(Kind.UNLISTED, str(raw.source), text, gone))
    chosen = replace(
        _with_objects(raw, new_row[raw.object_images] >= 0),
        files=[raw.files[row] for row in rows],
        missing=raw.missing[rows],
        image_ids=raw.image_ids[rows],
        sizes=raw.sizes[rows],
        annotation_of=lambda row: raw.annotation_of(rows[row]),
        problems=[one if one.image is None else one._replace(image=int(new_row[one.image])) for one in problems],
    )
    return replace(chosen, object_images=new_row[chosen.object_images])


def match_classes(
    raw: RawAnnotations, class_names: Sequence[str], wanted_by: str, *, whole: bool = False
) -> RawAnnotations:
    """The same with other labels: each class has the number that its name has in `class_names`.

    Objects of other classes are left out and counted; a class that is not there keeps its label, has no object, and a
    category id that nothing else has.

    Args:
        raw: with labels of its own.
        class_names: in the order of their labels.
        wanted_by: what names them, for messages.
        whole: whether all of them must be there.
    """
    if raw.class_names == list(class_names):
        return raw
    own = {name: label for label, name in enumerate(raw.class_names)}
    lacking = [name for name in class_names if name not in own]
    wanted = {name: label for label, name in enumerate(class_names)}
    labels = np.array([wanted.get(name, -1) for name in raw.class_names], dtype=np.int64)[raw.labels]
    others = np.bincount(raw.labels[labels < 0], minlength=len(raw.class_names))  # [own classes]
    problems = [
        Problem(
            Kind.OTHER_CLASS,
            str(raw.source),
            f"{others[label]} objects of class {raw.class_names[label]!r}, which is not among those of {wanted_by}",
            int(others[label]),
        )
        for label in np.flatnonzero(others).tolist()
    ]
    if whole:
        problems += [
            Problem(
                Kind.UNKNOWN_CLASS,
                str(raw.source),
                f"{wanted_by} names {name!r}, and no class is called so; {nearest_names(name, own)}",
            )
            for name in lacking
        ]
    elif len(lacking) == len(class_names):
        text = f"not one of its {class_summary(raw.class_names)} is among the {class_summary(list(class_names))}"
        problems.append(Problem(Kind.DIFFERENT_CLASSES, str(raw.source), f"{text} of {wanted_by}"))
    used = set(raw.category_ids)
    free = (number for number in itertools.count(1) if number not in used)
    kept = replace(
        _with_objects(raw, labels >= 0),
        class_names=list(class_names),
        category_ids=[raw.category_ids[own[name]] if name in own else next(free) for name in class_names],
        problems=raw.problems + problems,
    )
    return replace(kept, labels=labels[labels >= 0])


def _with_objects(raw: RawAnnotations, kept: np.ndarray) -> RawAnnotations:
    """Some of the objects, bool [T]."""
    return replace(
        raw,
        object_images=raw.object_images[kept],
        written=raw.written[kept],
        boxes=raw.boxes[kept],
        labels=raw.labels[kept],
        ignored=raw.ignored[kept],
        areas=None if raw.areas is None else raw.areas[kept],
    )
