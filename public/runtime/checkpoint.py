"""Checkpoints that a crash cannot spoil: written beside the old file, flushed to disk, then renamed over it."""

import argparse
import contextlib
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import torch

from public.config.checks import require_file
from public.config.names import first_line, unusable_names

FORMAT = "public.checkpoint/1"

_ZIP_START = b"PK\x03\x04"
_OLD_START = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
"""How torch.save's files begin: zip files, since torch 1.6, and those before."""

_SCALAR = np.float64(0).__reduce__()[0]
"""The function by which numpy unpickles a number: bytes in, number out."""
_NUMBERS = "?bBhHiIlLqQefd"
"""numpy's letters for bool, integers and floats."""
HARMLESS = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(letter)) for letter in _NUMBERS},
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 called it
]
"""What training scripts of others leave in their checkpoints beside tensors and plain values: their arguments, and
metrics that numpy computed. Each only holds values; nothing else is allowed beyond what torch allows itself."""

logger = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: dict[str, Any]) -> bool:
    """Writes a checkpoint so that `path` holds, at any moment, either the old or the new one, whole.

    Args:
        path: where the checkpoint shall be.
        state: tensors and plain python values, which a weights-only load accepts.

    Returns:
        False where it could not be written (full disk, no permission): the old file is intact, a warning is logged,
        and the run can continue.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT} | state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # torch's own message speaks of positions in the zip file; what the system said stands behind it.
        reason = first_line(error.__context__ if isinstance(error.__context__, OSError) else error)
        kept = "The one before it is kept, and the run" if path.exists() else "The run"
        logger.warning(f"could not write {path}: {reason}. {kept} continues.")
        return False
    return True


def _flush_folder(folder: Path) -> None:
    """Makes the rename itself durable (POSIX systems; others cannot open a folder)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def load_checkpoint(path: Path, *, remedy: str = "") -> dict[str, Any]:
    """Reads a checkpoint of ours onto the CPU, without running anything that the file may contain.

    Args:
        path: of the file.
        remedy: a sentence, what may be done about a damaged one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is not one of our checkpoints.
    """
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"{path} is a link to {os.readlink(path)}, which is not there: put it back, or remove the link."
        )
    require_file(path, f"no checkpoint at {path}.")
    try:
        state = read_torch_file(path)
    except ValueError as error:
        text = f"{path} cannot be read as a checkpoint: {error}. {remedy}".rstrip()
        if path.suffix == ".safetensors":  # no damage: this format holds nothing beside tensors
            text = f"{path} holds weights alone, as .safetensors files do, which do not say what network they are of."
        raise ValueError(text) from error
    written = state.get("format") if isinstance(state, dict) else None
    if isinstance(written, str) and written != FORMAT and re.fullmatch(r"public\.checkpoint/\d+", written):
        raise ValueError(f"{path} has the format {written!r} of a newer version; this one reads {FORMAT!r}: update it.")
    if not isinstance(state, dict) or written != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this project (format {FORMAT!r}); it may be bare weights.")
    return state


class Entries(msgspec.Struct, kw_only=True):
    """What a checkpoint of ours says of its run, as far as others than the run itself read it."""

    class_names: list[str] = []
    category_ids: list[int] | None = None
    num_images: int = 0
    task: str | None = None
    score_threshold: float | None = None
    class_thresholds: dict[str, float] = {}


def check_entries(path: Path | str, state: dict[str, Any], names: Sequence[str]) -> None:
    """Refuses a checkpoint without the entries that its reader needs, or with such as no run of ours writes.

    Raises:
        ValueError: naming those that are not there, or saying what one is.
    """
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"{path} is not a whole checkpoint of a run: it has no {', '.join(missing)}.")
    try:
        found = msgspec.convert(state, Entries)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is whole, but no run of ours wrote it: {error}.") from error
    ids, num_classes = found.category_ids, len(found.class_names)
    problems = unusable_names(found.class_names)
    if ids is not None and len({*ids}) != num_classes:
        problems.append(f"its category_ids are not {num_classes} different numbers, one for each class")
    if problems:
        raise ValueError(f"{path} is whole, but no run of ours wrote it: {problems[0]}.")


def read_torch_file(path: Path) -> Any:
    """What torch.save wrote, onto the CPU, without running anything that the file may contain.

    torch writes a checksum of every tensor and never looks at it. Here they are compared, which takes about half as
    long as loading; files from before torch 1.6 have none.

    Raises:
        ValueError: the file cannot be read. The message is the end of a sentence, "it is empty".
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(_OLD_START))
            if start.startswith(_ZIP_START) and not _is_whole(file):
                raise ValueError("it is cut off or damaged")
            file.seek(0)
            return _load(file, start)
    except OSError as error:
        raise ValueError(error.strerror) from error


def _is_whole(file: IO[bytes]) -> bool:
    """Whether the contents of a zip file have the checksums that it states."""
    try:
        archive = zipfile.ZipFile(file)
        has_checksums = any(record.CRC for record in archive.infolist())  # torch can be told to write zeros instead
        return not has_checksums or archive.testzip() is None
    except Exception:  # where the zip file describes itself, damaged bytes fail anywhere
        return False


def _load(file: IO[bytes], start: bytes) -> Any:
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes fail anywhere: KeyError, EOFError, OSError, RuntimeError...
        raise ValueError(_why_unreadable(start, error)) from error


def _why_unreadable(start: bytes, error: Exception) -> str:
    """From a file's first bytes, and what torch.load raised for it."""
    blocked = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if blocked:
        return (
            f"it pickles {blocked[1]}, which could run code when loaded (if you trust the file, load it with "
            "torch.load(..., weights_only=False) and save its state dict alone)"
        )
    if start.startswith(_ZIP_START):  # and its checksums are right
        return "it is a zip file that torch.load(..., weights_only=True) does not know how to read"
    if start.startswith(_OLD_START):
        return "it is cut off or damaged"
    return "torch.save did not write it, or its beginning is damaged" if start else "it is empty"
