"""Packs folders of images into one file a split, which trains as the folder does, without a million small files.

    python -m public.datasets.pack data/ILSVRC2012 data/ILSVRC2012_packed --shorter-side 256
    python -m public.datasets.pack photos/train packed/train.lmdb
    python -m public.datasets.pack data/ILSVRC2012_packed --check

Then `--data.folder ILSVRC2012_packed` trains on it. Without --shorter-side the records are the files' own bytes, and
training ends with the same bits as from the folder; with it, images whose shorter side is longer are turned upright,
shrunk as torchvision's Resize does it and stored as JPEG, and random crops of them are cut from fewer pixels.

A conversion that was stopped, or killed, resumes with the same command: what was packed is kept, but for files that
changed or vanished since. Every image is decoded once: those that cannot be are named at the end.

Exit codes: 0, 1 where images could not be packed or records are damaged (each is named) or memory did not suffice, 2
where nothing could be done, as with a full disk, 130 after Ctrl-C.
"""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from public.config.command_line import fail
from public.config.names import first_line, printable
from public.datasets.batches import DataError
from public.datasets.decoding import UnreadableImage
from public.datasets.image_folder import ImageList, list_images, passed_over_in_words
from public.datasets.packed import SUFFIX, PackedImages, Shrinking
from public.datasets.packing import pack_split
from public.runtime.accidents import Remedies, end_by
from public.runtime.device import num_cores

DEFAULT_QUALITY = 90
_USAGE = "python -m public.datasets.pack"
_REMEDIES = Remedies(
    workers="fewer processes (--workers)",
    too_much="the images that are read at once",
    less="fewer processes (--workers) need less",
    end=" Nothing is lost but the images since the last write, from which the same command goes on.",
)


def check_packed(path: Path) -> list[UnreadableImage]:
    """Reads every record of a packed file against its checksum, and gives those that are damaged.

    Raises:
        DataError: the file cannot be read at all.
    """
    images, damaged = PackedImages(path), []
    for index in tqdm(range(len(images.files)), desc=path.name, unit="image", dynamic_ncols=True, disable=None):
        try:
            images.read(index)
        except OSError as error:
            damaged.append(images.unreadable(index, first_line(error)))
    return damaged


def _conversions(source: Path, destination: Path) -> list[tuple[ImageList, Path]]:
    """The splits of a source, and the packed file of each."""
    if destination.suffix == SUFFIX:
        folders = {source: destination}
    else:
        folders = {source / split: destination / f"{split}{SUFFIX}" for split in ("train", "val")}
        folders = {folder: target for folder, target in folders.items() if folder.is_dir()}
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; expected one that holds train/ and val/, or folders of images.")
    if not folders:
        raise DataError(
            f"{source} holds neither train/ nor val/. To pack one folder of class folders, name the packed file, which "
            f"ends in {SUFFIX}: {_USAGE} {source} {destination / source.name}{SUFFIX}"
        )
    for target in folders.values():
        if target.with_suffix("").exists():
            raise DataError(
                f"{target} would lie beside {target.with_suffix('')}, and training could not tell which to read: name "
                "another destination."
            )
    found = [(list_images(folder.parent, folder.name), target) for folder, target in folders.items()]
    for images, _ in found[1:]:
        images.with_classes(found[0][0].class_names)  # or it is refused
    return found


def _packed_files(path: Path) -> list[Path]:
    """A packed file, or those of a folder."""
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no packed file (*{SUFFIX}).")
    return files


def _check(path: Path) -> int:
    """Prints what is damaged in a packed file or a folder of them; gives the exit code."""
    exit_code = 0
    for file in _packed_files(path):
        damaged = check_packed(file)
        for image in damaged:
            print(printable(f"  error: {image.path}: {image.reason}"))
        print(f"{file}: {len(damaged)} damaged records" if damaged else f"{file}: every record is sound")
        exit_code |= bool(damaged)
    return exit_code


def _cli(
    source: Annotated[Path, tyro.conf.Positional],
    destination: Annotated[Path | None, tyro.conf.Positional] = None,
    shorter_side: int | None = None,
    quality: int | None = None,
    workers: int = num_cores(),
    check: bool = False,
) -> int:
    """Packs the images of a data set into one file a split.

    Args:
        source: folder with train/ and val/, or one of them; with --check a packed file or a folder of them.
        destination: folder that gets train.lmdb and val.lmdb; or, where source is one split, a file that ends in .lmdb.
        shorter_side: pixels; images whose shorter side is longer are shrunk. None keeps the files' own bytes.
        quality: of the JPEGs that shrunk images are stored as, 1 to 100; None means 90.
        workers: processes that read, decode and shrink; 0: the main process.
        check: read every record of a packed data set against its checksum.
    """
    source = source.expanduser().resolve()
    if check:
        if destination is not None:
            raise DataError(f"--check reads one packed file or folder, and got two paths: {source} and {destination}.")
        return _check(source)
    if destination is None:
        raise DataError(f"a destination is missing: {_USAGE} {source} <folder or file.lmdb>")
    shrinking = _shrinking(shorter_side, quality)
    unreadable: list[UnreadableImage] = []
    for images, target in _conversions(source, destination.expanduser().resolve()):
        for line in passed_over_in_words(images):
            print(printable(line))
        unreadable += pack_split(images, target, shrinking, workers)
    if unreadable:
        names = "\n".join(f"  {image.path} {image.problem}: {image.reason}" for image in unreadable)
        print(
            f"error: {len(unreadable)} images cannot be packed. Replace or remove them; the same command then packs "
            f"what is missing:\n{names}",
            file=sys.stderr,
        )
    return int(bool(unreadable))


def _shrinking(shorter_side: int | None, quality: int | None) -> Shrinking | None:
    """The command line's options, checked."""
    if shorter_side is None:
        if quality is not None:
            raise DataError(
                f"--quality {quality} has no effect without --shorter-side: other images are stored as they are."
            )
        return None
    if shorter_side < 1:
        raise DataError(f"--shorter-side {shorter_side} must be 1 or more.")
    quality = DEFAULT_QUALITY if quality is None else quality
    if not 1 <= quality <= 100:
        raise DataError(f"--quality {quality} must lie within 1 to 100.")
    return Shrinking(shorter_side, quality)


def main(args: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code, or ends the program where nothing could be done."""
    try:
        return tyro.cli(_cli, args=args, prog=_USAGE)
    except DataError as error:
        fail(str(error))
    except (RuntimeError, MemoryError) as error:
        end_by(error, _REMEDIES)
    except KeyboardInterrupt:
        print("stopped; the same command resumes from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
