"""The formats of detection data sets: one line a format, `<format>.py`, which holds all that depends on it."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

from public.config.detection import DetectionData
from public.config.names import first_few
from public.config.options import Kind, carried_over
from public.datasets.batches import DataError
from public.datasets.coco import COCO
from public.datasets.decoding import EXTENSIONS
from public.datasets.format import DetectionFormat, Layout, purpose_of, row_of
from public.datasets.locations import dataset_folder, where_to_get
from public.datasets.scan import holds, names_in
from public.datasets.voc import VOC
from public.datasets.yolo import YOLO

logger = logging.getLogger(__name__)

EXPERIMENT = "detection_experiments/own_data_finetune"
"""The folder of the experiment that trains on data in any of the formats."""
FORMATS: dict[str, DetectionFormat] = {row.options.kind: row for row in (COCO, VOC, YOLO)}
"""By the name that --data.dataset has for it."""


def format_of(data: DetectionData) -> DetectionFormat:
    """The row of the format that options are of.

    Raises:
        ValueError: they are of none in the table.
    """
    return row_of(data, FORMATS, "public/datasets/formats.py")


@dataclass(frozen=True, kw_only=True)
class AutoData(DetectionData):
    """Whatever of the formats `folder` holds; the run records what it was. Splits are those that are found, unless
    stated; the detections are judged by COCO's rules, unless `metrics` says otherwise."""

    kind: ClassVar[str] = "auto"
    default_metrics: ClassVar[str] = COCO.options.default_metrics
    needs_splits: ClassVar[bool] = False
    starts_new: ClassVar[tuple[str, ...]] = ("train_splits", "val_splits", "train_list", "val_list", "classes")
    train_splits: tuple[str, ...] = ()
    """The splits to train on; empty: those that the folder has for it."""
    val_splits: tuple[str, ...] = ()
    """The same for evaluation."""


class NoFormatError(DataError):
    """A folder that holds nothing of any of the formats."""


class Recognized(NamedTuple):
    """What a folder holds."""

    format: DetectionFormat
    layout: Layout


def recognize(folder: Path) -> Recognized:
    """The format of a folder's data.

    Raises:
        NoFormatError: it holds nothing of any of them.
        DataError: there is no such folder, more than one of the formats fits it, or one does but for what is missing.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}. {where_to_get(folder)}")
    found = [Recognized(row, layout) for row in FORMATS.values() if (layout := row.recognize(folder)) is not None]
    if not found:
        for row in FORMATS.values():
            if (lack := row.lacks(folder)) is not None:
                raise DataError(lack)
        if said := of_a_classification(folder):
            raise NoFormatError(
                f"{said}: imagenet_experiments/own_images_finetune trains on such; expected for a detector are "
                f"annotations in one of the formats {', '.join(FORMATS)}."
            )
        raise NoFormatError(
            f"{folder} is in none of the formats {', '.join(FORMATS)}: it has neither "
            "annotations/instances_<split>.json, <split>/_annotations.coco.json or another JSON file with images, "
            "annotations and categories (COCO), nor Annotations/*.xml and JPEGImages (Pascal VOC), nor a data.yaml "
            "with names and train or another split, an obj.data, or a classes.txt beside labels (YOLO)."
        )
    if len(found) > 1:
        titles = " and ".join(one.layout.title for one in found)
        raise DataError(f"{folder} holds data in more than one format, {titles}: choose by --data.dataset.")
    return found[0]


def of_a_classification(folder: Path) -> str | None:
    """That a folder holds what may be a classification's classes, two or more: in folders of splits, or in itself.

    The images of a detection whose annotations are missing lie in folders that are called by a split or by `images`.
    """
    splits = [name for name in names_in(folder) if purpose_of(name) is not None and (folder / name).is_dir()]
    paths = [f"{split}/{name}" for split in splits for name in names_in(folder / split)] or names_in(folder)
    named = [path for path in paths if purpose_of(path) is None and "images" not in path.rpartition("/")[2].lower()]
    found = [path for path in sorted(named) if holds(folder / path, EXTENSIONS)]
    if len({Path(path).name for path in found}) < 2:
        return None
    return (
        f"{folder} holds folders of images ({first_few(found, 3)}), as a classification has one for each class, and "
        "no boxes"
    )


def recognized(folder: Path) -> Recognized | None:
    """What a folder holds, to say it of data that could not be read as another; None where `recognize` raises."""
    try:
        return recognize(folder)
    except DataError:
        return None


def resolved(data: DetectionData, *, trains: bool = True) -> DetectionData:
    """The options of the format that the folder is in, where they leave it open, with a line in the log.

    Args:
        data: of any format, or `AutoData`.
        trains: whether there must be a training split, too; else all of the validation split is meant.

    Raises:
        DataError: the folder is in no format, or lacks a split and none is stated.
        ValueError: the format does not take such splits.
    """
    if not isinstance(data, AutoData):
        return data
    row, (title, splits, settings) = recognize(dataset_folder(data.folder))
    train, val = data.train_splits or splits.train, data.val_splits or splits.val
    if not train and trains:
        raise DataError(
            f"{data.folder} holds no training split; its splits are {', '.join(splits.names)}. State one of them, or "
            "several, to train on them (--data.train-splits)."
        )
    if not train:  # nothing to divide
        train, data = val, replace(data, val_fraction=None)
    if not val and data.val_fraction is None:
        raise DataError(
            f"{data.folder} holds no validation split: state one (--data.val-splits), or divide the images by a hash "
            "of their names (--data.val-fraction 0.15) or by lists (--data.train-list, --data.val-list)."
        )
    evaluated = ", ".join(val) or f"{data.val_fraction:.0%} of them"
    logger.info(f"{data.folder} is in {title} format: trained on {', '.join(train)}, evaluated on {evaluated}")
    own = carried_over(data, row.options) | settings
    return row.options(**own | {"train_splits": train, "val_splits": val or train, "metrics": data.rules})


def _options_of(name: str) -> type[DetectionData]:
    return AutoData if name == AutoData.kind else FORMATS[name].options


DATA_KIND = Kind("data.dataset", "data", (*FORMATS, AutoData.kind), _options_of)
"""Of a detection's data."""
