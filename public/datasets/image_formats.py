"""The formats of classification data, one row each: a new one is its file and a line here."""

from collections.abc import Callable
from typing import Any, NamedTuple

from public.config.classification import ClassificationConfig, ClassificationData
from public.config.options import Kind
from public.datasets import cifar100, loaders
from public.datasets.batches import EvalData, TrainData
from public.datasets.cifar100 import Cifar100Data
from public.datasets.imagenet import ImageFolderData
from public.runtime.distributed import World


class ImageFormat(NamedTuple):
    """All that depends on a format."""

    options: type[ClassificationData]
    """Its settings; their `kind` is its name."""
    train: Callable[[ClassificationConfig, World], TrainData]
    """Both loaders of a run. Raises DataError where the data cannot be used."""
    evaluate: Callable[[Any, int, int, World], EvalData]
    """The validation split alone, by its options, the batch size of one process, workers and this process's place."""


IMAGE_FORMATS = {
    one.options.kind: one
    for one in (
        ImageFormat(ImageFolderData, loaders.train_data, loaders.eval_data),
        ImageFormat(Cifar100Data, cifar100.train_data, cifar100.eval_data),
    )
}


def format_of(data: ClassificationData) -> ImageFormat:
    """The row of some options."""
    return IMAGE_FORMATS[data.kind]


DATA_KIND = Kind("data.dataset", "data", tuple(IMAGE_FORMATS), lambda name: IMAGE_FORMATS[name].options)
