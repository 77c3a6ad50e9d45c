"""Transforms of one image and its boxes together, as they run in the workers of a detection loader.

A transform never draws by itself: it is called with a sample and with as many uniform draws as it asks for, which come
from (seed, epoch, image) or, if all images of a batch have to agree (`per_batch`), from (seed, epoch, step). Pixels
stay uint8, boxes stay float32. Every chain ends with one of the four resizes, which makes the canvas; they are the
transforms with a `canvas_multiple`. Nothing writes into the arrays of the sample it is given.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import cv2
import numpy as np

FILL = (124, 116, 104)
"""Color of what a picture does not cover: ImageNet's mean pixel, which normalization turns into (nearly) zero."""


class DetectionSample(NamedTuple):
    """One image and its objects."""

    image: np.ndarray
    """uint8 [H, W, 3], red green blue, contiguous."""
    boxes: np.ndarray
    """float32 [N, 4], x1 y1 x2 y2 in pixels of `image`: pixel i covers [i, i + 1). All inside it, all with an area."""
    labels: np.ndarray
    """int64 [N]; below 0 for an ignore region, which moves with the picture but does not hold back crops."""
    content_size: tuple[int, int]
    """Height and width of `image` that the picture fills, from the top left corner: all of it until a resize."""


class DetectionTransform(Protocol):
    """What a transform of image and boxes looks like."""

    num_draws: ClassVar[int]
    """Uniform draws of one call."""
    per_batch: ClassVar[bool]
    """Whether all images of a batch share the draws."""

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """A new sample, by draws float64 [num_draws] in [0, 1)."""
        ...


@dataclass(frozen=True, kw_only=True)
class SquareResize:
    """The 2020 project's "yolov3 resize": the long side becomes `size`, the picture lies top left on a square canvas.

    Deviations from it: the border is FILL instead of black; each axis of the boxes is scaled by what happened to its
    pixels (2020: both by size / long side, though the short side is rounded down); the long side is exactly `size`
    (2020: floating point rounding made it one less for 8% of all lengths).
    """

    size: int
    """Height and width of the canvas, pixels; need not be a multiple of anything."""
    num_draws: ClassVar[int] = 0
    per_batch: ClassVar[bool] = False
    canvas_multiple: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _require_pixels(self, "size", self.size)

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [size, size, 3]."""
        height, width = _picture_size(sample, self)
        long = max(height, width)
        new_height, new_width = max(height * self.size // long, 1), max(width * self.size // long, 1)
        canvas = filled(self.size, self.size)
        # The pixels are written where they belong at once: the slice has whole pixels side by side, as OpenCV wants.
        part = canvas[:new_height, :new_width]
        cv2.resize(sample.image, (new_width, new_height), dst=part, interpolation=cv2.INTER_LINEAR)
        boxes = _scaled(sample.boxes, (height, width), (new_height, new_width))
        return _moved(canvas, boxes, sample.labels, (new_height, new_width))

    def canvas_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the canvas of a picture."""
        return self.size, self.size


@dataclass(frozen=True, kw_only=True)
class ShortSideResize:
    """The resize of Faster R-CNN and RetinaNet, to torchvision's sizes: the short side becomes `short`, unless the
    long one would then exceed `long_cap`. The picture is its own canvas; the batch pads it to a multiple of 32.
    """

    short: int
    """Target length of the short side, pixels."""
    long_cap: int
    """Greatest length of the long side, pixels."""
    num_draws: ClassVar[int] = 0
    per_batch: ClassVar[bool] = False
    canvas_multiple: ClassVar[int] = 32

    def __post_init__(self) -> None:
        _require_pixels(self, "short", self.short)
        _require_cap(self, self.short)

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [H', W', 3]."""
        size = _picture_size(sample, self)
        new_size = self.canvas_size(*size)
        image = cv2.resize(sample.image, new_size[::-1], interpolation=cv2.INTER_LINEAR)
        return _moved(image, _scaled(sample.boxes, size, new_size), sample.labels, new_size)

    def canvas_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture is resized to, before the batch pads it."""
        scale = min(self.short / min(height, width), self.long_cap / max(height, width))
        # Rounded down in float64, as torchvision does it: 799 instead of 800 now and then, but the same everywhere.
        return max(int(height * scale), 1), max(int(width * scale), 1)


@dataclass(frozen=True, kw_only=True)
class RandomSquareResize:
    """Multi-scale training on square canvases: `SquareResize` to one of several sizes, the same for a whole batch."""

    sizes: tuple[int, ...]
    """Heights and widths of the canvas, pixels, all equally likely."""
    num_draws: ClassVar[int] = 1
    per_batch: ClassVar[bool] = True
    canvas_multiple: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _require_pixels(self, "sizes", *self.sizes)

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [size, size, 3]."""
        return SquareResize(size=self.sizes[int(draws[0] * len(self.sizes))])(sample, draws)

    def canvas_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the smallest canvas, pixels, whatever the image's."""
        return min(self.sizes), min(self.sizes)


@dataclass(frozen=True, kw_only=True)
class RandomShortSideResize:
    """Multi-scale training in the manner of Faster R-CNN: `ShortSideResize` to one of several lengths, one a batch."""

    shorts: tuple[int, ...]
    """Target lengths of the short side, pixels, all equally likely."""
    long_cap: int
    """Greatest length of the long side, pixels."""
    num_draws: ClassVar[int] = 1
    per_batch: ClassVar[bool] = True
    canvas_multiple: ClassVar[int] = 32

    def __post_init__(self) -> None:
        _require_pixels(self, "shorts", *self.shorts)
        _require_cap(self, max(self.shorts))

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [H', W', 3]."""
        short = self.shorts[int(draws[0] * len(self.shorts))]
        return ShortSideResize(short=short, long_cap=self.long_cap)(sample, draws)

    def canvas_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the smallest canvas of an image of this size, pixels."""
        return ShortSideResize(short=min(self.shorts), long_cap=self.long_cap).canvas_size(height, width)


@dataclass(frozen=True, kw_only=True)
class RandomHorizontalFlip:
    """Mirrors the picture left to right."""

    probability: float = 0.5
    """Part of the images that are mirrored."""
    num_draws: ClassVar[int] = 1
    per_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require_probability(self, self.probability)

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [H, W, 3]."""
        size = _picture_size(sample, self)
        if draws[0] >= self.probability:
            return sample
        boxes = sample.boxes.copy()
        boxes[:, [0, 2]] = size[1] - sample.boxes[:, [2, 0]]
        return _moved(cv2.flip(sample.image, 1), boxes, sample.labels, size)


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """Cuts a window out of the picture that holds every object whole; an image without objects stays as it is.

    Each edge of the window is a whole pixel, all places between the picture's edge and the objects equally likely.
    Deviation from the 2020 project, which could cut nothing but left and top: any side. Ignore regions are cut too.
    """

    probability: float = 0.5
    """Part of the images that are cut."""
    num_draws: ClassVar[int] = 5
    per_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require_probability(self, self.probability)

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [H', W', 3] with H' <= H, W' <= W."""
        height, width = _picture_size(sample, self)
        bounds = _object_bounds(sample)
        if draws[0] >= self.probability or bounds is None:
            return sample
        x1, y1, x2, y2 = bounds
        left, top = int(draws[1] * (x1 + 1)), int(draws[2] * (y1 + 1))
        right, bottom = width - int(draws[3] * (width - x2 + 1)), height - int(draws[4] * (height - y2 + 1))
        image = np.ascontiguousarray(sample.image[top:bottom, left:right])
        boxes = _shifted(sample.boxes, -left, -top, (bottom - top, right - left))
        return _moved(image, boxes, sample.labels, (bottom - top, right - left))


@dataclass(frozen=True, kw_only=True)
class RandomTranslate:
    """Shifts the picture by whole pixels within its own frame; no object leaves it, and FILL follows.

    All shifts that keep the objects inside are equally likely; an image without objects stays as it is. Deviation from
    the 2020 project: whole pixels (2020 shifted by fractions, but rounded the boxes), and FILL instead of black.
    """

    probability: float = 0.5
    """Part of the images that are shifted."""
    num_draws: ClassVar[int] = 3
    per_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require_probability(self, self.probability)

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [H, W, 3]."""
        height, width = _picture_size(sample, self)
        bounds = _object_bounds(sample)
        if draws[0] >= self.probability or bounds is None:
            return sample
        x1, y1, x2, y2 = bounds
        dx, dy = int(draws[1] * (x1 + width - x2 + 1)) - x1, int(draws[2] * (y1 + height - y2 + 1)) - y1
        image = filled(height, width)
        to_y, from_y = slice(max(dy, 0), height + min(dy, 0)), slice(max(-dy, 0), height + min(-dy, 0))
        to_x, from_x = slice(max(dx, 0), width + min(dx, 0)), slice(max(-dx, 0), width + min(-dx, 0))
        image[to_y, to_x] = sample.image[from_y, from_x]
        boxes = _shifted(sample.boxes, dx, dy, (height, width))
        return _moved(image, boxes, sample.labels, (height, width))


@dataclass(frozen=True, kw_only=True)
class PhotometricJitter:
    """Distorts brightness, contrast, saturation and hue, each or not, as SSD (Liu et al., arXiv:1512.02325) began it.

    The operations, their order (contrast before or after the colors) and the default amounts are those of
    torchvision's RandomPhotometricDistort, except that channels are not swapped. Boxes stay. OpenCV keeps hue and
    saturation in 8 bits on the way, which moves a pixel by a few levels where the hue is turned.
    """

    brightness: float = 0.125
    """Pixels are multiplied by a factor within 1 - brightness .. 1 + brightness."""
    contrast: float = 0.5
    """Differences from the picture's mean gray are multiplied by a factor within 1 - contrast .. 1 + contrast."""
    saturation: float = 0.5
    """Differences from each pixel's own gray are multiplied by a factor within 1 - saturation .. 1 + saturation."""
    hue: float = 0.05
    """Hues move by -hue .. hue turns of the color circle."""
    probability: float = 0.5
    """Probability of each of the four, by itself."""
    num_draws: ClassVar[int] = 9
    per_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require_probability(self, self.probability)
        for name, highest in {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5}.items():
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise ValueError(f"PhotometricJitter({name}={value}) must lie in 0..{highest}.")

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [H, W, 3]; draws: which of the four, how much of each, contrast first or last."""
        _picture_size(sample, self)
        most = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        amounts = np.where(draws[:4] < self.probability, (2 * draws[4:8] - 1) * most, 0)
        brightness, contrast, saturation, hue = amounts.tolist()
        contrast_first = draws[8] < 0.5
        image = _map_levels(sample.image, 1 + brightness, 0)
        if contrast_first:
            image = _change_contrast(image, contrast)
        image = _turn_hue(_change_saturation(image, saturation), hue)
        if not contrast_first:
            image = _change_contrast(image, contrast)
        return sample._replace(image=image)


_GRAY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma of red, green and blue
_LEVELS = np.arange(256)


def _map_levels(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """factor * pixel + offset, rounded and kept in 0..255, by a table of the 256 answers."""
    if (factor, offset) == (1, 0):
        return image
    return cv2.LUT(image, np.clip(np.rint(factor * _LEVELS + offset), 0, 255).astype(np.uint8))


def _change_contrast(image: np.ndarray, amount: float) -> np.ndarray:
    """Moves every pixel away from the picture's mean gray (amount > 0) or towards it."""
    if amount == 0:
        return image
    mean = float(_GRAY @ cv2.mean(image)[:3])
    return _map_levels(image, 1 + amount, -amount * mean)


def _change_saturation(image: np.ndarray, amount: float) -> np.ndarray:
    """Moves every pixel away from its own gray (amount > 0) or towards it: one 3x3 matrix for all pixels."""
    if amount == 0:
        return image
    return cv2.transform(image, (1 + amount) * np.eye(3) - amount * _GRAY)


def _turn_hue(image: np.ndarray, turns: float) -> np.ndarray:
    """Turns every pixel's hue by a part of the color circle."""
    if turns == 0:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    # OpenCV writes a hue in 256ths of the circle, but reads it in 255ths.
    table = np.rint((_LEVELS / 256 + turns) % 1 * 255).astype(np.uint8)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), table), hsv, 0)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def filled(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3] of FILL; whole rows are copied, several times as fast as pixel by pixel."""
    rows = np.empty((height, width * 3), dtype=np.uint8)
    rows[:] = np.tile(np.array(FILL, dtype=np.uint8), width)
    return rows.reshape(height, width, 3)


def _scaled(boxes: np.ndarray, old_size: tuple[int, int], new_size: tuple[int, int]) -> np.ndarray:
    """Boxes float64 [N, 4] after a resize, each axis by its own ratio; sizes are height, width."""
    y, x = new_size[0] / old_size[0], new_size[1] / old_size[1]
    return boxes * np.array([x, y, x, y])


def _shifted(boxes: np.ndarray, dx: int, dy: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes float64 [N, 4] after a shift, clipped to an image of a height and width."""
    height, width = size
    return np.clip(boxes + np.array([dx, dy, dx, dy], dtype=np.float64), 0, (width, height, width, height))


def _moved(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, content: tuple[int, int]) -> DetectionSample:
    """The new sample, without the rows whose area is gone: ignore regions out of sight, or boxes so narrow (some
    1/10,000 pixel) that both edges are rounded to the same float32."""
    boxes = boxes.astype(np.float32, copy=False)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # [N]
    return DetectionSample(image, boxes[has_area], labels[has_area], content)


def kept_boxes(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> DetectionSample:
    """The sample of a picture that fills its image: boxes [N, 4] are clipped to it, those without area left out."""
    size = (image.shape[0], image.shape[1])
    return _moved(image, _shifted(boxes, 0, 0, size), labels, size)


def _object_bounds(sample: DetectionSample) -> tuple[int, int, int, int] | None:
    """The smallest window x1, y1, x2, y2 in whole pixels around all objects, ignore regions aside; None: no objects."""
    boxes = sample.boxes[sample.labels >= 0]
    if len(boxes) == 0:
        return None
    x1, y1 = np.floor(boxes[:, :2].min(axis=0)).astype(int).tolist()
    x2, y2 = np.ceil(boxes[:, 2:].max(axis=0)).astype(int).tolist()
    height, width = sample.content_size
    assert min(x1, y1, width - x2, height - y2) >= 0, (sample.boxes, sample.content_size)
    return x1, y1, x2, y2


def _picture_size(sample: DetectionSample, transform: object) -> tuple[int, int]:
    """Height and width of a picture that no canvas surrounds yet.

    Raises:
        ValueError: the transform comes after the one that makes the canvas.
    """
    height, width, _ = sample.image.shape
    if sample.content_size != (height, width):
        raise ValueError(
            f"{transform} was given a picture of {sample.content_size} on a canvas of {(height, width)} pixels: of the "
            f"transforms, the resize that makes the canvas must be the only one and come last."
        )
    return height, width


def _require_pixels(transform: object, name: str, *lengths: int) -> None:
    """Refuses lengths that are not whole numbers of pixels."""
    if not lengths or not all(isinstance(length, int) and length >= 1 for length in lengths):
        raise ValueError(f"{transform}: {name} must be given in whole pixels, 1 or more.")


def _require_cap(transform: "ShortSideResize | RandomShortSideResize", short: int) -> None:
    """Refuses a long side that may not even be as long as the short one."""
    _require_pixels(transform, "long_cap", transform.long_cap)
    if transform.long_cap < short:
        raise ValueError(f"{transform}: long_cap must be {short} or more, the target length of the short side.")


def _require_probability(transform: object, probability: float) -> None:
    """Refuses what is no probability."""
    if not 0 <= probability <= 1:
        raise ValueError(f"{transform}: probability must lie in 0..1.")
