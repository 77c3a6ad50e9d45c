"""Listing the images of class folders against torchvision's ImageFolder.

    python -m benchmarks.listing
    python -m benchmarks.listing --classes 1000 --images 1281

The tree is generated, of empty files: nothing is opened. 1000 classes of 210 are what a process of a run lists before
its first step; the second line is ImageNet's size. Both ways must find the same files with the same labels in the same
order. Ours sorts the whole paths of a class, torchvision the folders first: without folders below those of the classes
there is no difference.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torchvision.datasets import ImageFolder

from benchmarks.compare import alternate, report
from public.datasets.image_folder import list_images

CLAIM = 1.0
"""Least multiple of torchvision's files/s."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 7
    """Counted rounds."""
    classes: int = 1000
    """Class folders."""
    images: int = 210
    """Files in each."""


def write_tree(folder: Path, options: Options) -> None:
    """Class folders of empty files, named as ImageNet's and written in no order."""
    numbers = np.random.default_rng(0).permutation(10 * options.images)[: options.images].tolist()
    for label in range(options.classes):
        name = f"n{10_000_000 + 137 * label:08d}"
        (folder / name).mkdir(parents=True)
        for number in numbers:
            (folder / name / f"{name}_{number}.JPEG").touch()


def same_files(folder: Path) -> bool:
    """Whether both ways find the same paths and labels in the same order."""
    ours, theirs = list_images(folder.parent, folder.name), ImageFolder(str(folder))
    paths = [str(ours.path(index)) for index in range(len(ours.files))]
    return list(zip(paths, ours.labels.tolist(), strict=True)) == theirs.samples


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    total = options.classes * options.images
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "train"
        write_tree(folder, options)
        assert same_files(folder)

        def turn(make: Callable[[], object]) -> Callable[[], float]:
            def speed() -> float:
                start = time.perf_counter()
                make()
                return total / (time.perf_counter() - start)

            return speed

        ways = {"ours": turn(lambda: list_images(folder.parent, folder.name))}
        ways["torchvision"] = turn(lambda: ImageFolder(str(folder)))
        comparison = alternate(ways, options.rounds, "files/s")
    report("listing", comparison, CLAIM, torch.device("cpu"), f"{total} generated files in {options.classes} folders")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
