"""Image files to batches, read ahead by worker processes in an order that depends on (seed, epoch, step) alone."""

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.queues import Queue
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from public.config.names import first_line
from public.datasets.balance import EpochOrder
from public.datasets.batches import ClassificationBatch, DataError, common_batches, steps_per_epoch
from public.datasets.decoding import UnreadableImage, decode_encoded
from public.datasets.image_folder import ImageFolderDataset
from public.runtime.device import num_cores
from public.runtime.interruption import ignore_signals_in_worker
from public.runtime.seeding import batch_of_step


class BatchSampler(Sampler[list[tuple[int, int]]]):
    """One process's batches, as (epoch, index) keys."""

    first_step: int = 0
    """Of the epoch, at which it begins."""

    def __len__(self) -> int:
        raise NotImplementedError


class EpochBatchSampler(BatchSampler):
    """Gives one process its part of each global batch of an epoch, as (epoch, index) keys.

    With repeated augmentation the copies of an image have epochs of their own, see `batch_of_step`.

    Args:
        num_images: of the data set.
        batch_size: of all processes together.
        seed: of the order.
        rank: this process.
        num_processes: all of them.
        repeats: how many times each image is in its batch.
        factors: how often an epoch takes each image, see `EpochOrder`, whose numbers of samples are the indices.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        rank: int,
        num_processes: int,
        repeats: int = 1,
        factors: np.ndarray | None = None,
    ) -> None:
        self.order = EpochOrder(seed, num_images, factors)
        self.batch_size, self.repeats = batch_size, repeats
        self.local_size = batch_size // num_processes
        self.offset = rank * self.local_size
        self.epoch = self.first_step = 0

    def __len__(self) -> int:
        return max(0, self.order.length // self.batch_size - self.first_step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.order.samples(self.epoch)
        for step in range(self.first_step, self.order.length // self.batch_size):
            epochs, indices = batch_of_step(order, self.epoch, step, self.batch_size, self.repeats)
            own = slice(self.offset, self.offset + self.local_size)
            yield list(zip(epochs[own].tolist(), indices[own].tolist(), strict=True))


class SplitBatchSampler(BatchSampler):
    """Gives one process every num_processes-th image, each once, in order."""

    def __init__(self, num_images: int, batch_size: int, rank: int, num_processes: int) -> None:
        self.indices = np.arange(rank, num_images, num_processes)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.indices) / self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for begin in range(0, len(self.indices), self.batch_size):
            yield [(0, int(i)) for i in self.indices[begin : begin + self.batch_size]]


class WithSteps(Sampler[list[tuple[int, int, int]]]):
    """Adds to each key the step that its batch is for, to (epoch, index, step): what all images of a batch share."""

    def __init__(self, share: BatchSampler) -> None:
        self.share = share

    def __len__(self) -> int:
        return len(self.share)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for step, keys in enumerate(self.share, self.share.first_step):
            yield [(epoch, index, step) for epoch, index in keys]


def collate(
    samples: Sequence[tuple[torch.Tensor, int] | UnreadableImage],
) -> ClassificationBatch | UnreadableImage:
    """Stacks samples; a sample that could not be read takes the place of the whole batch.

    Pixels are stacked as [B, H, W, 3] in memory, as they were decoded: whole images are copied, not single values.
    """
    images, labels = [], []
    for sample in samples:
        if isinstance(sample, UnreadableImage):
            return sample
        images.append(sample[0])
        labels.append(sample[1])
    # In a worker, torch's own collate stacks right into the memory that the training process shares.
    pixels = default_collate([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)  # [B, 3, H, W]
    return ClassificationBatch(pixels, torch.tensor(labels))


def checked(batches: DataLoader[Any]) -> Iterator[Any]:
    """Passes batches on; raises DataError in the training process for an image that a worker could not use."""
    for batch in received(batches):
        if isinstance(batch, UnreadableImage):
            raise DataError(
                f"the image {batch.path} {batch.problem}: {batch.reason}. {batch.remedy}; the same command "
                "then resumes from the last checkpoint."
            )
        yield batch


def received(batches: DataLoader[Any]) -> Iterator[Any]:
    """Passes batches on, and tells of a worker that dies while it hands one over as torch tells of all others.

    Raises:
        RuntimeError: a worker died.
    """
    try:
        yield from batches
    except (ConnectionError, EOFError) as error:  # its socket is closed, and torch has not yet seen that it is dead
        if batches.num_workers == 0 or "DataLoader worker" in str(error):  # the data's own
            raise
        raise RuntimeError(f"DataLoader worker exited unexpectedly ({first_line(error)})") from error


def build_dataloader(
    dataset: Dataset[Any],
    sampler: Sampler[Any],
    collate: Callable[[Sequence[Any]], Any],
    num_workers: int,
    pin_memory: bool,
) -> DataLoader[Any]:
    """The batches that `collate` makes of the samples whose keys `sampler` gives, loaded by worker processes."""
    # More workers than cores only wait for each other (torch warns); their number changes no batch.
    num_workers = min(num_workers, num_cores())
    if num_workers:
        # Here, before a fork: OpenCV's threads do not live through it, and a worker that asked for fewer of them would
        # wait for ever for those that are gone.
        cv2.setNumThreads(1)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        prefetch_factor=4 if num_workers else None,
        # Its own generator: torch's global one must not be drawn from, or resuming would shift it.
        generator=torch.Generator(),
    )


def _start_worker(worker_id: int) -> None:
    """One thread for each worker, also where it was not forked: the other cores have workers of their own."""
    ignore_signals_in_worker(worker_id)
    cv2.setNumThreads(1)
    # A batch that cannot be handed over (shared memory is full) would be dropped, and waited for without end.
    Queue._on_queue_feeder_error = staticmethod(_end_worker)  # pyright: ignore[reportAttributeAccessIssue]


def _end_worker(error: BaseException, _batch: object) -> None:
    """Says why and ends this worker, which its training process notices."""
    sys.stderr.write(f"error: a data worker could not hand over a batch: {first_line(error)}\n")
    sys.stderr.flush()
    os._exit(1)


class ImageFolderTrainLoader:
    """Training batches of one process from image files."""

    def __init__(
        self,
        dataset: ImageFolderDataset,
        *,
        batch_size: int,
        num_workers: int,
        rank: int = 0,
        num_processes: int = 1,
        pin_memory: bool = False,
        repeats: int = 1,
        factors: np.ndarray | None = None,
    ) -> None:
        place = batch_size, dataset.seed, rank, num_processes
        self.sampler = EpochBatchSampler(len(dataset), *place, repeats, factors)
        self.steps_per_epoch = steps_per_epoch(self.sampler.order.length, batch_size, dataset.images.folder)
        self.loader = build_dataloader(dataset, self.sampler, collate, num_workers, pin_memory)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ClassificationBatch]:
        """The batches of one epoch from `first_step` on."""
        self.sampler.epoch, self.sampler.first_step = epoch, first_step
        return checked(self.loader)


class ImageFolderEvalLoader:
    """One process's share of a split, each image once."""

    def __init__(
        self,
        dataset: ImageFolderDataset,
        *,
        batch_size: int,
        num_workers: int,
        rank: int = 0,
        num_processes: int = 1,
        pin_memory: bool = False,
    ) -> None:
        self.dataset, self.num_images, self.batch_size = dataset, len(dataset), batch_size
        self.common_batches = common_batches(len(dataset), batch_size, num_processes)
        sampler = SplitBatchSampler(len(dataset), batch_size, rank, num_processes)
        self.loader = build_dataloader(dataset, sampler, collate, num_workers, pin_memory)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[ClassificationBatch]:
        return checked(self.loader)

    def picture(self, index: int) -> np.ndarray:
        """An image of the whole split, uint8 [H, W, 3] red green blue."""
        return decode_encoded(self.dataset.images.read(index), **self.dataset.options)

    def name(self, index: int) -> str:
        """The file of an image of the whole split, <class>/<file>."""
        return os.fsdecode(bytes(self.dataset.images.files[index]))
