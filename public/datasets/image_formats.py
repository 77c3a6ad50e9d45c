"""The formats of classification data sets: one line a format, `<format>.py`, which holds all that depends on it."""

from public.config.classification import ClassificationData
from public.config.options import Kind
from public.datasets import formats
from public.datasets.cifar100 import CIFAR100
from public.datasets.format import ImageFormat, row_of
from public.datasets.imagenet import IMAGENET

IMAGE_FORMATS: dict[str, ImageFormat] = {row.options.kind: row for row in (IMAGENET, CIFAR100)}
"""By the name that --data.dataset has for it."""


def image_format_of(data: ClassificationData) -> ImageFormat:
    """The row of the format that options are of.

    Raises:
        ValueError: they are of none in the table.
    """
    return row_of(data, IMAGE_FORMATS, "public/datasets/image_formats.py")


DATA_KIND = Kind(
    "data.dataset",
    "data",
    tuple(IMAGE_FORMATS),
    lambda name: IMAGE_FORMATS[name].options,
    elsewhere=dict.fromkeys(formats.DATA_KIND.names, f"it is for data with boxes, see {formats.EXPERIMENT}"),
)
"""Of a classification's data."""
