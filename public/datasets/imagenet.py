"""ImageNet (ILSVRC2012) and any data set of the same shape: train/<class>/ and val/<class>/ folders of image files.

A split may also lie in one packed file: `packed.find_images` tells. Whatever the storage, samples are the same.
"""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from public.config.calls import build_all
from public.config.classification import ClassificationConfig, ClassificationData
from public.datasets.balance import balanced
from public.datasets.batches import DataError, EvalData, ImageEvalLoader, TrainData
from public.datasets.checking import SplitReport, report_on_images, unusable
from public.datasets.format import ImageFormat
from public.datasets.image_folder import ImageFolderDataset, Images, passed_over, unseen_classes
from public.datasets.loaders import ImageFolderEvalLoader, ImageFolderTrainLoader
from public.datasets.locations import dataset_folder
from public.datasets.packed import find_images
from public.datasets.scan import Kind, Problem
from public.runtime.distributed import DistributedContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageFolderData(ClassificationData):
    """Files in train/<class>/ and val/<class>/ of `folder`, or train.lmdb and val.lmdb.

    Transforms are torchvision's v2, or ours, of one image.
    """

    kind: ClassVar[str] = "imagenet"
    decoder: Literal["opencv", "pil"] = "opencv"
    """opencv decodes to tensors; pil resizes as the published numbers were, slower."""


def _samples(data: ImageFolderData, images: Images, *, training: bool, seed: int) -> ImageFolderDataset:
    transforms = build_all(data.train_transforms if training else data.val_transforms, data.input_size)
    return ImageFolderDataset(images, transforms, decoder=data.decoder, seed=seed)


def _train_data(config: ClassificationConfig, context: DistributedContext) -> TrainData:
    data = config.data
    assert isinstance(data, ImageFolderData)
    folder = dataset_folder(data.folder)
    images, val_images = find_images(folder, "train"), find_images(folder, "val")
    val_images = val_images.with_classes(images.class_names)
    if context.is_main:
        _tell_what_lacks(images)
        _tell_what_lacks(val_images)
    dataset = _samples(data, images, training=True, seed=config.seed)
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
    return TrainData(train, val, images.class_names, len(dataset))


def _tell_what_lacks(images: Images) -> None:
    """Warns of what was passed over in a split, and of classes that it holds no image of."""
    for kind, problems in itertools.groupby(passed_over(images), lambda problem: problem.kind):
        paths = [problem.path for problem in problems]
        logger.warning(f"passed over: {len(paths)} {kind} ({', '.join(paths[:3])}{', ...' if paths[3:] else ''})")
    unseen = unseen_classes(images)
    if unseen:
        names = ", ".join(unseen[:10]) + (", ..." if unseen[10:] else "")
        logger.warning(
            f"{images.folder} holds no image of {len(unseen)} of {len(images.class_names)} classes ({names}): the "
            "accuracy is that of the others."
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
    images = find_images(dataset_folder(data.folder), "val")
    if class_names is not None:
        images = images.with_classes(class_names)
        if context.is_main:
            _tell_what_lacks(images)
    return EvalData(_eval_loader(data, images, batch_size, num_workers, context), images.class_names)


def _eval_loader(
    data: ImageFolderData, images: Images, batch_size: int, num_workers: int, context: DistributedContext
) -> ImageEvalLoader:
    return ImageFolderEvalLoader(
        _samples(data, images, training=False, seed=0),
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
            images = find_images(folder, split)
        except DataError as error:
            yield unusable(title, error)
            continue
        expected = expected or images.class_names
        if {*images.class_names} <= {*expected}:
            images = images.with_classes(expected)
        yield report_on_images(config, split, title, images, expected, data.decoder)


IMAGENET = ImageFormat(options=ImageFolderData, train_data=_train_data, eval_data=_eval_data, check=_check)
