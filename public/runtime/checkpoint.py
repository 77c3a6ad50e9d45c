"""Checkpoints that a crash cannot spoil: written beside the old file, flushed to disk, then renamed over it."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

from public.config.names import first_line

FORMAT = "public.checkpoint/1"

logger = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: dict[str, Any]) -> bool:
    """Writes a checkpoint so that `path` holds, at any moment, either the old or the new one, whole.

    Args:
        path: where the checkpoint shall be.
        state: tensors and plain python values, which a weights-only load accepts.

    Returns:
        False where it could not be written (full disk, no permission): the old file is intact, a warning is logged,
        and the run can go on.
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
        logger.warning(f"could not write {path}: {reason}. The one before it is kept, and the run goes on.")
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


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of ours onto the CPU, without running anything that the file may contain.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is not one of our checkpoints.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own kinds for a damaged file
        raise ValueError(f"{path} cannot be read as a checkpoint: {first_line(error)}.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this project (format {FORMAT!r}); it may be bare weights.")
    return state
