"""A way that is measured in a process of its own, as people run it.

How fast PyTorch is on a CPU depends on what the heap of its process has been through: glibc gives memory back to the
system, or keeps it, by what was allocated and freed before, and pages that come back cost time. Behind other code
torchvision's loop over photos was up to twice as fast as alone.
"""

import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

Turn = Callable[[], float]


class Apart(AbstractContextManager["Apart", None]):
    """Each call is a turn, taken by the process; the others wait meanwhile.

    Args:
        make: what makes the way there; of a module, so that it can be sent.
        arguments: its arguments.
    """

    def __init__(self, make: Callable[..., Turn], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_take_turns, args=(other, make, arguments), daemon=True)
        self.process.start()
        other.close()

    def __call__(self) -> float:
        """What the turn gives; EOFError where the process has ended, which says itself why."""
        self.connection.send(None)
        return self.connection.recv()

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join()


def _take_turns(connection: Connection, make: Callable[..., Turn], arguments: tuple[Any, ...]) -> None:
    turn = make(*arguments)
    try:
        while True:
            connection.recv()
            connection.send(turn())
    except EOFError:  # the other side is done
        return
