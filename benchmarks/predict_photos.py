"""Predicting a folder of photos, as public.apps.predict does it without writing, against a plain torchvision loop.

    python -m benchmarks.predict_photos

From files to the five likeliest classes, float32, the same new weights. The plain loop decodes and resizes a batch with
PIL and torchvision's transforms, normalizes it and gives it to the network. Each is a process of its own: how fast
torchvision's loop is depends on what the heap of its process has been through, by more than a third, and nobody runs it
behind ours.
"""

import multiprocessing
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

import torch
import tyro

from benchmarks import inference
from benchmarks.compare import alternate, benchmark_device, report
from benchmarks.inference import Subject, module_of, opened, timed
from public.apps.predict import predictions
from public.apps.predict_model import ClassificationPredictor, speed_up
from public.apps.predict_sources import file_frame
from public.backbones.trained import TrainedClassifier


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    network: Literal["mobilenet_v2", "resnet50"] = "mobilenet_v2"
    """Which classifier."""
    photos: int = 1000
    """Files of a turn."""
    batch_size: int = 8
    """Pictures that go through torchvision's network together; on a CPU ours take them one by one."""
    rounds: int = 15
    """Counted rounds."""


def subject(options: Options) -> Subject:
    """The network of both."""
    return Subject(options.network, inference.Options(networks=(options.network,)), benchmark_device())


def ours(options: Options) -> Callable[[], float]:
    """A turn of ours, photos a second."""
    own = subject(options)
    files, device = own.photos[: options.photos], own.device
    network = own.ours(channels_last=device.type == "cpu", precision="fp32").network
    assert isinstance(network, TrainedClassifier)
    speed_up(module_of(network), module_of(network), device, torch.float32)
    predictor = ClassificationPredictor(network, top_k=5, batch_size=options.batch_size)
    return timed(lambda: list(predictions(predictor, map(file_frame, files))), len(files))


def theirs(options: Options) -> Callable[[], float]:
    """A turn of torchvision's, photos a second."""
    own = subject(options)
    files, plain = own.photos[: options.photos], own.plain()

    def work() -> None:
        for begin in range(0, len(files), options.batch_size):
            plain(opened(files[begin : begin + options.batch_size]))

    return timed(work, len(files))


class Apart:
    """A way in a process of its own; each call is a turn.

    Args:
        make: what makes the way there.
        options: its argument.
    """

    def __init__(self, make: Callable[[Options], Callable[[], float]], options: Options) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_take_turns, args=(other, make, options), daemon=True)
        self.process.start()
        other.close()

    def __call__(self) -> float:
        """Photos a second; EOFError where the process has ended."""
        self.connection.send(None)
        return self.connection.recv()

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join()


def _take_turns(connection: Connection, make: Callable[[Options], Callable[[], float]], options: Options) -> None:
    way = make(options)
    try:
        while True:
            connection.recv()
            connection.send(way())
    except EOFError:  # the other side is done
        return


def main(options: Options) -> None:
    """Both take turns."""
    own = subject(options)
    num_photos = len(own.photos[: options.photos])
    with ExitStack() as stack:
        ways = {"ours": Apart(ours, options), "torchvision": Apart(theirs, options)}
        for way in ways.values():
            stack.callback(way.close)
        comparison = alternate(ways, options.rounds, "photos/s")
    data = f"{num_photos} photos of {own.data}, batch {options.batch_size}"
    report(f"predict_photos_{options.network}", comparison, 2.0, own.device, data)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
