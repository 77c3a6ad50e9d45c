"""Where data sets lie: below DATA_ROOT, in the layouts that the predecessors used."""

import os
from pathlib import Path

SAMPLE_RECORD = "sample.json"
"""What `public.datasets.sample` leaves beside the data sets that it has generated."""

REPOSITORY = Path(__file__).resolve().parents[2]


def data_root() -> Path:
    """The folder DATA_ROOT, default data/ in the repository; a relative one is also looked for in the repository."""
    root = Path(os.environ.get("DATA_ROOT") or "data").expanduser()
    return root if root.is_absolute() or (root.is_dir() and "DATA_ROOT" in os.environ) else REPOSITORY / root


def dataset_folder(folder: str) -> Path:
    """A config's `data.folder`: as it is where it is absolute, else below DATA_ROOT."""
    path = Path(folder).expanduser()
    return path if path.is_absolute() else data_root() / path


def is_generated_sample(folder: Path) -> bool:
    """Whether a data set's folder was written by `public.datasets.sample`."""
    return (folder.parent / SAMPLE_RECORD).is_file()


def where_to_get(path: Path) -> str:
    """The end of a message about a data set that is missing at a path: how to point at it, what to try without it."""
    if not path.absolute().is_relative_to(data_root().absolute()):
        return (
            "Put it there, or say where it is (--data.folder); python -m public.datasets.sample --root data/sample "
            "generates data sets to try."
        )
    return (
        f"Data sets are looked for below DATA_ROOT (now {data_root()}). Put it there, set DATA_ROOT, or try the "
        f"generated one: python -m public.datasets.sample --root data/sample, then DATA_ROOT=data/sample."
    )
