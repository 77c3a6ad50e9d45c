"""What tells whether a data set still is the one that a run began with, without reading a picture."""

import hashlib

import numpy as np

from public.datasets.annotations import DetectionAnnotations
from public.datasets.image_folder import Images


def digest(*columns: np.ndarray) -> str:
    """16 hexadecimal digits of SHA-256: the same for the same columns, whatever the width of their texts."""
    content = hashlib.sha256()
    for column in columns:
        content.update(f"{column.dtype.kind}{column.shape}".encode())
        is_text = column.dtype.kind == "S"
        content.update(b"\0".join(column.tolist()) if is_text else np.ascontiguousarray(column).data)
    return content.hexdigest()[:16]


def images_digest(images: Images) -> str:
    """Of the files and labels of a split, in their order."""
    return digest(images.files, images.labels)


def annotations_digest(split: DetectionAnnotations) -> str:
    """Of the files of a split and their objects, in their order."""
    return digest(split.files, split.sizes, split.offsets, split.boxes, split.labels, split.ignored)
