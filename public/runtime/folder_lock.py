"""One run at a time in a folder: a lock that the system gives back however the process that holds it ends."""

import contextlib
import errno
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

logger = logging.getLogger(__name__)

_CANNOT_LOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What file systems say that have no locks."""


class FolderLock:
    """Holds the file `lock` of a folder, which also says who holds it; other machines see it on a shared disk.

    Args:
        folder: it is there already.

    Raises:
        ValueError: another process holds it; the message says which.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        # Not emptied before it is held: the other one's name stands in it.
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._take(folder)
        except BaseException:
            self.release()
            raise
        self.former = _holder(self._descriptor)
        """Who held it before, as `this_process` said it; empty: nobody."""
        text = json.dumps(this_process()).encode()
        with contextlib.suppress(OSError):  # a full disk; the lock holds all the same
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text, 0)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.release)  # a data worker that outlives this process holds nothing

    def _take(self, folder: Path) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(self._descriptor)
            who = f"pid {holder.get('pid', 'unknown')} on {holder.get('host', 'another machine')}"
            raise ValueError(
                f"another run ({who}) uses the run folder {folder}: wait for it, stop it, or give this one another "
                "--name."
            ) from error
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                raise
            logger.warning(f"{folder} lies on a file system without locks: nothing keeps a second run out of it.")

    def release(self) -> None:
        """Lets others have it: where a child process does so, this one still holds it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder, seen from outside, without keeping a run that begins just now out of it.

    Where the file names a process of this machine that has ended, that tells. Else the lock is tried, shared and for an
    instant: the number may be that of a later process by now, or the process on another machine.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        holder = _holder(descriptor)
        if holder.get("host") == socket.gethostname() and not _is_alive(holder.get("pid")):
            return False
        return fcntl is not None and _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_alive(pid: Any) -> bool:
    """Whether this machine has such a process."""
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, TypeError, ValueError, OverflowError):
        return False
    return True


def _is_locked(descriptor: int) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _CANNOT_LOCK
    return False


def this_process() -> dict[str, Any]:
    """What tells this process, and the launcher that started it, from others."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "launcher": os.getppid()}


def _holder(descriptor: int) -> dict[str, Any]:
    """What the file says; nothing where it was just made."""
    try:
        value = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
