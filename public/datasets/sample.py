"""Generated data sets in the layouts of the real ones, to try any experiment without a download.

    python -m public.datasets.sample --root data/sample
    DATA_ROOT=data/sample python train.py --epochs 1

``public.datasets.sample_scenes`` draws the pictures, ``public.datasets.sample_layouts`` writes them as
ILSVRC2012, CIFAR100, COCO2017 and VOCdataset; here are the settings and the care for what is on the disk.

Nothing half written can pass for complete: the data sets are made in ``<root>/sample.partial`` and moved into
place whole, and ``<root>/sample.json``, which records the settings, comes last. A root without that record is
never written to unless it is empty or an interrupted run of this script left it.

Exit codes: 0, 1 where the disk is full or fails, 2 for a wrong request, such as a root that cannot be written to.
"""

import dataclasses
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from public.config.command_line import fail
from public.datasets.locations import SAMPLE_RECORD
from public.datasets.sample_layouts import write_cifar100, write_coco, write_imagenet, write_voc

DATA_SETS: tuple[str, ...] = ("ILSVRC2012", "CIFAR100", "COCO2017", "VOCdataset")
"""Folders under the root."""

_MADE_BY = "public.datasets.sample"
_VERSION = 2  # raise it whenever the files of equal settings change
_PARTIAL = "sample.partial"


@dataclass(frozen=True, kw_only=True)
class SampleSizes:
    """How many images to generate."""

    imagenet_train_per_class: int = 200
    """ILSVRC2012 training images for each of the 10 classes."""
    imagenet_val_per_class: int = 50
    """ILSVRC2012 validation images for each of the 10 classes."""
    cifar100_train: int = 2000
    """CIFAR100 training images over all 100 classes."""
    cifar100_test: int = 500
    """CIFAR100 test images over all 100 classes."""
    coco_train: int = 960
    """COCO2017 training images."""
    coco_val: int = 80
    """COCO2017 validation images."""
    voc_per_year: int = 160
    """Images for each of VOC2007 (half of them test, 1/8 val) and VOC2012 (no test, 1/4 val)."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")


DEFAULT_SIZES = SampleSizes()


def generate_sample(root: Path, *, seed: int = 0, sizes: SampleSizes = DEFAULT_SIZES, overwrite: bool = False) -> None:
    """Write the four data sets under ``root``, or say that they are there already.

    Args:
        root: folder to write to; made if missing.
        seed: not negative. Another seed gives other pictures.
        sizes: numbers of images.
        overwrite: replace an earlier sample. Folders that hold anything else are never replaced.

    Raises:
        FileExistsError: ``root`` holds something else, or a sample with other settings and not ``overwrite``.
        OSError: the disk is full or not writable. What was written so far is removed.
    """
    if seed < 0:
        raise ValueError(f"--seed must not be negative, got {seed}")
    record = {"made_by": _MADE_BY, "version": _VERSION, "seed": seed, **dataclasses.asdict(sizes)}
    if _is_complete(root, record, overwrite):
        print(f"{root} already holds this sample: nothing to do")
        return
    partial = root / _PARTIAL
    if partial.exists():  # left by an interrupted run
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        _write_data_sets(partial, seed, sizes)
        (partial / SAMPLE_RECORD).write_text(json.dumps(record, indent=2) + "\n")
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)  # gives a full disk its space back
        raise
    _move_into_place(partial, root)


def _is_complete(root: Path, record: dict[str, Any], overwrite: bool) -> bool:
    """Whether ``root`` holds exactly this sample; FileExistsError if what it holds must not be replaced."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise FileExistsError(f"{root} is not a folder: pass another --root")
    found = _read_record(root / SAMPLE_RECORD)
    if found is None:
        if any(root.iterdir()) and not (root / _PARTIAL).is_dir():
            raise FileExistsError(f"{root} holds something else than a generated sample: pass another --root")
        return False
    if overwrite:
        return False
    differing = [name for name in record if record[name] != found.get(name)]
    if differing:
        changes = ", ".join(f"{name} {found.get(name)} instead of {record[name]}" for name in differing)
        raise FileExistsError(f"{root} holds a sample with {changes}: pass --overwrite or another --root")
    return all((root / name).is_dir() for name in DATA_SETS)


def _read_record(path: Path) -> dict[str, Any] | None:
    """The settings of a complete sample; None if there is no such file or something else wrote it."""
    try:
        record = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    is_ours = isinstance(record, dict) and record.get("made_by") == _MADE_BY
    return record if is_ours else None


def _write_data_sets(folder: Path, seed: int, sizes: SampleSizes) -> None:
    """Write all data sets, one line about each."""
    num_train, num_val = sizes.imagenet_train_per_class, sizes.imagenet_val_per_class
    writers = {
        "ILSVRC2012": lambda path: write_imagenet(path, seed, num_train, num_val),
        "CIFAR100": lambda path: write_cifar100(path, seed, sizes.cifar100_train, sizes.cifar100_test),
        "COCO2017": lambda path: write_coco(path, seed, sizes.coco_train, sizes.coco_val),
        "VOCdataset": lambda path: write_voc(path, seed, sizes.voc_per_year),
    }
    assert tuple(writers) == DATA_SETS
    for name, write in writers.items():
        start = time.perf_counter()
        num_images = write(folder / name)
        print(f"{name}: {num_images} images in {time.perf_counter() - start:.1f} s", flush=True)


def _move_into_place(partial: Path, root: Path) -> None:
    """Replace an older sample. A run killed before the end leaves ``partial`` to tell the next one."""
    (root / SAMPLE_RECORD).unlink(missing_ok=True)
    for name in DATA_SETS:
        if (root / name).exists():
            shutil.rmtree(root / name)
        (partial / name).rename(root / name)
    (partial / SAMPLE_RECORD).rename(root / SAMPLE_RECORD)
    partial.rmdir()


@dataclass(frozen=True, kw_only=True)
class _Options:
    root: Path = Path("data/sample")
    """Folder to write to; made if missing."""
    seed: int = 0
    """Another seed gives other pictures."""
    overwrite: bool = False
    """Replace a sample made with other settings. Folders that hold anything else are never replaced."""
    sizes: tyro.conf.OmitArgPrefixes[SampleSizes] = DEFAULT_SIZES


def main(args: list[str] | None = None) -> int:
    """Run the command line and return the exit code; a wrong request ends the program."""
    name = f"python -m {_MADE_BY}"
    options = tyro.cli(_Options, args=args, prog=name, description="Write generated data sets.")
    try:
        generate_sample(options.root, seed=options.seed, sizes=options.sizes, overwrite=options.overwrite)
    except (FileExistsError, ValueError) as error:
        fail(str(error))
    except (NotADirectoryError, PermissionError) as error:
        fail(f"--root {options.root} cannot be written to: {error}")
    except OSError as error:
        print(f"error: cannot write the sample: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
