"""Predicting a folder of photos, as public.apps.predict does it without writing, against a plain torchvision loop.

    python -m benchmarks.predict_photos

From files to the five likeliest classes, float32, the same new weights. The plain loop decodes and resizes a batch with
PIL and torchvision's transforms, normalizes it and gives it to the network. Each has a process of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks import inference
from benchmarks.apart import Turn, device_here, sides, timed
from benchmarks.compare import alternate, report
from benchmarks.inference import Subject, module_of, opened
from public.apps.predict import predictions
from public.apps.predict_model import ClassificationPredictor, speed_up
from public.apps.predict_sources import file_frame
from public.backbones.trained import TrainedClassifier

Work = Callable[[list[Path]], object]
"""Files to classes."""
WARM_UP = 64
"""Photos."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    network: Literal["mobilenet_v2", "resnet50"] = "mobilenet_v2"
    """Which classifier."""
    photos: int = 1000
    """Files of a turn."""
    batch_size: int = 8
    """Pictures that go through torchvision's network together; on a CPU each goes through ours alone."""
    rounds: int = 15
    """Counted rounds."""


def subject(options: Options, *, ours: bool = False) -> Subject:
    """The network of both."""
    return Subject(options.network, inference.Options(networks=(options.network,)), device_here(ours=ours))


def ours(own: Subject, options: Options) -> Work:
    """Ours."""
    device = own.device
    network = own.ours(channels_last=device.type == "cpu", precision="fp32").network
    assert isinstance(network, TrainedClassifier)
    speed_up(module_of(network), module_of(network), device, torch.float32)
    predictor = ClassificationPredictor(network, top_k=5, batch_size=options.batch_size)
    return lambda files: list(predictions(predictor, map(file_frame, files)))


def theirs(own: Subject, options: Options) -> Work:
    """torchvision's."""
    plain = own.plain()

    @torch.inference_mode()
    def work(files: list[Path]) -> None:
        for begin in range(0, len(files), options.batch_size):
            plain(opened(files[begin : begin + options.batch_size]))

    return work


def turn(options: Options, side: str) -> Turn:
    """A turn of one side, photos a second; behind a few photos that are not counted."""
    own = subject(options, ours=side == "ours")
    work = {"ours": ours, "torchvision": theirs}[side](own, options)
    files = own.photos[: options.photos]
    work(files[:WARM_UP])
    return timed(lambda: work(files), len(files), own.device)


def main(options: Options) -> None:
    """Both take turns."""
    own = subject(options)
    num_photos = len(own.photos[: options.photos])
    with sides(turn, options) as ways:
        comparison = alternate(ways, options.rounds, "photos/s", is_warm=True)
    data = f"{num_photos} photos of {own.data}, batch {options.batch_size}"
    report(f"predict_photos_{options.network}", comparison, 2.0, own.device, data)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
