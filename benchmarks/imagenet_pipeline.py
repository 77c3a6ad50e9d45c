"""ImageNet training batches: our loader against torchvision's reference pipeline of PIL images, at equal worker count.

    python -m benchmarks.imagenet_pipeline

Both decode the same JPEG files, cut a random part, resize it to 224x224 and mirror it at random. The peer is what
torchvision's classification reference trains with: ImageFolder, RandomResizedCrop, RandomHorizontalFlip, PILToTensor,
ConvertImageDtype and Normalize in torch's DataLoader: its workers hand over normalized float32 batches. Ours hand over
uint8, and the device normalizes. On a GPU that is counted; on a CPU it is part of the network's time unless --normalize
says otherwise (it then competes with the workers for the cores).
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch.utils.data import DataLoader, Subset
from torchvision import transforms as pil_transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.compare import alternate, benchmark_device, find_data, report
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.datasets.image_folder import ImageFolderDataset, ImageList, Images, list_images
from public.datasets.loaders import ImageFolderTrainLoader
from public.layers.normalize import Normalize
from public.runtime.device import synchronize
from public.transforms.image import RandomResizedCrop

SIZE = 224
"""Height and width of the batches' images."""
PREFETCH = 4
"""Batches that each worker reads ahead; our loader has the same number."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 5
    """Counted rounds."""
    images: int = 1000
    """Images of a turn, spread over the data set; all, where it has fewer."""
    batch_size: int = 50
    """Images per batch."""
    num_workers: int = 2
    """Worker processes of either; 0: in the main process."""
    normalize: bool = torch.cuda.is_available()
    """Count our normalization on the device."""
    data: Path | None = None
    """Folder of class folders; None: the real data if it is there, else the generated sample."""


def speed(batches: Iterable[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> float:
    """Images per second of one pass over batches that lie on the device."""
    start = time.perf_counter()
    num_images = sum(len(images) for images, _ in batches)
    synchronize(device)
    return num_images / (time.perf_counter() - start)


class OurBatches:
    """Passes over our loader, each with the augmentation of another epoch."""

    def __init__(self, images: Images, options: Options, device: torch.device) -> None:
        transforms = (RandomResizedCrop(SIZE), v2.RandomHorizontalFlip())
        self.loader = ImageFolderTrainLoader(
            ImageFolderDataset(images, transforms, decoder="opencv", seed=0),
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            pin_memory=device.type == "cuda",
        )
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD, channels_last=True).to(device)
        self.device, self.epochs, self.normalized = device, 0, options.normalize

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in self.loader.epoch(self.epochs):
            images = images.to(self.device, non_blocking=True)
            yield self.normalize(images) if self.normalized else images, labels.to(self.device, non_blocking=True)
        self.epochs += 1


class PeerBatches:
    """Passes over torchvision's ImageFolder with the transforms of its reference."""

    def __init__(self, folder: Path, chosen: list[int], options: Options, device: torch.device) -> None:
        transforms = pil_transforms.Compose(
            [
                pil_transforms.RandomResizedCrop(SIZE),
                pil_transforms.RandomHorizontalFlip(),
                pil_transforms.PILToTensor(),
                pil_transforms.ConvertImageDtype(torch.float),
                pil_transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )
        self.loader: DataLoader[Any] = DataLoader(
            Subset(ImageFolder(str(folder), transforms), chosen),
            batch_size=options.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=options.num_workers,
            persistent_workers=options.num_workers > 0,
            prefetch_factor=PREFETCH if options.num_workers else None,
            pin_memory=device.type == "cuda",
        )
        self.device = device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in self.loader:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def part_of(images: ImageList, chosen: list[int]) -> ImageList:
    """Some images of a list."""
    return images._replace(files=images.files[chosen], labels=images.labels[chosen])


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    device = benchmark_device()
    folder, data = find_data("imagenet_like/val", "ILSVRC2012/train", options.data)
    images = list_images(folder.parent, folder.name)
    total = len(images.files)
    chosen = list(range(0, total, max(1, total // options.images)))[: options.images]
    ours = OurBatches(part_of(images, chosen), options, device)
    peer = PeerBatches(folder, chosen, options, device)
    ways = {"ours": lambda: speed(ours, device), "torchvision": lambda: speed(peer, device)}
    comparison = alternate(ways, options.rounds, "images/s")
    report(
        "imagenet_pipeline",
        comparison,
        1.6,
        device,
        f"{data}, {options.num_workers} workers, ours {'normalized' if options.normalize else 'uint8'}",
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
