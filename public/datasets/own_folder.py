"""A config for a folder of data alone, without an experiment: what is in it is recognized, nothing is trained."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from public.config.classification import ClassificationConfig
from public.config.command_line import fail, given, in_present
from public.config.detection import DetectionConfig
from public.config.options import DetectorOptions
from public.config.run import OptimizerOptions, ScheduleOptions
from public.datasets.batches import DataError
from public.datasets.decoding import EXTENSIONS, is_hidden
from public.datasets.formats import DATA_KIND, AutoData, NoFormatError, recognize
from public.datasets.image_formats import IMAGE_FORMATS
from public.datasets.imagenet import ImageFolderData
from public.datasets.locations import dataset_folder
from public.datasets.packed import SUFFIX
from public.datasets.scan import holds

VAL_FRACTION = 0.15
"""Where a folder has no validation split."""


def rows_on_folder(args: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """What stands for an experiment's CONFIGS, one row on the folder of `--data.folder`; a mistake ends the program.

    Args:
        args: a command line.

    Returns:
        The row, of the task that the data is for, and the rest of the command line.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data.folder", dest="folder")
    typed, rest = parser.parse_known_args(args)
    if typed.folder is None:
        fail("give an experiment's folder or its config.py first, or --data.folder with a folder of data.")
    folder = in_present(typed.folder)
    kind = given("data.dataset", rest)
    is_classified = kind in IMAGE_FORMATS or (kind is None and _holds_classes(dataset_folder(folder)))
    row = _classified(folder) if is_classified else _with_boxes(folder)
    return {row.name: row}, rest


def _classified(folder: str) -> ClassificationConfig:
    return ClassificationConfig(
        name=_name_of(folder),
        network="resnet18",
        epochs=1,
        batch_size=1,
        data=ImageFolderData(folder=folder, input_size=224, train_transforms=(), val_fraction=VAL_FRACTION),
        optimizer=OptimizerOptions(lr=1.0, weight_decay=0.0),
        schedule=ScheduleOptions(),
    )


def _with_boxes(folder: str) -> DetectionConfig:
    return DetectionConfig(
        name=_name_of(folder),
        epochs=1,
        batch_size=1,
        detector=DetectorOptions(),
        data=AutoData(folder=folder, input_size=640, train_transforms=(), val_fraction=VAL_FRACTION),
        optimizer=OptimizerOptions(lr=1.0, weight_decay=0.0),
        schedule=ScheduleOptions(),
    )


def _name_of(folder: str) -> str:
    return Path(folder).name.strip(".") or "data"


def _holds_classes(folder: Path) -> bool:
    """Whether a folder is one of classified images; ends the program where it is in no format, or in one and not so
    that it can be used."""
    try:
        recognize(folder)
    except NoFormatError as error:
        if _has_images_of_classes(folder) or holds(folder, SUFFIX):
            return True
        fail(f"{str(error).rstrip('.')}; nor are there folders of images for each class. {_CHOICES}")
    except DataError as error:
        fail(str(error))
    return False


_CHOICES = f"--data.dataset says which: {', '.join([*DATA_KIND.names, *IMAGE_FORMATS])}."


def _has_images_of_classes(folder: Path) -> bool:
    """Whether a folder in it, or one in such a folder, holds an image: <class>/x.jpg or train/<class>/x.jpg."""
    if not folder.is_dir():
        return False
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        depth = 0 if base == str(folder) else os.path.relpath(base, folder).count(os.sep) + 1
        if depth and any(name.lower().endswith(EXTENSIONS) for name in names):
            return True
        if depth == 2:
            folders.clear()
    return False
