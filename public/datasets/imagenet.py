"""ImageNet (ILSVRC2012) and any data set of the same shape: train/<class>/ and val/<class>/ folders of image files.

A split may also lie in one packed file: `packed.find_images` tells. Whatever the storage, samples are the same.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from public.config.calls import Call, build_all
from public.config.classification import ClassificationConfig, ClassificationData
from public.config.names import first_few, first_line
from public.datasets.balance import balanced
from public.datasets.batches import DataError, EvalData, ImageEvalLoader, TrainData
from public.datasets.checking import SplitReport, report_on_images, unusable
from public.datasets.digests import images_digest
from public.datasets.division import require_images, validation_rows
from public.datasets.format import ImageFormat
from public.datasets.formats import EXPERIMENT, recognized
from public.datasets.image_folder import (
    ImageFolderDataset,
    ImageList,
    Images,
    list_images,
    passed_over_in_words,
    unseen_classes,
)
from public.datasets.loaders import ImageFolderEvalLoader, ImageFolderTrainLoader
from public.datasets.locations import dataset_folder
from public.datasets.packed import SUFFIX, PackedImages, find_images
from public.runtime.distributed import DistributedContext

logger = logging.getLogger(__name__)

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
"""What the folders of the splits may be called; the first that is there is taken."""


@dataclass(frozen=True, kw_only=True)
class ImageFolderData(ClassificationData):
    """Files in train/<class>/ and val/<class>/ of `folder`, or train.lmdb and val.lmdb; with `val_fraction` also in
    train/<class>/ or <class>/ alone.

    Transforms are torchvision's v2, or ours, of one image.
    """

    kind: ClassVar[str] = "imagenet"
    decoder: Literal["opencv", "pil"] = "opencv"
    """opencv decodes to tensors; pil resizes as the published numbers were, slower."""
    orientation: Literal["upright", "stored"] = "upright"
    """Whether photos are turned upright by their EXIF orientation, or shown as their pixels are stored, as they are by
    torchvision's ImageFolder."""


def _samples(data: ImageFolderData, images: Images, transforms: Sequence[Call], *, seed: int = 0) -> ImageFolderDataset:
    if data.orientation == "stored" and isinstance(images, PackedImages) and images.shrinking is not None:
        raise DataError(
            f"data.orientation='stored': {images.folder} was packed with --shorter-side, which turned its photos "
            "upright; pack the images again without it, or say --data.orientation upright."
        )
    return ImageFolderDataset(
        images,
        build_all(transforms, data.input_size),
        decoder=data.decoder,
        seed=seed,
        upright=data.orientation == "upright",
        max_pixels=data.max_pixels,
    )


def _images(data: ImageFolderData, *splits: str) -> list[Images]:
    """The images of train, val or both; where there are none, and the folder holds data with boxes, it is called so."""
    folder = dataset_folder(data.folder)
    try:
        return _found(folder, data, *splits)
    except DataError as error:
        found = recognized(folder)
        if found is None:
            raise
        raise DataError(
            f"{folder} holds data with boxes, {found.layout.title}, which {EXPERIMENT} trains on; expected for a "
            f"classification is a folder of images for each class ({first_line(error)})."
        ) from error


def _found(folder: Path, data: ImageFolderData, *splits: str) -> list[Images]:
    """The images of train, val or both, which may be parts of one folder: it is then listed once."""
    whole = None if data.val_fraction is None else _undivided(folder)
    if whole is None:
        return [find_images(folder, _name_of(folder, split)) for split in splits]
    is_val = _validation_rows(whole, data)
    for split in splits:
        side, rows = ("training", ~is_val) if split == "train" else ("validation", is_val)
        require_images(int(rows.sum()), side, whole.folder, len(rows), "two images or more of a class")
    parts: dict[str, Images] = {
        "train": whole.part(~is_val),
        "val": whole.part(is_val)._replace(hidden=[], unread=[]),  # said of the training images already
    }
    return [parts[split] for split in splits]


def _name_of(folder: Path, split: str) -> str:
    """What a folder calls a split; ours where it has none, or it is packed."""
    is_packed = (folder / f"{split}{SUFFIX}").exists()
    return split if is_packed else next((name for name in SPLIT_NAMES[split] if (folder / name).exists()), split)


def _undivided(folder: Path) -> ImageList | None:
    """The images of a data set without a validation split, in train/ or beside each other; None where it has one."""
    if any((folder / name).exists() for name in (*SPLIT_NAMES["val"], f"val{SUFFIX}", f"train{SUFFIX}")):
        return None
    train = _name_of(folder, "train")
    return list_images(folder, train) if (folder / train).is_dir() else list_images(folder.parent, folder.name)


def _validation_rows(images: ImageList, data: ImageFolderData) -> np.ndarray:
    """bool [N]: the validation images, those that a run keeps or else by a hash of their names."""
    files = [os.fsdecode(file) for file in images.files.tolist()]
    if data.val_images is None:
        assert data.val_fraction is not None
        return validation_rows(files, data.val_fraction, images.labels)
    gone = sorted(set(data.val_images) - set(files))
    if gone:
        raise DataError(
            f"{images.folder} lacks {len(gone)} of the {len(data.val_images)} validation images that were chosen "
            f"when the run began, such as {gone[0]}: put them back, or train afresh (--fresh)."
        )
    return np.isin(images.files, [os.fsencode(name) for name in data.val_images])


def _settled(data: ImageFolderData, train: Images, val: Images, context: DistributedContext) -> ImageFolderData | None:
    """The options with the validation images, where these come from the folder of the others; it is logged."""
    if train.folder != val.folder:
        return None
    if context.is_main:
        total = len(train.files) + len(val.files)
        logger.info(
            f"{train.folder} has no validation split: {len(val.files)} of its {total} images become one, by a hash of "
            "their names; the run keeps the list in its config.json"
        )
    return replace(data, val_images=tuple(os.fsdecode(file) for file in val.files.tolist()))


def _train_data(config: ClassificationConfig, context: DistributedContext) -> TrainData:
    data = config.data
    assert isinstance(data, ImageFolderData)
    images, val_images = _images(data, "train", "val")
    val_images = val_images.with_classes(images.class_names)
    if context.is_main:
        _tell_what_lacks(images)
        _tell_what_lacks(val_images)
    dataset = _samples(data, images, data.train_transforms, seed=config.seed)
    train = ImageFolderTrainLoader(
        dataset,
        batch_size=config.batch_size,
        num_workers=config.runtime.num_workers,
        rank=context.rank,
        num_processes=context.size,
        pin_memory=context.device.type == "cuda",
        repeats=data.repeated_augmentation or 1,
        factors=balanced(images.labels, data, context),
    )
    val = _eval_loader(data, val_images, config.local_batch_size(context.size), config.runtime.num_workers, context)
    settled = _settled(data, images, val_images, context)
    digests = {"training": images_digest(images), "validation": images_digest(val_images)}
    return TrainData(train, val, images.class_names, len(dataset), settled=settled, digests=digests)


def _tell_what_lacks(images: Images) -> None:
    """Warns of what was passed over in a split, and of classes that it holds no image of."""
    for line in passed_over_in_words(images):
        logger.warning(line)
    unseen = unseen_classes(images)
    if unseen:
        logger.warning(
            f"{images.folder} holds no image of {len(unseen)} of {len(images.class_names)} classes "
            f"({first_few(unseen, 10)}): the accuracy is that of the others."
        )


def _eval_data(
    data: ImageFolderData,
    /,
    *,
    batch_size: int,
    num_workers: int,
    context: DistributedContext,
    class_names: list[str] | None = None,
) -> EvalData:
    (images,) = _images(data, "val")
    if class_names is not None:
        images = images.with_classes(class_names)
        if context.is_main:
            _tell_what_lacks(images)
    return EvalData(_eval_loader(data, images, batch_size, num_workers, context), images.class_names)


def _eval_loader(
    data: ImageFolderData, images: Images, batch_size: int, num_workers: int, context: DistributedContext
) -> ImageEvalLoader:
    return ImageFolderEvalLoader(
        _samples(data, images, data.val_transforms),
        batch_size=batch_size,
        num_workers=num_workers,
        rank=context.rank,
        num_processes=context.size,
        pin_memory=context.device.type == "cuda",
    )


def _check(config: ClassificationConfig) -> Iterator[SplitReport]:
    """Every image of both splits must decode."""
    data = config.data
    assert isinstance(data, ImageFolderData)
    folder, expected = dataset_folder(data.folder), None
    for split in ("train", "val"):
        title = str(folder / split)
        try:
            (images,) = _images(data, split)
        except DataError as error:
            yield unusable(title, error)
            continue
        expected = expected or images.class_names
        if {*images.class_names} <= {*expected}:
            images = images.with_classes(expected)
        yield report_on_images(config, split, title, images, expected, _samples(data, images, ()).decode)


IMAGENET = ImageFormat(options=ImageFolderData, train_data=_train_data, eval_data=_eval_data, check=_check)
