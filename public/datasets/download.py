"""Fetches the published data set of a detection format, verifies it and unpacks it as its reader expects it.

    python -m public.datasets.download coco
    python -m public.datasets.download voc --folder /data/VOCdataset

    COCO2017/annotations/instances_{train,val}2017.json    COCO2017/images/{train,val}2017/
    VOCdataset/VOC2007/    VOCdataset/VOC2012/

See `archives.py` for what is fetched, kept and left behind. Exit codes: 0, 1 where something could not be fetched or
unpacked, as without a network or with a full disk, 2 for a wrong command line.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from public.config.command_line import fail
from public.datasets.batches import DataError
from public.datasets.formats import FORMATS
from public.datasets.locations import dataset_folder
from public.runtime.output import make_folder

_PUBLISHED = {name: row.published for name, row in FORMATS.items() if row.published is not None}


def _cli(
    data_set: Annotated[Literal[tuple(_PUBLISHED)], tyro.conf.Positional],  # pyright: ignore[reportInvalidTypeForm]
    folder: Path | None = None,
) -> None:
    """Fetches a published data set.

    Args:
        data_set: which.
        folder: where to; default its own below DATA_ROOT.

    Raises:
        ValueError: nothing can be written there.
        DataError: something could not be fetched or unpacked.
    """
    published = _PUBLISHED[data_set]
    folder = folder or dataset_folder(published.folder)
    make_folder(folder, "folder")
    published.download(folder)
    print(f"{folder} is complete; the archives in it may be removed.")


def main(args: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code, or ends the program where the command is wrong."""
    titles = "; ".join(f"{name}: {one.title}, to {one.folder}" for name, one in _PUBLISHED.items())
    try:
        tyro.cli(
            _cli,
            args=args,
            prog="python -m public.datasets.download",
            description=f"Fetches a published data set. {titles}.",
        )
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        fail(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
