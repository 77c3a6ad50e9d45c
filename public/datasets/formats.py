"""The formats of detection data sets: one line a format, `<format>.py`, which holds all that depends on it."""

from public.config.detection import DetectionData
from public.config.options import Kind
from public.datasets.coco import COCO
from public.datasets.format import DetectionFormat, row_of
from public.datasets.voc import VOC

FORMATS: dict[str, DetectionFormat] = {row.options.kind: row for row in (COCO, VOC)}
"""By the name that --data.dataset has for it."""


def format_of(data: DetectionData) -> DetectionFormat:
    """The row of the format that options are of.

    Raises:
        ValueError: they are of none in the table.
    """
    return row_of(data, FORMATS, "public/datasets/formats.py")


DATA_KIND = Kind("data.dataset", "data", tuple(FORMATS), lambda name: FORMATS[name].options)
"""Of a detection's data."""
