"""The formats of classification data sets: one line a format, `<format>.py`, which holds all that depends on it."""

from public.config.classification import ClassificationData
from public.config.options import Kind
from public.datasets.cifar100 import CIFAR100
from public.datasets.format import ImageFormat
from public.datasets.imagenet import IMAGENET

IMAGE_FORMATS: dict[str, ImageFormat] = {row.options.kind: row for row in (IMAGENET, CIFAR100)}
"""By the name that --data.dataset has for it."""


def image_format_of(data: ClassificationData) -> ImageFormat:
    """The row of the format that options are of.

    Raises:
        ValueError: they are of none in the table.
    """
    row = IMAGE_FORMATS.get(getattr(data, "kind", ""))  # by name: options may build on those of another format
    if row is not None and isinstance(data, row.options):
        return row
    raise ValueError(f"{type(data).__name__} is of no format in public/datasets/image_formats.py.")


DATA_KIND = Kind("data.dataset", "data", tuple(IMAGE_FORMATS), lambda name: IMAGE_FORMATS[name].options)
"""Of a classification's data."""
