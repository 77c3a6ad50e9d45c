"""Where a command writes its results to: whatever is wrong with it is one sentence, said early."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def writing_to(folder: Path, option: str = "output") -> Iterator[None]:
    """Turns a failed write into a message for the user, which names the folder as that option.

    Raises:
        ValueError: something that is done inside raised an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a message of ours, about something that was to be read
            raise ValueError(str(error)) from error
        reason = f"{error.strerror}. Give another one, or make room or rights for it"
        raise ValueError(f"{option}={str(folder)!r} is not a folder that can be written to: {reason}.") from error


def make_folder(folder: Path, option: str = "output") -> None:
    """Makes the folder for the results, unless it is there, and sees whether anything can be written to it.

    Args:
        folder: which.
        option: what messages call it.

    Raises:
        ValueError: something else is there, it may not be made or written to, or the disk is full.
    """
    with writing_to(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:  # rights alone do not tell of a full disk
            file.write(b"\n")


def make_folder_of(file: Path, option: str, usual: str) -> None:
    """The same for a single file that is to be written: its folder is made.

    Args:
        file: which.
        option: of the command line, which gave it.
        usual: what such a file is called.

    Raises:
        ValueError: it is a folder, or see `make_folder`.
    """
    if file.is_dir():
        raise ValueError(f"--{option} {file} is a folder; expected a file to write, such as {file / usual}.")
    try:
        make_folder(file.parent, "folder")
    except ValueError as error:
        raise ValueError(f"--{option} {file} cannot be written: {error}") from error
