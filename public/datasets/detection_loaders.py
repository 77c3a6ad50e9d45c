"""Image files and their boxes to batches: decoded, transformed and put on canvases of one size by worker processes.

Every draw of image i in epoch e comes from (seed, e, i), and what a batch has to agree on from (seed, e, step): the
same batches come from any number of workers and from any step on, and the shares of several processes make up the
batch of one.
"""

import math
import os
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, default_collate
from torchvision.transforms import v2

from public.config.names import first_line
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError, DetectionBatch, steps_per_epoch
from public.datasets.decoding import DECODING_ERRORS, UnreadableImage, decode_annotated
from public.datasets.loaders import BatchSampler, EpochBatchSampler, WithSteps, build_dataloader, checked
from public.geometry.labels import PADDING
from public.runtime.constants import tensor_on
from public.runtime.seeding import epoch_order, sample_seed, uniforms
from public.transforms.detection import FILL, DetectionSample, DetectionTransform
from public.transforms.mixing_boxes import MixingTransform
from public.transforms.with_boxes import with_boxes

_STEPS = 2**63  # in the place of an epoch, which never gets there: the seed of steps is no sample's


class LoadedImage(NamedTuple):
    """One transformed image of a data set."""

    sample: DetectionSample
    """On its canvas."""
    original_size: tuple[int, int]
    """Height and width of the image file."""
    image_id: int
    """The data set's own."""
    seed: int = 0
    """For what is drawn for it on the device; only training draws anything."""


Transform = DetectionTransform | MixingTransform
"""What may stand among the transforms of a config."""


def checked_transforms(name: str, transforms: Sequence[Any], *, random: bool = True) -> list[Any]:
    """The transforms of a config, after a check that they make batches of images with boxes; torchvision's v2 adapted.

    Args:
        name: of the setting, for the message.
        transforms: in their order.
        random: whether they may draw.

    Raises:
        DataError: one of another kind, a resize that is missing or not the last, draws where there may be none.
    """
    transforms = [_adapted(name, transform) for transform in transforms]
    for transform in transforms:
        if not hasattr(transform, "num_draws") or not hasattr(transform, "per_batch"):
            raise DataError(
                f"{name} holds {transform!r}, which knows no boxes; take those of public/transforms/detection.py "
                "or torchvision's v2."
            )
        if transform.num_draws and not random:
            raise DataError(f"{name} holds {transform!r}, which may draw; evaluation takes one resize alone.")
    makes_canvas = [hasattr(transform, "canvas_multiple") for transform in transforms]
    if makes_canvas != [False] * (len(makes_canvas) - 1) + [True]:
        raise DataError(
            f"{name}={list(transforms)!r} must hold one resize, as the last: it makes the canvas that the images of a "
            "batch share."
        )
    return list(transforms)


def _adapted(name: str, transform: Any) -> Any:
    if not isinstance(transform, v2.Transform) or hasattr(transform, "num_draws"):
        return transform
    try:
        return with_boxes(transform)
    except ValueError as error:
        raise DataError(f"{name} holds {error}.") from error


class DetectionDataset(Dataset[Any]):
    """Decoded and transformed images of one split, by (epoch, index, step).

    Args:
        annotations: the files and their objects.
        transforms: applied in this order, each with its own draws; from `checked_transforms`.
        seed: of the augmentation.
        epochs: of the run, from whose end transforms count that stop before it (`close`).
    """

    def __init__(
        self, annotations: DetectionAnnotations, transforms: Sequence[Transform], *, seed: int, epochs: float = math.inf
    ) -> None:
        self.annotations, self.transforms, self.seed, self.epochs = annotations, transforms, seed, epochs
        self.step_seed = sample_seed(seed, _STEPS, 0)

    def __len__(self) -> int:
        return self.annotations.num_images

    @property
    def canvas_multiple(self) -> int:
        """What a batch's height and width are multiples of."""
        return getattr(self.transforms[-1], "canvas_multiple")  # noqa: B009 - only resizes have it

    def canvases(self) -> np.ndarray:
        """Height and width of each image's canvas, int64 [N, 2], of the smallest where the resize draws one.

        As it is in evaluation, where no transform but a resize changes it.
        """
        multiple = self.canvas_multiple
        canvas_of = cache(cast(Any, self.transforms[-1]).canvas_size)  # many images have few sizes
        sizes = np.array([canvas_of(*size) for size in self.annotations.sizes.tolist()], dtype=np.int64)
        return -(-sizes.reshape(-1, 2) // multiple) * multiple

    def __getitem__(self, key: tuple[int, int, int]) -> LoadedImage | UnreadableImage:
        """One image, by (epoch, number, step); every random draw depends on the seed and this key alone.

        N and above are the same images once more, see `EpochOrder`.
        """
        epoch, number, step = key
        index = number % len(self)
        sample = self._read(index)
        if isinstance(sample, UnreadableImage):
            return sample
        size, image_id = sample.content_size, int(self.annotations.image_ids[index])
        for transform, draws in zip(self.transforms, self._draws(epoch, number, step), strict=True):
            if not isinstance(transform, MixingTransform):
                sample = transform(sample, draws)
            elif epoch < self.epochs - transform.close:
                others = [self._read(other) for other in transform.others(draws, len(self))]
                for other in others:
                    if isinstance(other, UnreadableImage):
                        return other
                sample = transform(sample, draws, cast(list[DetectionSample], others)) if others else sample
        return LoadedImage(sample, size, image_id, sample_seed(self.seed, epoch, number))

    def _draws(self, epoch: int, number: int, step: int) -> Iterator[np.ndarray]:
        """Each transform's own: float64 [num_draws], of the image or, where a batch has to agree, of the step."""
        left = {}  # by per_batch: what the transforms that follow will draw
        for per_batch, seed, one in ((False, self.seed, number), (True, self.step_seed, step)):
            count = sum(transform.num_draws for transform in self.transforms if transform.per_batch == per_batch)
            left[per_batch] = uniforms(seed, epoch, np.array([one]), count)[0]
        for transform in self.transforms:
            draws, left[transform.per_batch] = np.split(left[transform.per_batch], [transform.num_draws])
            yield draws

    def _read(self, index: int) -> DetectionSample | UnreadableImage:
        """An image as it was decoded, of the size that its boxes refer to, which is checked."""
        path = self.annotations.folder / os.fsdecode(self.annotations.files[index])
        height, width = self.annotations.sizes[index].tolist()
        remedy = (
            f"Replace it or take it out of {self.annotations.source} (python -m public.datasets.check lists all such "
            "files)"
        )
        try:
            image = decode_annotated(path, (height, width), self.annotations.reading)
        except DECODING_ERRORS as error:
            return UnreadableImage(str(path), first_line(error), remedy=remedy)
        if image.shape[:2] != (height, width):
            reason = f"it is {image.shape[0]} pixels high and {image.shape[1]} wide, annotated as {height} and {width}"
            return UnreadableImage(str(path), reason, "is not the one that its boxes were drawn on", remedy)
        return DetectionSample(image, *self.annotations.of(index), (height, width))


def collate(samples: Sequence[LoadedImage | UnreadableImage], *, canvas_multiple: int) -> Any:
    """Makes a DetectionBatch; an image that cannot be used takes the place of the whole batch.

    Args:
        samples: with canvases of any sizes; they are extended at the right and bottom to the largest height and width.
        canvas_multiple: the batch's height and width are rounded up to multiples of it.
    """
    loaded = [sample for sample in samples if isinstance(sample, LoadedImage)]
    if len(loaded) < len(samples):
        return next(sample for sample in samples if isinstance(sample, UnreadableImage))
    counts = [len(one.sample.labels) for one in loaded]
    num_objects = max(1, *counts)  # M: no tensor is empty
    boxes = np.zeros((len(loaded), num_objects, 4), dtype=np.float32)
    labels = np.full((len(loaded), num_objects), PADDING, dtype=np.int64)
    for row, (one, count) in enumerate(zip(loaded, counts, strict=True)):
        boxes[row, :count], labels[row, :count] = one.sample.boxes, one.sample.labels
    return DetectionBatch(
        images=_stacked([one.sample.image for one in loaded], canvas_multiple),
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(labels),
        content_sizes=torch.tensor([one.sample.content_size for one in loaded]),
        original_sizes=torch.tensor([one.original_size for one in loaded]),
        image_ids=torch.tensor([one.image_id for one in loaded]),
        seeds=torch.tensor([one.seed for one in loaded]),
    )


def _stacked(images: list[np.ndarray], multiple: int) -> torch.Tensor:
    """uint8 [B, 3, H, W] of pictures [h, w, 3]; in memory [B, H, W, 3], so that whole rows are copied."""
    height, width = (
        -(-max(sides) // multiple) * multiple for sides in zip(*(i.shape[:2] for i in images), strict=True)
    )
    whole = [torch.from_numpy(_extended(image, height, width)) for image in images]
    # In a worker, torch's own collate stacks right into the memory that the training process shares.
    return default_collate(whole).permute(0, 3, 1, 2)


def _extended(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [h, w, 3] -> [height, width, 3], FILL at the right and at the bottom."""
    bottom, right = height - image.shape[0], width - image.shape[1]
    if bottom == right == 0:
        return image
    return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=FILL)


def on_larger_canvas(images: torch.Tensor, canvas_size: tuple[int, int]) -> torch.Tensor:
    """The images of a batch, extended as `collate` would have: uint8 [B, 3, h, w] -> [B, 3, H, W], on their device."""
    height, width = images.shape[2:]
    if (height, width) == canvas_size:
        return images
    color = tensor_on(images.device, FILL, images.dtype)
    canvas = color.expand(len(images), *canvas_size, 3).contiguous().permute(0, 3, 1, 2)
    canvas[:, :, :height, :width] = images
    return canvas


def aspect_groups(sizes: np.ndarray, groups_per_doubling: int) -> np.ndarray:
    """Puts images into groups of similar width / height, as torchvision's detection references do.

    Args:
        sizes: [N, 2], height and width of each.
        groups_per_doubling: k, of width / height between 1/2 and 2; what is beyond on either side is one more group.

    Returns:
        int64 [N], from 0 (upright) to 2k + 1 (wide).
    """
    edges = 2.0 ** np.linspace(-1, 1, 2 * groups_per_doubling + 1) if groups_per_doubling else np.ones(1)
    return np.searchsorted(edges, sizes[:, 1] / sizes[:, 0], side="right")


def grouped_order(order: np.ndarray, groups: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Sorts the images of an epoch so that a batch holds images of one group, and the batches come in random order.

    Deviation from torchvision, which takes some images twice and leaves others out to fill each group's last batch: an
    epoch has the images that it has without groups, each once, and at most (number of groups - 1) of its batches hold
    images of neighboring groups.

    Args:
        order: int64 [L], the samples as they come without groups (`EpochOrder`).
        groups: [N], the group of each image.
        batch_size: B, of all processes together.
        seed: of the order of the batches.
        epoch: 0-based.

    Returns:
        int64 [L // B * B].
    """
    whole = order[: len(order) // batch_size * batch_size]
    sorted_batches = whole[np.argsort(groups[whole % len(groups)], kind="stable")].reshape(-1, batch_size)
    return sorted_batches[epoch_order(seed, epoch, len(sorted_batches))].reshape(-1)


class GroupedEpochBatchSampler(EpochBatchSampler):
    """A `EpochBatchSampler` whose global batches hold images of one group, see `grouped_order`; `groups` is [N]."""

    def __init__(
        self,
        groups: np.ndarray,
        batch_size: int,
        seed: int,
        rank: int,
        num_processes: int,
        factors: np.ndarray | None = None,
    ) -> None:
        super().__init__(len(groups), batch_size, seed, rank, num_processes, factors=factors)
        self.groups = groups

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.order.samples(self.epoch)
        order = grouped_order(order, self.groups, self.batch_size, self.order.seed, self.epoch)
        for begin in range(self.first_step * self.batch_size, len(order), self.batch_size):
            own = order[begin + self.offset : begin + self.offset + self.local_size]
            yield [(self.epoch, index) for index in own.tolist()]


class DetectionTrainLoader:
    """Training batches of one process: its part of every global batch.

    Args:
        dataset: the training split.
        batch_size: of all processes together.
        num_workers: processes that load; 0: this one.
        rank: this process.
        num_processes: all of them.
        pin_memory: whether batches lie where a GPU fetches them fastest.
        group_by_aspect: groups for each doubling of width / height, see `aspect_groups`; None: no groups.
        factors: how often an epoch takes each image, see `EpochOrder`.

    Raises:
        DataError: there is not even one global batch.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        *,
        batch_size: int,
        num_workers: int,
        rank: int = 0,
        num_processes: int = 1,
        pin_memory: bool = False,
        group_by_aspect: int | None = None,
        factors: np.ndarray | None = None,
    ) -> None:
        place = batch_size, dataset.seed, rank, num_processes
        if group_by_aspect is None:
            self.share = EpochBatchSampler(len(dataset), *place, factors=factors)
        else:
            groups = aspect_groups(dataset.annotations.sizes, group_by_aspect)
            self.share = GroupedEpochBatchSampler(groups, *place, factors=factors)
        self.steps_per_epoch = steps_per_epoch(self.share.order.length, batch_size, dataset.annotations.source)
        to_batch = partial(collate, canvas_multiple=dataset.canvas_multiple)
        self.loader = build_dataloader(dataset, WithSteps(self.share), to_batch, num_workers, pin_memory)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[DetectionBatch]:
        """The batches of one epoch from `first_step` on."""
        self.share.epoch, self.share.first_step = epoch, first_step
        return checked(self.loader)


class CanvasBatchSampler(BatchSampler):
    """Gives one process whole batches of images with canvases of one size, each image once.

    Nothing but its own padding then lies around an image: what a detector finds in it does not depend on the size of
    the batches or the number of processes. The images are gone through in order; a batch comes when it is full, what is
    left comes in the end.

    Args:
        canvases: [N, 2], height and width of each image's canvas.
        batch_size: of one process; where a size has no more images, a batch is smaller.
        rank: this process.
        num_processes: all of them.
    """

    def __init__(self, canvases: np.ndarray, batch_size: int, rank: int, num_processes: int) -> None:
        order = np.lexsort(canvases.T)
        changes = np.flatnonzero((np.diff(canvases[order], axis=0) != 0).any(axis=1)) + 1
        batches = [
            group[begin : begin + batch_size]
            for group in np.split(order, changes)
            for begin in range(0, len(group), batch_size)
        ]
        batches.sort(key=lambda batch: (len(batch) < batch_size, batch[-1]))
        self.batches, self.common_batches = batches[rank::num_processes], len(batches) // num_processes

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.batches:
            yield [(0, index) for index in batch.tolist()]


class DetectionEvalLoader:
    """One process's share of a split, each image once, see `CanvasBatchSampler`; arguments as above, with the batch
    size of one process."""

    def __init__(
        self,
        dataset: DetectionDataset,
        *,
        batch_size: int,
        num_workers: int,
        rank: int = 0,
        num_processes: int = 1,
        pin_memory: bool = False,
    ) -> None:
        self.num_images, self.batch_size = len(dataset), batch_size
        share = CanvasBatchSampler(dataset.canvases(), batch_size, rank, num_processes)
        self.common_batches = share.common_batches
        to_batch = partial(collate, canvas_multiple=dataset.canvas_multiple)
        self.loader = build_dataloader(dataset, WithSteps(share), to_batch, num_workers, pin_memory)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[DetectionBatch]:
        return checked(self.loader)
