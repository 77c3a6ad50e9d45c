"""CIFAR-100 training batches: ours, cut and augmented in memory, against torchvision's data set and torch's DataLoader.

    python -m benchmarks.cifar_pipeline

Both end with uint8 batches on the device, shuffled, mirrored at random and cropped at random out of 4 reflected
pixels on each side. The peer gets its fair best: no conversion to float, persistent workers, pinned memory on a GPU,
and the better one of several numbers of workers.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch.utils.data import DataLoader
from torchvision import transforms as pil_transforms
from torchvision.datasets import CIFAR100

from benchmarks.compare import alternate, benchmark_device, find_data, report
from public.datasets.cifar100 import CifarTrainLoader, read_cifar100
from public.runtime.device import num_cores, synchronize
from public.transforms.batch import BatchRandomCrop, BatchRandomHorizontalFlip


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 7
    """Counted rounds."""
    epochs_per_turn: int = 20
    """Epochs that ours runs in its turn (the peer, which takes longer, runs one)."""
    batch_size: int = 128
    """Images per batch."""
    num_workers: tuple[int, ...] = (0, 2)
    """Numbers of worker processes that the peer is tried with."""
    data: Path | None = None
    """Folder that holds cifar-100-python/; None: the real data if it is there, else the generated sample."""


class AnyCifar100(CIFAR100):
    """torchvision's data set without its checksums, so that another data set of the same layout can be measured."""

    def _check_integrity(self) -> bool:
        return True

    def _load_meta(self) -> None:
        """The names of the classes, which nothing here asks for."""
        self.classes = []


def speed(batches: Iterable[Any], device: torch.device) -> float:
    """Images per second of one pass over (images, labels) batches until all lie on the device."""
    num_images = 0
    start = time.perf_counter()
    for images, labels in batches:
        images = images.to(device, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        num_images += len(images)
    synchronize(device)
    return num_images / (time.perf_counter() - start)


def our_loader(folder: Path, batch_size: int, device: torch.device) -> CifarTrainLoader:
    """The loader of our recipe, with the transforms of the CIFAR experiments."""
    data = read_cifar100(folder, "train", published_archive=False)
    transforms = (BatchRandomHorizontalFlip(), BatchRandomCrop(size=32, padding=4))
    return CifarTrainLoader(data, transforms, batch_size=batch_size, seed=0, device=device)


def peer_loader(folder: Path, batch_size: int, num_workers: int, device: torch.device) -> DataLoader[Any]:
    """The same with torchvision's data set, its transforms of PIL images and torch's DataLoader."""
    transforms = pil_transforms.Compose(
        [
            pil_transforms.Pad(4, padding_mode="reflect"),
            pil_transforms.RandomHorizontalFlip(),
            pil_transforms.RandomCrop(32),
            pil_transforms.PILToTensor(),
        ]
    )
    return DataLoader(
        AnyCifar100(folder, train=True, transform=transforms),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=device.type == "cuda",
    )


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    device = benchmark_device()
    folder, data = find_data("cifar100_like", "CIFAR100", options.data)
    ours = our_loader(folder, options.batch_size, device)
    peers = {n: peer_loader(folder, options.batch_size, n, device) for n in options.num_workers}
    epochs = range(options.epochs_per_turn)
    ways = {"ours": lambda: speed((batch for epoch in epochs for batch in ours.epoch(epoch)), device)}
    ways |= {f"torchvision, {n} workers": lambda peer=peer: speed(peer, device) for n, peer in peers.items()}
    comparison = alternate(ways, options.rounds, "images/s")
    report("cifar_pipeline", comparison, 10.0, device, f"{data}, {num_cores()} cores")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
