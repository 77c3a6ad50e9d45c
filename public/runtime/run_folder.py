"""The folder of one run: config.json, environment.json, train.log, metrics.jsonl, TensorBoard events, checkpoints."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from public.config.names import printable
from public.runtime.folder_lock import FolderLock, this_process

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)


class RunFolder:
    """Paths and writers of one run. Only the main process writes; the others hold the paths.

    A full disk never stops a run: what cannot be written is warned about once and skipped.
    """

    def __init__(self, path: Path, is_main: bool) -> None:
        self.path = path
        self.is_main = is_main
        self.latest = path / "checkpoints" / "latest.pth"
        self.best = path / "checkpoints" / "best.pth"
        self.tensorboard: SummaryWriter | None = None
        self._lock: FolderLock | None = None

    def will_resume(self, fresh: bool) -> bool:
        """Whether a run that starts here resumes from a checkpoint, as far as this process sees."""
        return not fresh and os.path.lexists(self.latest)

    def open(self, fresh: bool, restarted: bool = False) -> None:
        """Makes the folder, after moving an old one aside if asked to start afresh, and begins train.log.

        A folder with best.pth and without latest.pth is moved aside, too: the new run would write over it.

        Args:
            fresh: start over.
            restarted: a launcher began again after a failure, see `DistributedContext`: what this very launch has
                done is not moved aside.

        Raises:
            ValueError: the folder cannot be made or written to, or another run uses it.
        """
        if not self.is_main:
            return
        try:
            kept = self._take(fresh, restarted)
            for leftover in (*self.path.glob("*.tmp"), *self.latest.parent.glob("*.tmp")):  # of a killed process
                leftover.unlink(missing_ok=True)
            handler = _FileHandler(self.path / "train.log", encoding="utf-8")
        except OSError as error:
            raise ValueError(f"the run folder {self.path} cannot be written to: {error}.") from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        package_logger = logging.getLogger("public")
        package_logger.setLevel(logging.INFO)
        for early in [h for h in package_logger.handlers if isinstance(h, MemoryHandler)]:
            package_logger.removeHandler(early)
            early.setTarget(handler)
            early.close()  # which hands over
        package_logger.addHandler(handler)
        if kept:
            why = "--fresh" if fresh else f"{self.path} had a best.pth and no latest.pth to resume from"
            logger.info(f"{why}: the old run is kept in {kept}")

    def _take(self, fresh: bool, restarted: bool) -> Path | None:
        """Makes and locks the folder; gives where an old one was moved to."""
        existed = self.path.exists()
        self.latest.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path)
        here, former = this_process(), self._lock.former
        is_own = restarted and all(former.get(key) == here[key] for key in ("launcher", "host"))
        if not existed or is_own or not (fresh or self._has_best_alone()):
            return None
        kept = self._move_aside()
        self.latest.parent.mkdir(parents=True, exist_ok=True)
        self._lock.release()
        self._lock = FolderLock(self.path)
        return kept

    def _has_best_alone(self) -> bool:
        """Whether there is a network to lose, and nothing to resume from: latest.pth was removed to save disk."""
        return os.path.lexists(self.best) and not os.path.lexists(self.latest)

    def _move_aside(self) -> Path:
        aside = self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        while aside.exists():  # a second --fresh within the second
            aside = aside.with_name(f"{aside.name}-again")
        os.rename(self.path, aside)
        return aside

    def write_json(self, name: str, value: Any) -> None:
        """Writes one JSON file of the folder."""
        if self.is_main:
            with going_on_when_disk_is_full(name):
                replace_text(self.path / name, json.dumps(value, indent=2) + "\n")

    def write_history(self, rows: list[dict[str, Any]], global_step: int) -> None:
        """Begins metrics.jsonl and the TensorBoard events from the rows that the checkpoint knows.

        What an interrupted run wrote after its last checkpoint is dropped: those epochs are run again.
        """
        if not self.is_main:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only a run needs it

        self.write_rows(rows)
        with going_on_when_disk_is_full("TensorBoard events"):
            self.tensorboard = SummaryWriter(str(self.path), purge_step=global_step + 1)

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        """Writes metrics.jsonl, a row for each epoch."""
        if self.is_main:
            with going_on_when_disk_is_full("metrics.jsonl"):
                replace_text(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def write_scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Sends numbers to TensorBoard, named group/name."""
        if self.tensorboard is not None:
            with going_on_when_disk_is_full("TensorBoard events"):
                for name, value in values.items():
                    self.tensorboard.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Flushes the writers, ends train.log and lets others have the folder."""
        if self.tensorboard is not None:
            with going_on_when_disk_is_full("TensorBoard events"):
                self.tensorboard.close()
        package_logger = logging.getLogger("public")
        for handler in [h for h in package_logger.handlers if isinstance(h, _FileHandler)]:
            package_logger.removeHandler(handler)
            with contextlib.suppress(OSError):
                handler.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class _FileHandler(logging.FileHandler):
    """A log file that a full disk silences; the console keeps telling."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drops the line."""


def replace_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    replace_bytes(path, printable(text).encode())


def replace_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_unwritten: list[str] = []
"""Whatever could not be written since this process began, again each time."""


@contextlib.contextmanager
def going_on_when_disk_is_full(what: str) -> Iterator[None]:
    """Turns a failed write into one warning for each kind of file."""
    try:
        yield
    except OSError as error:
        if what not in _unwritten:
            logger.warning(f"could not write {what}: {error}. The run continues without it.")
        _unwritten.append(what)


@contextlib.contextmanager
def all_written(folder: Path) -> Iterator[None]:
    """For programs whose files are their result: what is only warned of below ends them.

    Raises:
        ValueError: not everything could be written.
    """
    before = len(_unwritten)
    yield
    if failed := _unwritten[before:]:
        raise ValueError(f"not everything could be written to {folder} (why: see above): {', '.join(failed)}.")


def write_or_warn(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all, and makes its folder; a full disk is a warning, see above."""
    with going_on_when_disk_is_full(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        (replace_text if isinstance(content, str) else replace_bytes)(path, content)  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def going_on_without_plot(what: str) -> Iterator[None]:
    """Turns whatever a plot ends in, a full disk or numbers that cannot be drawn, into a warning: it ends no run."""
    try:
        yield
    except Exception as error:
        _unwritten.extend([what] if isinstance(error, OSError) else [])
        logger.warning(f"could not draw {what} ({type(error).__name__}: {error}). The run continues without it.")


def log_to_console(is_main: bool) -> None:
    """Shows the package's messages on stderr: all of the main process's, warnings of the others."""
    package_logger = logging.getLogger("public")
    package_logger.setLevel(logging.INFO)
    package_logger.propagate = False
    if not any(getattr(handler, "is_console", False) for handler in package_logger.handlers):
        handler = _ConsoleHandler(sys.stderr)
        handler.setLevel(logging.INFO if is_main else logging.WARNING)
        package_logger.addHandler(handler)
        if is_main:  # for train.log, which a run opens once it knows that its data and network can be used
            package_logger.addHandler(MemoryHandler(sys.maxsize, flushLevel=logging.CRITICAL + 1))


class _ConsoleHandler(logging.StreamHandler):  # pyright: ignore[reportMissingTypeArgument]
    """Writes lines above a progress bar instead of through it."""

    is_console = True

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message."""
        tqdm.write(self.format(record), file=self.stream)
