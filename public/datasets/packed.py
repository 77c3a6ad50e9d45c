"""Packed data sets: the images of a split in one file, in the order and with the labels of their folder.

A packed data set's folder holds train.lmdb and val.lmdb, written by `packing.py`. Each is an LMDB database: one file,
read through memory that all processes of a machine share. Its records:

    <class>/<file>   4 bytes of checksum, then the encoded image: the file's own bytes, or the shrunk image as JPEG
    \\0settings       4 bytes of checksum, then JSON: format, shrinking, when the conversion began
    \\0contents       4 bytes of checksum, then JSON: class names, files in order, labels; written last

The checksum is the CRC-32 of the key and what follows the checksum, big-endian: a damaged JPEG often decodes without an
error, and a record of another image always does.
"""

import copy
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import lmdb
import msgspec
import numpy as np

from public.config.names import first_line, unusable_names
from public.datasets.batches import DataError, labels_by_name
from public.datasets.decoding import UnreadableImage
from public.datasets.image_folder import Images, list_images
from public.datasets.packed_pages import check_pages

SUFFIX = ".lmdb"
FORMAT = 1  # raise it whenever older code could not read the file
SETTINGS, CONTENTS = b"\0settings", b"\0contents"  # no path holds a NUL
MAX_KEY_BYTES = 511  # LMDB's own limit

Record = TypeVar("Record")

_PACK = "python -m public.datasets.pack"


class Shrinking(NamedTuple):
    """What was done to the images that were larger."""

    shorter_side: int
    """Pixels."""
    quality: int
    """Of the JPEG, 1 to 100."""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """The record that a conversion writes last."""

    format: int
    shrinking: Shrinking | None
    class_names: list[str]
    files: list[str]
    """Class and name of each image, N of them."""
    labels: list[int]
    """[N]."""


def record_of(kind: type[Record], content: bytes) -> Record:
    """A record that was written as JSON; keys that this code does not know are passed over.

    Raises:
        ValueError: it is of another format, or no such record.
    """
    try:
        found = json.loads(content)  # msgspec's own reader refuses names that are no UTF-8, which files may have
    except RecursionError as error:
        raise ValueError("its JSON is nested without an end") from error
    written = found.get("format") if isinstance(found, dict) else None
    if type(written) is int and written != FORMAT:
        raise ValueError(f"it has the format {written}, and this code reads {FORMAT}")
    return msgspec.convert(found, kind)


def describe(shrinking: Shrinking | None) -> str:
    """As the command line says it."""
    return "without --shorter-side" if shrinking is None else "with --shorter-side {} --quality {}".format(*shrinking)


def _checksum(key: bytes, content: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(key)).to_bytes(4, "big")


def sealed(key: bytes, content: bytes) -> bytes:
    """A record of a content."""
    return _checksum(key, content) + content


def unsealed(key: bytes, record: bytes | None) -> bytes:
    """The content of a record.

    Raises:
        OSError: it is missing, or not what was written.
    """
    if record is None:
        raise OSError("the file holds no such record")
    content = record[4:]
    if _checksum(key, content) != record[:4]:
        raise OSError("the record's checksum is wrong: the file was damaged after it was written")
    return content


class PackedImages:
    """The images of one packed file, as `Images`. It may be given to worker processes, forked or spawned.

    Args:
        path: the file.

    Raises:
        DataError: it is missing, unfinished, cut short, damaged, or no packed data set.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path
        _close(path)  # where another file lay there before
        contents = _read_contents(path)
        self.class_names = contents.class_names
        self.files = np.array([os.fsencode(file) for file in contents.files])
        self.labels = np.array(contents.labels, dtype=np.int64)
        self.shrinking = contents.shrinking
        self.hidden: list[str] = []
        self.unread: list[str] = []

    def with_classes(self, class_names: list[str]) -> Self:
        """See `Images`."""
        changed = copy.copy(self)
        changed.labels = labels_by_name(self.labels, self.class_names, class_names, self.folder)
        changed.class_names = class_names
        return changed

    def read(self, index: int) -> bytes:
        """The encoded image."""
        key = bytes(self.files[index])
        try:
            with _environment(self.folder).begin() as transaction:
                return unsealed(key, transaction.get(key))
        except lmdb.Error as error:
            raise OSError(first_line(error)) from error

    def unreadable(self, index: int, reason: str) -> UnreadableImage:
        """Names the record and the file that it lies in."""
        name = f"{os.fsdecode(self.files[index])} in {self.folder}"
        return UnreadableImage(name, reason, remedy=f"Copy that file again, or pack it again ({_PACK})")


class Storage(NamedTuple):
    """A way in which the images of a split may lie in a data set's folder."""

    suffix: str
    """It is called there as the split is, with this at the end."""
    open: Callable[[Path, str], Images]
    """(the data set's folder, the split) -> its images. Raises DataError."""


STORAGES = (
    Storage("", list_images),
    Storage(SUFFIX, lambda root, split: PackedImages(root / f"{split}{SUFFIX}")),
)
"""The first is what is asked for where a split is not there at all."""


def find_images(root: Path, split: str) -> Images:
    """The images of a split, in whichever storage `root` holds it.

    Raises:
        DataError: it is there in none or in several, or what is there cannot be used.
    """
    there = [storage for storage in STORAGES if (root / f"{split}{storage.suffix}").exists()]
    if len(there) > 1:
        names = " and ".join(f"{split}{storage.suffix or '/'}" for storage in there)
        raise DataError(
            f"{root} holds both {names}, which may differ: move one of them elsewhere, or name another folder."
        )
    partial = partial_path(root / f"{split}{SUFFIX}")
    if not (root / split).exists() and partial.exists():
        raise DataError(f"{partial} is an unfinished conversion; the same command ({_PACK}) finishes it.")
    others = sorted(path.name for path in root.glob(f"*{SUFFIX}"))
    if not there and others:
        path = root / f"{split}{SUFFIX}"
        raise DataError(
            f"{path} is missing, and packed images ({others[0]}) are not divided: pack the images of {split} as well "
            f"({_PACK} FOLDER {path}), or name the folder that was packed, whose images can be divided."
        )
    return (there or STORAGES)[0].open(root, split)


def partial_path(path: Path) -> Path:
    """Where a packed file is while it is written."""
    return path.with_name(f"{path.name}.partial")


def open_to_read(path: Path) -> lmdb.Environment:
    """A packed file whose pages are sound, see `check_pages`; a million images take some seconds.

    Raises:
        OSError, lmdb.Error: they are not, or it is no LMDB file.
    """
    check_pages(path)
    return _open(path)


def _open(path: Path) -> lmdb.Environment:
    """Without a lock: finished files never change, and may lie where nothing can be written."""
    return lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)


def _read_contents(path: Path) -> Contents:
    """The record that a conversion writes last, as far as the file bears it out."""
    try:
        with open_to_read(path) as environment, environment.begin() as transaction:
            if path.stat().st_size < used_bytes(environment):  # reading on would end the process with a bus error
                raise OSError(f"it is cut short: {path.stat().st_size} of {used_bytes(environment)} bytes are left")
            contents = record_of(Contents, unsealed(CONTENTS, transaction.get(CONTENTS)))
            _check_contents(contents, environment.stat()["entries"] - len((SETTINGS, CONTENTS)))
    except (lmdb.Error, OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a packed data set ({first_line(error)}); pack it again: {_PACK}"
        ) from error
    return contents


def _check_contents(contents: Contents, num_images: int) -> None:
    """Raises ValueError where the record of contents contradicts itself, or the number of images that there are."""
    files, labels, num_classes = contents.files, contents.labels, len(contents.class_names)
    if not num_images == len(files) == len({*files}) > 0:
        raise ValueError(f"it holds {num_images} images, and lists {len({*files})}")
    if len(labels) != len(files):
        raise ValueError(f"it lists {len(labels)} labels of {len(files)} images")
    if not 0 <= min(labels) <= max(labels) < num_classes:
        raise ValueError(f"its labels are {min(labels)} to {max(labels)}, of {num_classes} classes, counted from 0")
    if problems := unusable_names(contents.class_names):
        raise ValueError(problems[0])


def used_bytes(environment: lmdb.Environment) -> int:
    """How long the file must be."""
    return (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]


_environments: dict[Path, lmdb.Environment] = {}
"""What this process reads. LMDB allows one opening for each file and process, whoever reads it there, and none that
lives through a fork."""


def _environment(path: Path) -> lmdb.Environment:
    """A packed file, opened when it is first read."""
    if path not in _environments:
        _environments[path] = _open(path)  # its pages were looked at before the first worker was there
    return _environments[path]


def _close(path: Path) -> None:
    if path in _environments:
        _environments.pop(path).close()


def _close_all() -> None:
    for path in list(_environments):
        _close(path)


if hasattr(os, "register_at_fork"):  # elsewhere nothing forks
    os.register_at_fork(before=_close_all)
