"""What a format of data sets states of itself. The tables: `formats.py`, and `image_formats.py` for classification.

A format's options, reader, files of results and whatever else depends on it stand in one file, `<format>.py`, which
ends with its row. Everything else asks the row.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from public.config.classification import ClassificationData
from public.config.detection import DetectionData
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import EvalData, TrainData
from public.datasets.checking import SplitReport
from public.datasets.predictions import Predictions, WrittenPredictions
from public.datasets.scan import Problem, RawAnnotations
from public.runtime.distributed import DistributedContext


class Published(NamedTuple):
    """A data set of a format that `public/datasets/download.py` can fetch."""

    title: str
    """What it is, and its size: COCO 2017 (20 GB)."""
    folder: str
    """Where it goes below DATA_ROOT."""
    download: Callable[..., None]
    """Called with the folder, and with the splits to see to (without them: all). Raises DataError."""


class Results(NamedTuple):
    """Files of results in a format, whatever the format of the data set is against which they are evaluated."""

    suffix: str
    """Of their names: .json."""
    read: Callable[[Sequence[Path], DetectionAnnotations], WrittenPredictions]
    """(files, annotations of the split) -> what they hold. Raises DataError."""


class Splits(NamedTuple):
    """The splits of a folder by what they are for."""

    train: tuple[str, ...]
    """Empty: there is none, and those for evaluation are not to be trained on unasked."""
    val: tuple[str, ...]
    """Empty: there is none, and some of the training images have to serve."""
    names: tuple[str, ...]
    """Of all that there are."""


class Layout(NamedTuple):
    """How a folder holds data of a format: what `recognize` finds."""

    title: str
    """For the log: COCO's (annotations/instances_<split>.json)."""
    splits: Splits
    """Which to train and to evaluate on."""
    settings: dict[str, Any]
    """Of the format's options, beside the splits."""


_PURPOSES = (
    ("train", r"train(\d{4})?|training"),
    ("trainval", r"trainval(\d{4})?"),
    ("val", r"(val|valid|validation)(\d{4})?"),
    ("test", r"test(\d{4})?|testing"),
)


def purpose_of(name: str) -> str | None:
    """What a split is for by its name, which may end in a year, and may follow a folder and a slash; None: it does not
    tell."""
    last = name.rpartition("/")[2].lower()
    return next((purpose for purpose, pattern in _PURPOSES if re.fullmatch(pattern, last)), None)


def choose_splits(names: Sequence[str]) -> Splits:
    """By their names (see `purpose_of`): train, or else trainval, to train on; val, or else test, to evaluate on.

    Args:
        names: of all splits of a folder.

    Returns:
        All splits as training splits, and none for validation, where the names do not tell.
    """
    found = {purpose: [name for name in names if purpose_of(name) == purpose] for purpose, _ in _PURPOSES}
    train, val = found["train"] or found["trainval"], found["val"] or found["test"]
    return Splits(tuple(train if train or val else names), tuple(val), tuple(names))


@dataclass(frozen=True, kw_only=True)
class DetectionFormat:
    """A row of `public.datasets.formats.FORMATS`. The functions are given options of its own type alone."""

    options: type[DetectionData]
    """Its settings, whose `kind` is its name."""
    scan: Callable[[Path, Sequence[str], Any], RawAnnotations]
    """(folder, splits, options) -> all that the splits hold, and every problem. Raises DataError for no such split."""
    images: Callable[[Path, Any], list[Path]]
    """(folder, options) -> the image files of the validation splits, sorted, without a look at what is on them. Raises
    FileNotFoundError or DataError where there are none."""
    write: Callable[[Path, Predictions, DetectionAnnotations], None] = lambda *_: None
    """(folder, predictions, annotations of the split): writes the files in which such results are handed in, beside
    predictions.json, which every evaluation writes in COCO's format. A full disk is a warning."""
    recognize: Callable[[Path], Layout | None] = lambda folder: None
    """(an existing folder) -> how it holds data of this format; None: not at all. Raises DataError where it does, and
    not so that it can be used."""
    lacks: Callable[[Path], str | None] = lambda folder: None
    """(an existing folder, which no format recognizes) -> what is missing where it holds a part of this format's data,
    in a sentence; None: it holds none."""
    leftovers: Callable[[Path, Any], list[Problem]] = lambda *_: []
    """(folder, options) -> what the data set names or holds beside the images of its splits, which only the check
    tells. Raises DataError."""
    published: Published | None = None
    """What can be fetched."""
    results: Results | None = None
    """How the files that `write` writes are read again, whoever wrote them."""


class MakeEvalData(Protocol):
    """What gives the validation split."""

    def __call__(
        self,
        data: Any,
        /,
        *,
        batch_size: int,
        num_workers: int,
        context: DistributedContext,
        class_names: list[str] | None = None,
    ) -> EvalData:
        """Its loader and class names; `batch_size` is that of one process.

        Labels are numbers of `class_names` where they are given, and some of them may have no image. Raises DataError.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """A row of `public.datasets.image_formats.IMAGE_FORMATS`. The functions are given options of its own type alone."""

    options: type[ClassificationData]
    """Its settings, whose `kind` is its name."""
    train_data: Callable[[Any, DistributedContext], TrainData]
    """(config, this process's place) -> both loaders of a run. Raises DataError."""
    eval_data: MakeEvalData
    """The loader of the validation split alone."""
    check: Callable[[Any], Iterator[SplitReport]]
    """(config) -> everything that is wrong with its splits, images included, one after the other."""


Row = TypeVar("Row", DetectionFormat, ImageFormat)


def row_of(data: DetectionData | ClassificationData, table: Mapping[str, Row], file: str) -> Row:
    """The row of the format that options are of.

    Args:
        data: the options.
        table: the rows by their name.
        file: where the table stands, for the message.

    Raises:
        ValueError: they are of none in the table.
    """
    row = table.get(getattr(data, "kind", ""))  # by name: options may build on those of another format
    if row is None or not isinstance(data, row.options):
        raise ValueError(f"{type(data).__name__} is of no format in {file}.")
    return row
