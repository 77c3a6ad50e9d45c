"""Transforms that make one picture with its boxes of several: mosaic and copy-paste.

They stand among the transforms of `detection.py`. The other pictures are any of the data set's, drawn for the sample
itself and taken as they were decoded: with the draws of (seed, epoch, image), what a sample holds depends neither on
its batch nor on who loads it. Each picture that is mixed in is one more to be decoded.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from public.runtime.seeding import uniforms
from public.transforms.detection import DetectionSample, filled, kept_boxes

Window = tuple[int, int, int, int]
"""x1 y1 x2 y2 in whole pixels, the last two exclusive."""


class MixingTransform(ABC):
    """What such a transform looks like: a `DetectionTransform` but for its call."""

    num_draws: ClassVar[int]
    per_batch: ClassVar[bool] = False
    num_others: ClassVar[int]
    """Other pictures that it takes."""
    probability: float
    close: int

    def others(self, draws: np.ndarray, num_images: int) -> list[int]:
        """Which images it takes for a sample, by its draws float64 [num_draws]; none: the sample stays as it is."""
        chosen = draws[1 : 1 + self.num_others] if draws[0] < self.probability else draws[:0]
        return [int(draw * num_images) for draw in chosen]

    @abstractmethod
    def __call__(
        self, sample: DetectionSample, draws: np.ndarray, others: Sequence[DetectionSample]
    ) -> DetectionSample:
        """A new sample, of the sample's own picture and as many others."""


@dataclass(frozen=True, kw_only=True)
class Mosaic(MixingTransform):
    """Four pictures around one point of a canvas, each with the corner that is nearest to it at that point.

    Bochkovskiy et al. 2020 (YOLOv4), https://arxiv.org/abs/2004.10934, section 3.3, who give a picture and no numbers.
    Their program cuts each picture to its quarter; the canvas of YOLOv5 has twice the side and is cut and scaled
    afterwards. Here the canvas has its final size, each picture is scaled by a draw of its own, keeps its shape and
    loses what reaches over the canvas; what none of the four covers is FILL. The sample's own lies above left.
    """

    size: int
    """Height and width of the canvas, pixels."""
    probability: float = 0.5
    """Share of the samples that are mosaics."""
    center: tuple[float, float] = (0.25, 0.75)
    """Where the point lies in each direction, least and most, as a share of the size."""
    scale: tuple[float, float] = (0.5, 1.5)
    """The long side of each picture, least and most, as a share of the size."""
    min_share: float = 0.1
    """An object of which less than this share of its area is left loses its box."""
    close: int = 0
    """Epochs at the end of the run without mosaics."""
    num_others: ClassVar[int] = 3
    num_draws: ClassVar[int] = 1 + 3 + 2 + 4

    def __post_init__(self) -> None:
        _require(self, isinstance(self.size, int) and self.size >= 2, "size must be given in whole pixels, 2 or more")
        _require_range(self, "center", self.center, 1)
        _require_range(self, "scale", self.scale, 4)
        _require_shares(self)

    def __call__(
        self, sample: DetectionSample, draws: np.ndarray, others: Sequence[DetectionSample]
    ) -> DetectionSample:
        """Images [H, W, 3] of any size -> [size, size, 3]."""
        x, y = (int(_between(self.center, draw) * self.size) for draw in draws[4:6])
        canvas, boxes, labels = filled(self.size, self.size), [], []
        for place, (one, draw) in enumerate(zip((sample, *others), draws[6:], strict=True)):
            picture = _resized(one, _between(self.scale, draw) * self.size / max(one.content_size))
            height, width = picture.content_size
            left, top = (x - width, x)[place % 2], (y - height, y)[place // 2]
            window = (max(0, -left), max(0, -top), min(width, self.size - left), min(height, self.size - top))
            part = cut(picture, window, self.min_share)
            left, top = left + window[0], top + window[1]
            canvas[top : top + part.image.shape[0], left : left + part.image.shape[1]] = part.image
            boxes.append(part.boxes + np.array([left, top, left, top], dtype=np.float32))
            labels.append(part.labels)
        return kept_boxes(canvas, np.concatenate(boxes), np.concatenate(labels))


@dataclass(frozen=True, kw_only=True)
class CopyPaste(MixingTransform):
    """Objects of another picture, pasted at places of the sample's own.

    Ghiasi et al. 2021, https://arxiv.org/abs/2012.07177. They paste a random part of the other picture's objects along
    their outlines and at their own places. Here there are no outlines: the box is cut out, with what else it shows (an
    object of which enough is seen comes along with its label), and pasted anywhere. An object keeps its size in
    proportion to the picture, times a draw. As there, a box shrinks to what is still seen of the object; here, where
    outlines are not known, to the bounds of what no paste covers.
    """

    probability: float = 0.5
    """Share of the samples that are pasted on."""
    most: int = 5
    """Objects that are pasted at most; from 1 up all numbers are equally likely, as far as there are objects."""
    scale: tuple[float, float] = (0.5, 1.5)
    """By how much an object is enlarged, least and most; one that would be larger than the picture is as large as fits.
    """
    min_share: float = 0.3
    """An object of which less than this share of its box is left to be seen loses it."""
    close: int = 0
    """Epochs at the end of the run without pasting."""
    num_others: ClassVar[int] = 1
    num_draws: ClassVar[int] = 1 + 1 + 1

    def __post_init__(self) -> None:
        _require(self, isinstance(self.most, int) and self.most >= 1, "most must be a whole number, 1 or more")
        _require_range(self, "scale", self.scale, 10)
        _require_shares(self)

    def __call__(
        self, sample: DetectionSample, draws: np.ndarray, others: Sequence[DetectionSample]
    ) -> DetectionSample:
        """Images [H, W, 3] of any size -> [H, W, 3]."""
        (other,) = others
        objects = np.flatnonzero(other.labels >= 0).tolist()  # K rows
        if not objects:
            return sample
        more = uniforms(0, 0, np.array([int(draws[2] * 2**53)]), 1 + 4 * len(objects))[0]
        order, *places = more[1:].reshape(4, -1)  # [K] each
        count = 1 + int(more[0] * min(self.most, len(objects)))
        base = max(sample.content_size) / max(other.content_size)
        image, layers = sample.image.copy(), np.zeros(sample.content_size, dtype=np.int32)
        boxes, labels, of_layer = [sample.boxes], [sample.labels], [np.zeros(len(sample.labels), dtype=np.int32)]
        for layer, row in enumerate(np.argsort(order, kind="stable")[:count].tolist(), 1):
            patch = cut(other, _outer_window(other, objects[row]), self.min_share)
            x, y, scale = (float(draw[row]) for draw in places)
            patch = _resized(patch, min(base * _between(self.scale, scale), _fitting(patch, sample)))
            height, width = patch.content_size
            left, top = (int(x * (image.shape[1] - width + 1)), int(y * (image.shape[0] - height + 1)))
            image[top : top + height, left : left + width] = patch.image
            layers[top : top + height, left : left + width] = layer
            boxes.append(patch.boxes + np.array([left, top, left, top], dtype=np.float32))
            labels.append(patch.labels)
            of_layer.append(np.full(len(patch.labels), layer, dtype=np.int32))
        pasted = DetectionSample(image, np.concatenate(boxes), np.concatenate(labels), sample.content_size)
        return self._seen(pasted, layers, np.concatenate(of_layer))

    def _seen(self, sample: DetectionSample, layers: np.ndarray, of_layer: np.ndarray) -> DetectionSample:
        """Boxes less what later pastes cover: `layers` [H, W] is the last paste of each pixel, `of_layer` [N] that
        of each box; 0 is the sample's own picture."""
        boxes, labels = sample.boxes.copy(), sample.labels
        kept = np.ones(len(labels), dtype=bool)
        for row, layer in enumerate(of_layer.tolist()):
            x1, y1, x2, y2 = _outer_window(sample, row)
            seen = layers[y1:y2, x1:x2] <= layer
            if seen.all():
                continue
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            kept[row] = len(rows) > 0 and (labels[row] < 0 or seen.mean() >= self.min_share)
            if kept[row]:
                bounds = (x1 + columns[0], y1 + rows[0], x1 + columns[-1] + 1, y1 + rows[-1] + 1)
                boxes[row] = (*np.maximum(boxes[row, :2], bounds[:2]), *np.minimum(boxes[row, 2:], bounds[2:]))
        return kept_boxes(sample.image, boxes[kept], labels[kept])


def cut(sample: DetectionSample, window: Window, min_share: float) -> DetectionSample:
    """A window of a picture, with the objects of which at least a share of the area is in it.

    Ignore regions stay however little of them is: what they say of that little is still true.
    """
    x1, y1, x2, y2 = window
    shifted = sample.boxes - np.array([x1, y1, x1, y1], dtype=np.float32)
    left = np.clip(shifted, 0, np.array([x2 - x1, y2 - y1] * 2, dtype=np.float32))
    kept = (_areas(left) >= min_share * _areas(sample.boxes)) | (sample.labels < 0)
    return kept_boxes(np.ascontiguousarray(sample.image[y1:y2, x1:x2]), left[kept], sample.labels[kept])


def _areas(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] -> [N]."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _outer_window(sample: DetectionSample, row: int) -> Window:
    """The pixels that a box touches."""
    x1, y1 = np.floor(sample.boxes[row, :2]).astype(int).tolist()
    x2, y2 = np.ceil(sample.boxes[row, 2:]).astype(int).tolist()
    return x1, y1, x2, y2


def _fitting(patch: DetectionSample, sample: DetectionSample) -> float:
    """The largest scale at which a patch lies within a picture."""
    return min(whole / part for whole, part in zip(sample.content_size, patch.content_size, strict=True))


def _resized(sample: DetectionSample, scale: float) -> DetectionSample:
    """The picture times a scale, each side at least one pixel; boxes follow what happened to the pixels."""
    height, width = sample.content_size
    new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
    image = cv2.resize(sample.image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    ratios = np.array([new_width / width, new_height / height] * 2)
    return kept_boxes(image, sample.boxes * ratios, sample.labels)


def _between(limits: tuple[float, float], draw: float) -> float:
    return limits[0] + draw * (limits[1] - limits[0])


def _require(transform: object, holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{transform}: {what}.")


def _require_range(transform: object, name: str, limits: Sequence[float], highest: float) -> None:
    """Refuses what is no pair of numbers above 0, the first not above the second."""
    fits = len(limits) == 2 and 0 < limits[0] <= limits[1] <= highest
    _require(transform, fits, f"{name} must be the least and the most, above 0 and up to {highest}")


def _require_shares(transform: "Mosaic | CopyPaste") -> None:
    """Refuses a probability or a share beyond 0..1, and epochs below 0."""
    for name in ("probability", "min_share"):
        _require(transform, 0 <= getattr(transform, name) <= 1, f"{name} must lie in 0..1")
    close = transform.close
    _require(transform, isinstance(close, int) and close >= 0, "close must be a whole number of epochs, 0 or more")
