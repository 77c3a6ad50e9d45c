"""The objects of one split, in a few arrays: workers share blocks of memory, and would copy lists of Python objects."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from public.datasets.decoding import AS_ANNOTATED, Reading
from public.geometry.labels import IGNORED


class WrittenObjects(NamedTuple):
    """G objects as a file in COCO's format states them: float64, not clipped, with the areas of the outlines."""

    image_ids: np.ndarray
    """int64 [G], the data set's own."""
    labels: np.ndarray
    """int64 [G], 0-based."""
    boxes: np.ndarray
    """float64 [G, 4], x, y, width, height."""
    areas: np.ndarray
    """float64 [G]."""
    crowds: np.ndarray
    """bool [G]."""


@dataclass(frozen=True, kw_only=True)
class DetectionAnnotations:
    """What training and evaluation know of N images with T objects together; made by `scan.clean`."""

    folder: Path
    """Of the image files."""
    files: np.ndarray
    """Paths below it as fixed-width bytes [N]."""
    image_ids: np.ndarray
    """int64 [N]: the data set's own; from 0 where it has none."""
    sizes: np.ndarray
    """int64 [N, 2], height and width of each image as annotated."""
    offsets: np.ndarray
    """int64 [N + 1]: the objects of image i are the rows offsets[i] to offsets[i + 1]."""
    boxes: np.ndarray
    """float32 [T, 4], x1 y1 x2 y2 in pixels (pixel i covers [i, i + 1)), inside the image, with an area."""
    labels: np.ndarray
    """int64 [T], 0-based."""
    ignored: np.ndarray
    """bool [T]: neither to be learnt nor background, such as a COCO crowd or a difficult VOC object."""
    class_names: list[str]
    """The name of each label."""
    category_ids: list[int]
    """The data set's own number of each label; 1 to C where it has none."""
    source: Path
    """What the split was read from. For messages."""
    skipped: dict[str, int]
    """What of the files' content is not here, and how often: {"boxes without area": 2}; empty for nothing."""
    filled: dict[str, int] = field(default_factory=dict)
    """What the files state not at all or not usably, and how often: {"image sizes that are not stated": 2}."""
    truth: WrittenObjects | None = None
    """The objects in COCO's own terms, where a file states them so: COCO's rules take the truth from there, not rounded
    to float32. None: they take it from these arrays."""
    reading: Reading = AS_ANNOTATED
    """How the pictures are read."""

    @property
    def num_images(self) -> int:
        """N, images without objects included."""
        return len(self.files)

    @property
    def num_boxes(self) -> int:
        """T, ignored ones included."""
        return len(self.boxes)

    def of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The n objects of one image: boxes float32 [n, 4] and labels int64 [n], IGNORED where they are ignored."""
        rows = slice(self.offsets[index], self.offsets[index + 1])
        return self.boxes[rows].copy(), np.where(self.ignored[rows], IGNORED, self.labels[rows])


def describe_treated(annotations: DetectionAnnotations) -> str:
    """What reading skipped and filled in, for the log: "; skipped: boxes without area: 2, ..."; empty for nothing."""
    treated = {"skipped": annotations.skipped, "filled in": annotations.filled}
    texts = {verb: ", ".join(f"{kind}: {count}" for kind, count in counts.items()) for verb, counts in treated.items()}
    return "".join(f"; {verb}: {text}" for verb, text in texts.items() if text)
