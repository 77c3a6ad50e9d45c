"""A way that is measured in a process of its own, as people run it.

How fast PyTorch is on a CPU depends on what the heap of its process has been through: glibc gives memory back to the
system, or keeps it, by what was allocated and freed before, and pages that come back cost time. Behind other code
torchvision's loop over photos was up to twice as fast as alone.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, Generic, Self, TypeVar

import torch

from benchmarks.compare import benchmark_device
from public.runtime.device import choose_device, synchronize

SIDES = ("ours", "torchvision")
Turn = Callable[[], float]
Given = TypeVar("Given")
Key = TypeVar("Key")


class Apart(AbstractContextManager["Apart[Given]", None], Generic[Given]):
    """Each call is a turn, taken by the process; the others wait meanwhile, from the time on when it is ready.

    Several start at once, and make their ways one after the other, as they are entered.

    Args:
        make: what makes the way there; of a module, so that it can be sent.
        arguments: its arguments.

    Raises:
        EOFError: upon entering and from a call: the process has ended, which says itself why.
    """

    def __init__(self, make: Callable[..., Callable[[], Given]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_take_turns, args=(other, make, arguments), daemon=True)
        self.process.start()
        other.close()

    def __enter__(self) -> Self:
        """Waits until it is ready."""
        self.connection.send(None)
        self.connection.recv()
        return self

    def __call__(self) -> Given:
        """What the turn gives."""
        self.connection.send(None)
        return self.connection.recv()

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join()


@contextmanager
def sides(
    make: Callable[..., Turn], *arguments: Any, names: tuple[str, str] = SIDES
) -> Iterator[dict[str, Apart[float]]]:
    """Ours and a peer by their names, each apart; `make` is given the arguments and then the name."""
    with entered({name: Apart(make, *arguments, name) for name in names}) as ways:
        yield ways


@contextmanager
def entered(ways: dict[Key, Apart[Given]]) -> Iterator[dict[Key, Apart[Given]]]:
    """All of them ready; in the end none is left."""
    with ExitStack() as stack:
        yield {key: stack.enter_context(way) for key, way in ways.items()}


def device_here(*, ours: bool) -> torch.device:
    """What this process measures on; ours takes it as a run does, which keeps freed memory."""
    device = benchmark_device()
    return choose_device(device.type) if ours else device


def timed(work: Callable[[], object], num_images: int, device: torch.device, steps: int = 1) -> Turn:
    """A turn that does the work some times, `num_images` each, and gives the images a second."""

    def turn() -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(steps):
            work()
        synchronize(device)
        return steps * num_images / (time.perf_counter() - start)

    return turn


def _take_turns(connection: Connection, make: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> None:
    if not _is_asked(connection):
        return
    turn = make(*arguments)
    connection.send(None)
    while _is_asked(connection):
        connection.send(turn())


def _is_asked(connection: Connection) -> bool:
    """Waits until it is, or the other side is done."""
    try:
        connection.recv()
    except EOFError:
        return False
    return True
