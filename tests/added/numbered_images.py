"""A classification format as somebody would add it: <split>/<class>_<number>.png of the data set's folder.

What `tests/test_contributing.py` copies to `public/datasets/`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from public.config.calls import build_all
from public.config.classification import ClassificationConfig, ClassificationData
from public.datasets.batches import DataError, EvalData, TrainData
from public.datasets.checking import SplitReport, report_on_images, unusable
from public.datasets.format import ImageFormat
from public.datasets.image_folder import ImageFolderDataset, ImageList
from public.datasets.loaders import ImageFolderEvalLoader, ImageFolderTrainLoader
from public.datasets.locations import dataset_folder
from public.runtime.distributed import DistributedContext


@dataclass(frozen=True, kw_only=True)
class NumberedImagesData(ClassificationData):
    """<split>/<class>_<number>.png in `folder`."""

    kind: ClassVar[str] = "numbered"
    separator: str = "_"
    """Between the class and the number."""


def _list(data: NumberedImagesData, split: str) -> ImageList:
    folder = dataset_folder(data.folder) / split
    files = sorted(path.name for path in folder.glob("*.png"))
    if not files:
        raise DataError(f"{folder} holds no <class>{data.separator}<number>.png.")
    of_files = [file.rpartition(data.separator)[0] for file in files]
    names = sorted(set(of_files))
    labels = np.array([names.index(name) for name in of_files], dtype=np.int64)
    return ImageList(Path(folder), np.array([os.fsencode(file) for file in files]), labels, names)


def _train_data(config: ClassificationConfig, context: DistributedContext) -> TrainData:
    data = config.data
    assert isinstance(data, NumberedImagesData)
    images = _list(data, "train")
    transforms = build_all(data.train_transforms, data.input_size)
    train = ImageFolderTrainLoader(
        ImageFolderDataset(images, transforms, decoder="opencv", seed=config.seed),
        batch_size=config.batch_size,
        num_workers=config.runtime.num_workers,
        rank=context.rank,
        num_processes=context.size,
        pin_memory=False,
    )
    size, workers = config.local_batch_size(context.size), config.runtime.num_workers
    names = images.class_names
    val = _eval_data(data, batch_size=size, num_workers=workers, context=context, class_names=names)
    return TrainData(train, val.loader, images.class_names, len(images.files))


def _eval_data(
    data: NumberedImagesData,
    /,
    *,
    batch_size: int,
    num_workers: int,
    context: DistributedContext,
    class_names: list[str] | None = None,
) -> EvalData:
    images, transforms = _list(data, "val"), build_all(data.val_transforms, data.input_size)
    images = images.with_classes(class_names or images.class_names)
    loader = ImageFolderEvalLoader(
        ImageFolderDataset(images, transforms, decoder="opencv", seed=0),
        batch_size=batch_size,
        num_workers=num_workers,
        rank=context.rank,
        num_processes=context.size,
        pin_memory=False,
    )
    return EvalData(loader, images.class_names)


def _check(config: ClassificationConfig) -> Iterator[SplitReport]:
    data = config.data
    assert isinstance(data, NumberedImagesData)
    for split in ("train", "val"):
        try:
            images = _list(data, split)
        except DataError as error:
            yield unusable(split, error)
            continue
        yield report_on_images(config, split, split, images, images.class_names)


NUMBERED = ImageFormat(options=NumberedImagesData, train_data=_train_data, eval_data=_eval_data, check=_check)
