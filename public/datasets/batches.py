"""What a loader hands over, and how loaders look to a recipe."""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from public.geometry.labels import IGNORED, PADDING

if TYPE_CHECKING:
    from public.config.data import DataOptions


class DataError(ValueError):
    """A data set that cannot be used as it is; the message says which file, what it holds and what was expected."""


class ClassificationBatch(NamedTuple):
    """Images and their classes."""

    images: torch.Tensor
    """uint8 [B, 3, H, W], red green blue; normalization happens on the device."""
    labels: torch.Tensor
    """int64 [B], 0-based."""


class ImageSizes(NamedTuple):
    """What leads from boxes on the canvas back to the image they came from: original = canvas * original / content."""

    content: torch.Tensor
    """int64 [B, 2], height and width in pixels of the canvas that the image fills, from its top left corner."""
    original: torch.Tensor
    """int64 [B, 2], height and width of the image file."""


class DetectionBatch(NamedTuple):
    """Images on canvases of one size, and their objects."""

    images: torch.Tensor
    """uint8 [B, 3, H, W], red green blue; normalization happens on the device."""
    boxes: torch.Tensor
    """float32 [B, M, 4], x1 y1 x2 y2 in pixels of the canvas: pixel i covers [i, i + 1)."""
    labels: torch.Tensor
    """int64 [B, M], 0-based; `public.geometry.labels`: PADDING where an image has fewer than M, IGNORED for a region to
    leave alone."""
    content_sizes: torch.Tensor
    """int64 [B, 2], see `ImageSizes`."""
    original_sizes: torch.Tensor
    """int64 [B, 2], see `ImageSizes`."""
    image_ids: torch.Tensor
    """int64 [B], the data set's own."""
    seeds: torch.Tensor
    """int64 [B], for whatever is drawn for an image on the device: each its own in each epoch."""

    @property
    def sizes(self) -> ImageSizes:
        """What `decode` needs to give boxes in the original images."""
        return ImageSizes(self.content_sizes, self.original_sizes)


Batch_co = TypeVar("Batch_co", covariant=True)
"""ClassificationBatch or DetectionBatch."""


class TrainLoader(Protocol[Batch_co]):
    """Batches of one process for training."""

    steps_per_epoch: int
    """Optimizer steps of an epoch: whole global batches; the images left over take part in other epochs."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch_co]:
        """The batches of one epoch from `first_step` on, the same whatever was loaded before."""
        ...


class EvalLoader(Protocol[Batch_co]):
    """Each image of a data set once, over all processes together, in a fixed order."""

    num_images: int
    """Images of the whole data set."""
    batch_size: int
    """Images of a full batch."""
    common_batches: int
    """How many batches every process has at least."""

    def __len__(self) -> int:
        """Batches of this process."""
        ...

    def __iter__(self) -> Iterator[Batch_co]:
        """This process's share."""
        ...


class ImageEvalLoader(EvalLoader[ClassificationBatch], Protocol):
    """Of a classifier: process r of P has the images r, r + P, r + 2 P, ... of the split."""

    def picture(self, index: int) -> np.ndarray:
        """An image of the whole split as it lies on the disk, uint8 [H, W, 3] red green blue: to be looked at."""
        ...

    def name(self, index: int) -> str:
        """What that image is called: its file below the split's folder, or its number."""
        ...


class EvalData(NamedTuple):
    """What an evaluation of a classifier reads."""

    loader: ImageEvalLoader
    class_names: list[str]


class TrainData(NamedTuple):
    """What a training run of a classifier reads."""

    train: TrainLoader[ClassificationBatch]
    val: ImageEvalLoader
    class_names: list[str]
    num_images: int
    """Training images of the whole data set."""
    category_ids: None = None
    """Classes have no numbers but their labels."""
    settled: "DataOptions | None" = None
    """The data's options with what was found out when it was opened, which a run keeps; None: nothing was."""
    digests: Mapping[str, str] = MappingProxyType({})
    """See `Data`."""


def common_batches(num_images: int, batch_size: int, num_processes: int) -> int:
    """How many batches every process has at least, where each takes every num_processes-th image."""
    return math.ceil(num_images // num_processes / batch_size)


def steps_per_epoch(num_images: int, batch_size: int, where: object) -> int:
    """Whole global batches in a data set.

    Raises:
        DataError: there is not even one.
    """
    if num_images < batch_size:
        raise DataError(
            f"{where} holds {num_images} training images, fewer than one global batch (batch_size={batch_size}); "
            f"use --batch-size {num_images} or less."
        )
    return num_images // batch_size


def labels_by_name(labels: np.ndarray, own: list[str], class_names: list[str], where: object) -> np.ndarray:
    """Labels that are numbers in one list of classes as numbers in another.

    Args:
        labels: int64 [N].
        own: the classes that they are numbers of.
        class_names: those that they are to be numbers of; some more may be in it.
        where: what holds them, for the message.

    Returns:
        int64 [N].

    Raises:
        DataError: a class is in the first list alone.
    """
    unknown = sorted({*own} - {*class_names})
    if unknown:
        raise DataError(
            f"{where} holds {len(unknown)} of {len(own)} classes that are not trained on: {', '.join(unknown[:5])}"
            f"{', ...' if len(unknown) > 5 else ''}; expected some or all of {', '.join(class_names[:5])}"
            f"{', ...' if len(class_names) > 5 else ''}."
        )
    numbers = {name: number for number, name in enumerate(class_names)}
    return np.array([numbers[name] for name in own], dtype=np.int64)[labels]


def check_batch(batch: Any, num_classes: int) -> None:
    """Refuses what a step cannot work on, while it lies on the CPU: a GPU would end the process, or learn nonsense.

    The labels of a data set are checked when it is opened; a loader or a transform of an experiment's own is not.

    Args:
        batch: of a training loader: one of the above, or an experiment's own with images, labels and perhaps boxes.
        num_classes: of the network.

    Raises:
        DataError: it holds no image, labels of more or fewer, a label of no class, or a box that is not finite or ends
            before it begins. Of a batch that lies on a GPU only the numbers: the host would have to wait for the rest.
    """
    labels, boxes = batch.labels, getattr(batch, "boxes", None)
    if len(batch.images) == 0:
        raise DataError("the loader gave a batch without images; each must hold one at least.")
    if len(labels) != len(batch.images):
        raise DataError(f"the loader gave a batch of {len(batch.images)} images with the labels of {len(labels)}.")
    if labels.device.type != "cpu":
        return
    wrong = (labels < (0 if boxes is None else IGNORED)) | (labels >= num_classes)
    if wrong.any():
        raise DataError(
            f"{_first(batch, wrong)} of a batch has the label {int(labels[wrong][0])}, and there are {num_classes} "
            f"classes: 0 to {num_classes - 1}."
        )
    if boxes is not None:
        is_box = boxes.isfinite().all(dim=2) & (boxes[..., :2] <= boxes[..., 2:]).all(dim=2)  # [B, M]
        broken = (labels != PADDING) & ~is_box
        if broken.any():
            raise DataError(
                f"{_first(batch, broken)} of a batch has the box {boxes[broken][0].tolist()}, which is not finite or "
                "ends before it begins: a transform of boxes gave it."
            )


def _first(batch: Any, found: torch.Tensor) -> str:
    """The first image with something that was found, bool [B] or [B, M], as a message calls it."""
    row = int(found.reshape(len(found), -1).any(dim=1).int().argmax())
    ids = getattr(batch, "image_ids", None)
    return f"image {row}" if ids is None else f"image id {int(ids[row])}"
