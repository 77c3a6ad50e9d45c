"""Published archives: fetched, verified, and unpacked into the layout that a format's reader expects.

Only the archives of the splits that are asked for and missing are fetched. Archives stay where they were fetched to, so
that nothing is fetched twice; they may be removed. Each is unpacked beside its final place and then moved there, what
makes a split count as present last: a stopped run leaves no split that looks whole and is not.
"""

import shutil
import tarfile
import zipfile
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from torchvision.datasets.utils import download_url

from public.config.names import first_line
from public.datasets.batches import DataError


class Archive(NamedTuple):
    """A published file."""

    path: str
    """Below the data set's address."""
    md5: str
    moves: tuple[tuple[str, str], ...]
    """Its folders and files, and what they become below the data set's folder, in the order in which they go there.
    A folder that is there already takes in what it lacks."""


def provide(part: str, archives: dict[str, Archive], folder: Path, url: str) -> None:
    """Fetches, verifies and unpacks the archive that holds a part of a split, unless the part is there."""
    if (folder / part).exists():
        return
    if part not in archives:
        raise DataError(
            f"{folder / part} is missing, and no published archive holds it; what can be fetched: {', '.join(archives)}"
        )
    archive = archives[part]
    address, path = f"{url}/{archive.path}", folder / archive.path.rpartition("/")[2]
    try:
        download_url(address, folder, md5=archive.md5)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"{address} could not be fetched to {path} with the md5 {archive.md5} ({first_line(error)}); try again "
            "where there is a network and room on the disk, or put the file there by other means."
        ) from error
    try:
        _unpack(archive, path, folder)
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(
            f"{path} could not be unpacked in {folder} ({first_line(error)}); make room on the disk and try again: "
            "what was fetched is not fetched again."
        ) from error


def _unpack(archive: Archive, path: Path, folder: Path) -> None:
    """Unpacks beside the final places, then moves everything there."""
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
    try:
        unpack(path, partial)
        for inside, target in archive.moves:
            _move(partial / inside, folder / target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # after an error it gives a full disk its space back


def unpack(path: Path, folder: Path) -> None:
    """Unpacks a tar or zip file. What would land outside the folder, links that lead out of it, and devices are refused
    in a tar file (filter="data") and passed over in a zip file.

    Raises:
        OSError, EOFError, tarfile.TarError, zipfile.BadZipFile: it cannot be done.
    """
    options: dict[str, Any] = {"filter": "data"} if tarfile.is_tarfile(path) else {}
    shutil.unpack_archive(path, folder, **options)


def _move(source: Path, target: Path) -> None:
    """Moves a file, or a folder; of a folder that is there already the missing files are filled in."""
    if source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _move(entry, target / entry.name)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
