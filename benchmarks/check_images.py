"""The check of images on two cores against one.

    python -m benchmarks.check_images

Every image is read, hashed and decoded, as `python -m public.datasets.check` does it: ours in two worker
processes, the peer in the process itself. Twice the number would be perfect. The images are gone through five times
over: of 1,000 small ones alone a tenth of the time would be the start of the processes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
import tyro

from benchmarks.compare import alternate, find_data, report
from public.datasets.checking import ClassifiedImages, FoundImage, read_images
from public.datasets.decoding import decode_opencv
from public.datasets.image_folder import list_images

REPEATS = 5
CLAIM = 1.7
"""Least multiple of one core's images/s."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 5
    """Counted rounds."""
    num_workers: int = 2
    """Worker processes of ours."""
    data: Path | None = None
    """Folder of class folders; None: the real data if it is there, else the generated sample."""


class Repeated(ClassifiedImages):
    """Each image several times."""

    def __len__(self) -> int:
        return REPEATS * super().__len__()

    def __getitem__(self, index: int) -> FoundImage:
        return super().__getitem__(index % super().__len__())


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    cv2.setNumThreads(1)
    folder, data = find_data("imagenet_like/val", "ILSVRC2012/train", options.data)
    images = Repeated(list_images(folder.parent, folder.name), decode_opencv)

    def turn(num_workers: int) -> Callable[[], float]:
        def speed() -> float:
            start = time.perf_counter()
            found = read_images("", images, num_workers)
            assert not any(one.problem for one in found)
            return len(images) / (time.perf_counter() - start)

        return speed

    name = f"{options.num_workers} processes"
    comparison = alternate({name: turn(options.num_workers), "one": turn(0)}, options.rounds, "images/s")
    report("check_images", comparison, CLAIM, torch.device("cpu"), f"{data}, {len(images)} images")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
