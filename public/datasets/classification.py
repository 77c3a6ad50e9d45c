"""The loaders of a classification config."""

from typing import NamedTuple

from public.config.classification import ClassificationConfig, ClassificationDataConfig
from public.config.record import class_summary
from public.datasets.batches import DataError, EvalLoader, TrainLoader
from public.datasets.cifar100 import Cifar100, CifarEvalLoader, CifarTrainLoader, read_cifar100
from public.datasets.imagenet import ImageFolderDataset, Images, check_same_classes
from public.datasets.loaders import ImageFolderEvalLoader, ImageFolderTrainLoader
from public.datasets.locations import dataset_folder, is_generated_sample
from public.datasets.packed import find_images
from public.runtime.distributed import World
from public.transforms.batch import BatchTransform


class EvalData(NamedTuple):
    """What an evaluation reads."""

    loader: EvalLoader
    class_names: list[str]


class TrainData(NamedTuple):
    """What a training run reads."""

    train: TrainLoader
    val: EvalLoader
    class_names: list[str]
    num_images: int
    """Training images of the whole data set."""


def build_train_data(config: ClassificationConfig, world: World) -> TrainData:
    """Both loaders of a run.

    Raises:
        DataError: the data set is missing, damaged, or not of the classes that the config states.
    """
    build = {"imagenet": _imagenet_train_data, "cifar100": _cifar_train_data}[config.data.dataset]
    data = build(config, world)
    check_num_classes(config, data.class_names)
    return data


def build_eval_data(data: ClassificationDataConfig, *, batch_size: int, num_workers: int, world: World) -> EvalData:
    """The loader of the validation split alone."""
    if data.dataset == "cifar100":
        split = _read_cifar(data, "val")
        loader = CifarEvalLoader(
            split, batch_size=batch_size, rank=world.rank, num_processes=world.size, device=world.device
        )
        return EvalData(loader, split.class_names)
    images = find_images(dataset_folder(data.folder), "val")
    return EvalData(_imagenet_eval_loader(data, images, batch_size, num_workers, world), images.class_names)


def check_num_classes(config: ClassificationConfig, class_names: list[str]) -> None:
    """Raises DataError where the config states another number of classes than the data set has."""
    if config.num_classes not in (None, len(class_names)):
        raise DataError(
            f"num_classes={config.num_classes}, and {dataset_folder(config.data.folder)} has "
            f"{class_summary(class_names)}."
        )


def _imagenet_train_data(config: ClassificationConfig, world: World) -> TrainData:
    folder = dataset_folder(config.data.folder)
    images, val_images = find_images(folder, "train"), find_images(folder, "val")
    check_same_classes(images, val_images)
    dataset = ImageFolderDataset(
        images, config.data.train_transforms, decoder=config.data.decoder or "opencv", seed=config.seed
    )
    train = ImageFolderTrainLoader(
        dataset,
        batch_size=config.batch_size,
        num_workers=config.runtime.num_workers,
        rank=world.rank,
        num_processes=world.size,
        pin_memory=world.device.type == "cuda",
        repeats=config.data.repeated_augmentation or 1,
    )
    val = _imagenet_eval_loader(
        config.data, val_images, config.local_batch_size(world.size), config.runtime.num_workers, world
    )
    return TrainData(train, val, images.class_names, len(dataset))


def _imagenet_eval_loader(
    data: ClassificationDataConfig, images: Images, batch_size: int, num_workers: int, world: World
) -> EvalLoader:
    dataset = ImageFolderDataset(images, data.val_transforms, decoder=data.decoder or "opencv", seed=0)
    return ImageFolderEvalLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        rank=world.rank,
        num_processes=world.size,
        pin_memory=world.device.type == "cuda",
    )


def _read_cifar(data: ClassificationDataConfig, split: str) -> Cifar100:
    folder = dataset_folder(data.folder)
    published = data.published_archive
    if published is None:
        published = not is_generated_sample(folder)
    return read_cifar100(folder, split, published_archive=published, download=bool(data.download))


def _batch_transforms(data: ClassificationDataConfig) -> list[BatchTransform]:
    """The train transforms, after a check that they work on whole batches; evaluation has none."""
    for transform in data.train_transforms:
        if not hasattr(transform, "num_draws"):
            raise DataError(
                f"data.train_transforms holds {transform!r}, which works on one image; data.dataset='cifar100' takes "
                "the whole-batch transforms of public/transforms/batch.py."
            )
    if data.val_transforms:
        raise DataError("data.val_transforms has no effect with data.dataset='cifar100': leave it empty.")
    return list(data.train_transforms)  # pyright: ignore[reportReturnType]


def _cifar_train_data(config: ClassificationConfig, world: World) -> TrainData:
    split = _read_cifar(config.data, "train") if world.is_main else None  # the main process alone may download
    world.barrier()
    split = split or _read_cifar(config.data, "train")
    train = CifarTrainLoader(
        split,
        _batch_transforms(config.data),
        batch_size=config.batch_size,
        seed=config.seed,
        rank=world.rank,
        num_processes=world.size,
        device=world.device,
        where=dataset_folder(config.data.folder),
        repeats=config.data.repeated_augmentation or 1,
    )
    val = build_eval_data(config.data, batch_size=config.local_batch_size(world.size), num_workers=0, world=world)
    return TrainData(train, val.loader, split.class_names, len(split.images))
