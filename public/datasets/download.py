"""Fetches COCO 2017 and Pascal VOC, verifies them and unpacks them into the layouts that the readers expect.

    python -m public.datasets.download coco
    python -m public.datasets.download voc --folder /data/VOCdataset

    COCO2017/annotations/instances_{train,val}2017.json    COCO2017/images/{train,val}2017/
    VOCdataset/VOC2007/    VOCdataset/VOC2012/

Only the archives of the splits that are asked for and missing are fetched. Archives stay where they were fetched to, so
that nothing is fetched twice; they may be removed. Each is unpacked beside its final place and then moved there, what
makes a split count as present last: a stopped run leaves no split that looks whole and is not.
"""

import shutil
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro
from torchvision.datasets.utils import download_url, extract_archive

from public.config.names import first_line
from public.datasets.batches import DataError
from public.datasets.locations import dataset_folder

COCO_URL = "http://images.cocodataset.org"
VOC_URL = "https://thor.robots.ox.ac.uk/pascal/VOC"  # host.robots.ox.ac.uk, known from older code, leads there


class Archive(NamedTuple):
    """A published file."""

    path: str
    """Below the data set's address."""
    md5: str
    moves: tuple[tuple[str, str], ...]
    """Its folders and files, and what they become below the data set's folder, in the order in which they go there.
    A folder that is there already takes in what it lacks."""


def _voc(year: int, name: str, md5: str) -> Archive:
    """An archive that holds VOCdevkit/VOC<year>; the lists of images go last, for they make a split."""
    parts = ("JPEGImages", "Annotations", "ImageSets")
    moves = tuple((f"VOCdevkit/VOC{year}/{part}", f"VOC{year}/{part}") for part in parts)
    return Archive(f"voc{year}/{name}", md5, moves)


_COCO_ANNOTATIONS = Archive(
    "annotations/annotations_trainval2017.zip",
    "f4bbac642086de4f52a3fdda2de5fa2c",
    tuple((name, name) for name in ("annotations/instances_train2017.json", "annotations/instances_val2017.json")),
)
_VOC2007 = _voc(2007, "VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64")
_VOC2007_TEST = _voc(2007, "VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f")
_VOC2012 = _voc(2012, "VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd")

COCO_ARCHIVES: dict[str, Archive] = {
    "annotations/instances_train2017.json": _COCO_ANNOTATIONS,
    "annotations/instances_val2017.json": _COCO_ANNOTATIONS,
    "images/train2017": Archive(
        "zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", (("train2017", "images/train2017"),)
    ),
    "images/val2017": Archive("zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", (("val2017", "images/val2017"),)),
}
"""What brings each part of a split, by the path that shows that it is there. 0.25, 18 and 0.8 GB."""

VOC_ARCHIVES: dict[str, Archive] = {
    **{f"VOC2007/ImageSets/Main/{name}.txt": _VOC2007 for name in ("train", "val", "trainval")},
    "VOC2007/ImageSets/Main/test.txt": _VOC2007_TEST,
    **{f"VOC2012/ImageSets/Main/{name}.txt": _VOC2012 for name in ("train", "val", "trainval")},
}
"""The same for VOC: 0.46, 0.45 and 2 GB."""


def download_coco(folder: Path, splits: Sequence[str] = ("train2017", "val2017"), url: str = COCO_URL) -> None:
    """Makes sure that a folder holds splits of COCO 2017.

    Args:
        folder: takes annotations/ and images/, and the archives.
        splits: train2017, val2017; what the folder holds already may have any name.
        url: where zips/ and annotations/ are served.

    Raises:
        DataError: a split that nobody publishes; an archive could not be fetched, is not the published one, or could
            not be unpacked.
    """
    for split in splits:
        _provide(f"annotations/instances_{split}.json", COCO_ARCHIVES, folder, url)
        _provide(f"images/{split}", COCO_ARCHIVES, folder, url)


def download_voc(
    folder: Path, splits: Sequence[str] = ("VOC2007/trainval", "VOC2007/test", "VOC2012/trainval"), url: str = VOC_URL
) -> None:
    """Makes sure that a folder holds splits of Pascal VOC.

    Args:
        folder: takes VOC2007/ and VOC2012/, and the archives.
        splits: VOC2007/<train, val, trainval or test>, VOC2012/<train, val or trainval>; what the folder holds already
            may have any name.
        url: where voc2007/ and voc2012/ are served.

    Raises:
        DataError: as for `download_coco`.
    """
    for split in splits:
        year, _, name = split.rpartition("/")
        _provide(f"{year}/ImageSets/Main/{name}.txt", VOC_ARCHIVES, folder, url)


def _provide(part: str, archives: dict[str, Archive], folder: Path, url: str) -> None:
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
        extract_archive(path, partial)
        for inside, target in archive.moves:
            _move(partial / inside, folder / target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # after an error it gives a full disk its space back


def _move(source: Path, target: Path) -> None:
    """Moves a file, or a folder; of a folder that is there already the missing files are filled in."""
    if source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _move(entry, target / entry.name)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)


def _cli(
    data_set: Annotated[Literal["coco", "voc"], tyro.conf.Positional],
    folder: Path | None = None,
) -> None:
    """Fetches COCO 2017 (20 GB) or Pascal VOC 2007 and 2012 (3 GB).

    Args:
        data_set: which of the two.
        folder: where to; default COCO2017 or VOCdataset below DATA_ROOT.
    """
    download, default = {"coco": (download_coco, "COCO2017"), "voc": (download_voc, "VOCdataset")}[data_set]
    folder = folder or dataset_folder(default)
    download(folder)
    print(f"{folder} is complete; the archives in it may be removed.")


def main(args: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 1 where something could not be fetched."""
    try:
        tyro.cli(_cli, args=args, prog="python -m public.datasets.download")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
