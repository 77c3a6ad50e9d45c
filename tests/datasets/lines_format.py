"""A third detection format, as somebody would add it: this file, and its row in `public/datasets/formats.py`.

<split>.txt of the folder has a line for each object: image file, width, height, class, left, top, right, bottom. Images
lie beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from public.config.detection import DetectionData
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.format import DetectionFormat
from public.datasets.predictions import Predictions, rows_of_images
from public.datasets.scan import Kind, Problem, RawAnnotations, find_missing
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text


@dataclass(frozen=True, kw_only=True)
class LinesData(DetectionData):
    """<split>.txt and its images in `folder`."""

    kind: ClassVar[str] = "lines"
    default_metrics: ClassVar[str] = "voc"
    separator: str = ","
    """Between the entries of a line."""


def _read(folder: Path, splits: Sequence[str], data: LinesData) -> list[list[str]]:
    """The entries of all lines [T]."""
    try:
        text = "".join((folder / f"{split}.txt").read_text() for split in splits)
    except OSError as error:
        raise DataError(f"{folder} lacks one of {', '.join(f'{split}.txt' for split in splits)}.") from error
    return [line.split(data.separator) for line in text.splitlines()]


def _scan(folder: Path, splits: Sequence[str], data: LinesData) -> RawAnnotations:
    rows = _read(folder, splits, data)
    short = [row for row in rows if len(row) != 8]
    problems = [Problem(Kind.UNREADABLE_ANNOTATION, str(folder), f"{row} needs 8 entries") for row in short]
    rows = [row for row in rows if len(row) == 8]
    sizes = {file: (int(height), int(width)) for file, width, height, *_ in rows}
    files, names = list(sizes), sorted({row[3] for row in rows})
    missing = find_missing(folder, files)
    problems += [Problem(Kind.MISSING_IMAGE, files[i], "there is no such file") for i in np.flatnonzero(missing)]
    boxes = np.array([row[4:8] for row in rows], dtype=np.float64).reshape(-1, 4)
    return RawAnnotations(
        folder=folder,
        files=files,
        missing=missing,
        image_ids=np.arange(len(files)),
        sizes=np.array(list(sizes.values()), dtype=np.int64).reshape(-1, 2),
        object_images=np.array([files.index(row[0]) for row in rows], dtype=np.int64),
        written=boxes,
        written_as="left, top, right, bottom",
        boxes=boxes,
        labels=np.array([names.index(row[3]) for row in rows], dtype=np.int64),
        ignored=np.zeros(len(rows), dtype=bool),
        class_names=names,
        category_ids=list(range(1, len(names) + 1)),
        source=folder,
        annotation_of=lambda image: f"{folder}, {files[image]}",
        problems=problems,
    )


def _images(folder: Path, data: LinesData) -> list[Path]:
    return sorted({folder / row[0] for row in _read(folder, data.val_splits, data)})


def _write(folder: Path, predictions: Predictions, annotations: DetectionAnnotations) -> None:
    images = rows_of_images(predictions, annotations)
    files = [name.decode() for name in annotations.files.tolist()]
    lines = [
        f"{files[image]},{annotations.class_names[label]},{score:.3f}\n"
        for image, label, score in zip(images, predictions.labels, predictions.scores, strict=True)
    ]
    with going_on_when_disk_is_full("detections.txt"):
        replace_text(folder / "detections.txt", "".join(lines))


LINES = DetectionFormat(options=LinesData, scan=_scan, images=_images, write=_write)
