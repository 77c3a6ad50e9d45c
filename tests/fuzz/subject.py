"""What is damaged and read again, some hundred times."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Subject(NamedTuple):
    """A file and its reader."""

    path: Path
    mutated: Callable[[bytes, int], bytes]
    """(the whole file's content, a number) -> a damaged one."""
    read: Callable[[], object]
    refusal: type[Exception]
    """What the reader may raise."""


def outcomes(subject: Subject, numbers: Iterable[int]) -> Iterator[str]:
    """For each number whether the mutation was "read" or "refused".

    Raises:
        AssertionError: neither, or refused in more than a line.
    """
    content = subject.path.read_bytes()
    for number in numbers:
        subject.path.write_bytes(subject.mutated(content, number))
        message = None
        try:
            subject.read()
        except subject.refusal as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{number}: {type(error).__name__}: {error}") from error
        assert message is None or "\n" not in message, f"{number}: {message}"
        yield "read" if message is None else "refused"


def call_all(refusal: type[Exception], readers: Iterable[Callable[[], object]]) -> None:
    """Raises the first refusal once all have been called."""
    refusals: list[Exception] = []
    for reader in readers:
        try:
            reader()
        except refusal as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
