"""Generated scenes: textured, rotated, partly hidden shapes on noisy backgrounds.

Only drawing lives here; ``public.datasets.sample_layouts`` writes the scenes out as data sets. A scene is a
function of the generator it is given and of nothing else, so the same numbers make the same picture.

Letters: H, W = height and width of the image in pixels; h, w = of a window in it; P = points of a polygon.
Coordinates: x to the right, y down, in pixels; pixel i covers [i, i + 1), so an image spans [0, W] x [0, H].
Colors: BGR, the order of OpenCV, float32 in 0..255 until ``Scene.render``.

Contrast is guaranteed, not hoped for: a scene is dark with light objects or light with dark ones, measured in
luminance. Hue, texture, size and rotation say nothing about the shape, so a network must look at outlines.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

_MASK_SCALE = 4  # OpenCV fills every pixel an outline touches: at this scale a shape comes out 1/8 pixel too fat
_TEXTURE_SCALE = 2  # masks and textures are drawn larger by these factors and averaged down: smooth edges
_SUBPIXEL_BITS = 4  # OpenCV takes polygon points in 1/16 of a pixel
_RIM = np.ones((3, 3), dtype=np.uint8)  # a pixel of background around every object parts it from what it hides
_NOBODY = -1  # owner of a pixel that shows the background or an occluder
_LUMINANCE = np.array([0.114, 0.587, 0.299])  # of B, G, R (ITU-R BT.601)


# Outlines: float64 [P, 2] within the unit circle ----------------------------------------------------------


def _arc(start: float, stop: float, num_points: int, radius: float = 1.0) -> np.ndarray:
    """Points on a circle around the origin from ``start`` to ``stop``, both included (degrees): [P, 2]."""
    angles = np.radians(np.linspace(start, stop, num_points))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _ring() -> np.ndarray:
    """Outer circle, then the hole the other way round: one polygon with a cut, for in COCO none has holes."""
    return np.concatenate([_arc(0, 360, 49), _arc(360, 0, 33, radius=0.55)])


def _crescent() -> np.ndarray:
    """The unit circle less an equal one shifted to the right; both pass through the tips at +-65 degrees."""
    tip_x, tip_y = math.cos(math.radians(65)), math.sin(math.radians(65))
    bite_radius = math.hypot(0.6 - tip_x, tip_y)
    opening = math.degrees(math.atan2(tip_y, tip_x - 0.6))
    bite = _arc(360 - opening, opening, 24, radius=bite_radius) + [0.6, 0.0]
    return np.concatenate([_arc(65, 295, 36), bite])


def _star() -> np.ndarray:
    """Five points; the inner corners lie at 0.42 of the outer radius."""
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return _arc(-90, 234, 10) * radii[:, None]


def _heart() -> np.ndarray:
    """The well known parametric heart with a deeper notch, moved and scaled into the unit circle."""
    t = np.linspace(0, 2 * np.pi, 41)[:-1]
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 7 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    points = np.stack([x, -(y + 3)], axis=1)
    return points / np.hypot(*points.T).max()


def _cross() -> np.ndarray:
    """Plus sign with arms of 0.6 in width: a quarter of the outline turned four times."""
    quarter = np.array([[0.3, -0.95], [0.3, -0.3], [0.95, -0.3]])
    x, y = quarter.T
    turns = [quarter, np.stack([-y, x], 1), -quarter, np.stack([y, -x], 1)]
    return np.concatenate(turns)


OUTLINES: dict[str, np.ndarray] = {
    "arrow": np.array([[0, -1], [0.75, -0.1], [0.3, -0.1], [0.3, 0.95], [-0.3, 0.95], [-0.3, -0.1], [-0.75, -0.1]]),
    "circle": _arc(0, 360, 49)[:-1],
    "crescent": _crescent(),
    "cross": _cross(),
    "heart": _heart(),
    "hourglass": np.array([[-0.65, -0.75], [0.65, -0.75], [0.1, 0], [0.65, 0.75], [-0.65, 0.75], [-0.1, 0]]),
    "ring": _ring(),
    "square": _arc(45, 315, 4),
    "star": _star(),
    "triangle": _arc(-90, 150, 3),
}
"""Shape name -> outline. No two become alike by turning: there is no diamond beside the square."""

SHAPES: tuple[str, ...] = tuple(OUTLINES)
"""Names of the 10 shapes, sorted, so that readers which sort the class folders number them the same way."""

TEXTURES: tuple[str, ...] = (
    "bricks", "checker", "dots", "gradient", "grid", "noise", "rings", "solid", "stripes", "zigzag",
)  # fmt: skip
"""Names of the 10 textures, sorted."""


def _texture(name: str, x: np.ndarray, y: np.ndarray, period: float, rng: np.random.Generator) -> np.ndarray:
    """Share of the second color in 0..1 at each point.

    Args:
        name: one of ``TEXTURES``.
        x, y: float32 [H, W], coordinates in the frame of the object, whose circumscribed circle has radius 1.
        period: of the pattern, in the same unit.
        rng: draws the cells of "noise"; no other texture uses it.
    """
    p, q = x / period, y / period
    p_in, q_in = p - np.floor(p), q - np.floor(q)  # position within the cell, 0..1
    match name:
        case "bricks":
            row, along = np.floor(q / 1.3), p / 2.6
            along = along + row % 2 / 2  # every other row is shifted by half a brick
            return (q / 1.3 - row < 0.22) | (along - np.floor(along) < 0.11)
        case "checker":
            return (np.floor(p) + np.floor(q)) % 2
        case "dots":
            return (p_in - 0.5) ** 2 + (q_in - 0.5) ** 2 < 0.1
        case "gradient":
            return np.clip((x + 0.9) / 1.8, 0, 1)
        case "grid":
            return (p_in < 0.28) | (q_in < 0.28)
        case "noise":
            cells = rng.random((64, 64), dtype=np.float32)
            return cells[(3 * q).astype(np.int64) % 64, (3 * p).astype(np.int64) % 64]
        case "rings":
            distance = np.hypot(p, q)
            return distance - np.floor(distance) < 0.5
        case "solid":
            return np.zeros_like(x)
        case "stripes":
            return p_in < 0.5
        case "zigzag":
            bent = q + 2 * np.abs(p / 2 - np.floor(p / 2) - 0.5)
            return bent - np.floor(bent) < 0.5
    raise ValueError(f"unknown texture {name!r}: expected one of {', '.join(TEXTURES)}")


# Polygons --------------------------------------------------------------------------------------------------


def polygon_area(polygon: np.ndarray) -> float:
    """Area in square pixels of a polygon [P, 2] by the shoelace formula."""
    x, y = polygon.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def clip_polygon(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """The part of a polygon [P, 2] inside the image, [P', 2]; no points if it lies outside.

    Sutherland and Hodgman's method, one border after another. Where a polygon leaves the image twice, its
    parts stay joined by an edge along the border, which adds no area.
    """
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        inside_by = sign * (polygon[:, axis] - limit)  # negative outside
        kept: list[np.ndarray] = []
        for i in range(len(polygon)):
            here, there = inside_by[i - 1], inside_by[i]
            if (here < 0) != (there < 0):
                crossing = polygon[i - 1] + (polygon[i] - polygon[i - 1]) * here / (here - there)
                crossing[axis] = limit  # and not a rounding error beside it
                kept.append(crossing)
            if there >= 0:
                kept.append(polygon[i])
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def _coverage(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """Covered share of every pixel by a polygon [P, 2]: uint8 [H, W], 255 where it is covered whole."""
    mask = np.zeros((height * _MASK_SCALE, width * _MASK_SCALE), dtype=np.uint8)
    # OpenCV puts pixel centers on whole numbers, where ours lie on halves.
    points = np.round((polygon * _MASK_SCALE - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [points], color=255, shift=_SUBPIXEL_BITS)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)


# Scenes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """One textured shape to draw."""

    shape: int
    """Index into ``SHAPES``."""
    texture: int
    """Index into ``TEXTURES``."""
    center: tuple[float, float]
    """x, y in pixels."""
    radius: float
    """Of the circumscribed circle, in pixels."""
    angle: float
    """Radians."""

    def polygon(self) -> np.ndarray:
        """Outline in the image, not clipped to it: float64 [P, 2] x, y in pixels."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[cos, sin], [-sin, cos]])
        return OUTLINES[SHAPES[self.shape]] @ turn * self.radius + self.center

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of the image that hold all of the sprite's pixels and of its rim."""
        (x, y), reach = self.center, self.radius + 2
        return _span(y, reach, height), _span(x, reach, width)

    def frame(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """Supersampled pixel centers of a window in the sprite's frame: x and y, float32 [2h, 2w] each."""
        rows, columns = window
        x = (_centers(columns) - self.center[0]) / self.radius
        y = (_centers(rows)[:, None] - self.center[1]) / self.radius
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return x * cos + y * sin, y * cos - x * sin


def _span(center: float, reach: float, limit: int) -> slice:
    """Whole pixels of [center - reach, center + reach] between 0 and ``limit``."""
    return slice(max(0, math.floor(center - reach)), min(limit, math.ceil(center + reach)))


def _centers(span: slice) -> np.ndarray:
    """Positions of the supersampled pixels of a span, in pixels: float32 [2 * length of the span]."""
    numbers = np.arange(span.start * _TEXTURE_SCALE, span.stop * _TEXTURE_SCALE, dtype=np.float32)
    return (numbers + 0.5) / _TEXTURE_SCALE


@dataclass(frozen=True)
class SceneObject:
    """What a data set says about one thing in a scene."""

    sprites: tuple[Sprite, ...]
    """One; or, for a crowd, many of one shape that count as one region."""
    visible: float
    """Share of its full area that is inside the image and not hidden, 0..1."""

    @property
    def shape(self) -> int:
        return self.sprites[0].shape

    @property
    def is_crowd(self) -> bool:
        return len(self.sprites) > 1

    def mask(self, height: int, width: int) -> np.ndarray:
        """Pixels of its full shape, hidden ones too: bool [H, W]."""
        covers = [_coverage(sprite.polygon(), height, width) for sprite in self.sprites]
        return np.max(covers, axis=0) >= 128


class Scene:
    """A picture that keeps book of what hides what. Later things lie in front of earlier ones."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng, self.height, self.width = rng, height, width
        self.is_dark = rng.random() < 0.5
        self._backdrop = self._color(rng.uniform(0.12, 0.28) if self.is_dark else rng.uniform(0.72, 0.88))
        self._image = self._background()  # float32 [H, W, 3]
        self._owner = np.full((height, width), _NOBODY, dtype=np.int64)
        self._groups: list[tuple[Sprite, ...]] = []
        self._areas: list[float] = []

    def add(self, *sprites: Sprite, min_visible: float) -> bool:
        """Draw sprites as one object, unless it or an earlier one would show less than ``min_visible``."""
        polygons = [sprite.polygon() for sprite in sprites]
        covers = [_coverage(polygon, self.height, self.width) for polygon in polygons]
        area = sum(map(polygon_area, polygons))
        if not self._claim(np.max(covers, axis=0), len(self._groups), [*self._areas, area], min_visible):
            return False
        for sprite, cover in zip(sprites, covers, strict=True):
            window = sprite.window(self.height, self.width)
            self._paint(window, cv2.dilate(cover, _RIM), self._backdrop)
            self._paint(window, cover, self._textured(sprite, window))
        self._groups.append(sprites)
        self._areas.append(area)
        return True

    def hide(self, polygon: np.ndarray, *, min_visible: float) -> bool:
        """Draw a plain polygon [P, 2], no object, unless an object would show less than ``min_visible``."""
        cover = _coverage(polygon, self.height, self.width)
        if not self._claim(cover, _NOBODY, self._areas, min_visible):
            return False
        self._paint((slice(None), slice(None)), cover, self._color(self.rng.uniform(0.25, 0.75)))
        return True

    def objects(self) -> list[SceneObject]:
        """Everything added, from back to front."""
        shares = _visible_shares(self._owner, self._areas)
        return [SceneObject(group, min(1.0, float(share))) for group, share in zip(self._groups, shares, strict=True)]

    def render(self) -> np.ndarray:
        """The picture with the noise of a camera: uint8 [H, W, 3] BGR."""
        noise = self.rng.standard_normal(self._image.shape, dtype=np.float32)
        return np.clip(self._image + noise * self.rng.uniform(4, 12), 0, 255).astype(np.uint8)

    def _claim(self, cover: np.ndarray, owner: int, areas: list[float], min_visible: float) -> bool:
        """Give the covered pixels to ``owner`` and return True, or change nothing and return False."""
        owners = np.where(cover >= 128, owner, self._owner)
        if (_visible_shares(owners, areas) < min_visible).any():
            return False
        self._owner = owners
        return True

    def _paint(self, window: tuple[slice, slice], cover: np.ndarray, color: np.ndarray) -> None:
        """Lay a color, [3] or [h, w, 3], over a window of the picture; ``cover`` [H, W] is its opacity."""
        alpha = (cover[window] * np.float32(1 / 255))[:, :, None]
        view = self._image[window]
        view += alpha * (color.astype(np.float32) - view)

    def _color(self, luminance: float) -> np.ndarray:
        """A random color [3] of the given luminance (0..1): gray plus a hue that adds no luminance."""
        chroma = self.rng.uniform(-1, 1, 3)
        chroma -= chroma @ _LUMINANCE
        return np.clip(255 * (luminance + 0.3 * chroma), 0, 255)

    def _background(self) -> np.ndarray:
        """Shades of the backdrop in a coarse grid, blown up to soft blobs and gradients: [H, W, 3]."""
        rows, columns = self.rng.integers(2, 7, 2)
        steps = self.rng.uniform(-0.11, 0.11, (rows, columns, 1)) + self.rng.uniform(-0.08, 0.08, (rows, columns, 3))
        coarse = (self._backdrop + 255 * steps).astype(np.float32)
        return cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_CUBIC)

    def _textured(self, sprite: Sprite, window: tuple[slice, slice]) -> np.ndarray:
        """The sprite's pattern over a window, in colors that stand out from the background: [h, w, 3]."""
        luminances = (0.92, 0.64) if self.is_dark else (0.08, 0.36)
        first, second = (self._color(luminance + self.rng.uniform(-0.05, 0.05)) for luminance in luminances)
        period = self.rng.uniform(0.38, 0.55)
        pattern = _texture(TEXTURES[sprite.texture], *sprite.frame(window), period, self.rng)
        size = (pattern.shape[1] // _TEXTURE_SCALE, pattern.shape[0] // _TEXTURE_SCALE)
        share = cv2.resize(pattern.astype(np.float32), size, interpolation=cv2.INTER_AREA)[:, :, None]
        return first + share * (second - first)


def _visible_shares(owners: np.ndarray, areas: list[float]) -> np.ndarray:
    """Share of each object's full area (pixels) that it owns in [H, W]: float64 [number of objects]."""
    return np.bincount(owners[owners >= 0], minlength=len(areas)) / np.array(areas)


# Kinds of scenes -------------------------------------------------------------------------------------------


def classification_scene(rng: np.random.Generator, shape: int, texture: int, *, height: int, width: int) -> np.ndarray:
    """One object, some clutter behind it and often something in front: uint8 [H, W, 3] BGR.

    At least 70 % of the object is visible. It fills most of the picture, as in ImageNet.
    """
    scene = Scene(rng, height, width)
    for _ in range(rng.integers(0, 3)):
        scene.hide(_clutter(scene, (0.02, 0.06)), min_visible=0)
    radius = rng.uniform(0.38, 0.48) * min(height, width)
    placed = False
    while not placed:
        placed = scene.add(_sprite(scene, radius, shape, texture), min_visible=0.98)
    if rng.random() < 0.4:
        scene.hide(_clutter(scene, (0.05, 0.12)), min_visible=0.7)
    return scene.render()


def detection_scene(
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
    num_objects: int,
    with_crowd: bool,
    min_visible: float,
) -> tuple[np.ndarray, list[SceneObject]]:
    """Several objects that may hide one another or leave the image in part.

    Args:
        num_objects: asked for; an object that finds no place in 20 tries is skipped.
        with_crowd: put a crowd of small shapes behind the objects.
        min_visible: share of every object that stays visible at least.

    Returns:
        The image, uint8 [H, W, 3] BGR, and its objects from back to front.
    """
    scene = Scene(rng, height, width)
    for _ in range(rng.integers(0, 5)):
        scene.hide(_clutter(scene, (0.02, 0.06)), min_visible=0)
    if with_crowd:
        scene.add(*_crowd(scene), min_visible=min_visible)
    for _ in range(num_objects):
        radius = math.exp(rng.uniform(math.log(14), math.log(45)))  # 28 to 90 pixels across
        shape, texture = int(rng.integers(len(SHAPES))), int(rng.integers(len(TEXTURES)))
        for _ in range(20):
            if scene.add(_sprite(scene, radius, shape, texture), min_visible=min_visible):
                break
    return scene.render(), scene.objects()


def _sprite(scene: Scene, radius: float, shape: int, texture: int) -> Sprite:
    """A sprite anywhere in the scene, but not so far out that most of it would be cut off.

    It stands upright give or take 30 degrees, as most things in photos do: shapes at any angle take a small network
    many times as long to tell apart.
    """
    x, y = (scene.rng.uniform(0.6 * radius, size - 0.6 * radius) for size in (scene.width, scene.height))
    angle = scene.rng.uniform(-math.pi / 6, math.pi / 6)
    return Sprite(shape=shape, texture=texture, center=(x, y), radius=radius, angle=angle)


def _crowd(scene: Scene) -> list[Sprite]:
    """Eight to twelve small sprites of one shape and texture, close together without touching."""
    rng = scene.rng
    shape, texture = int(rng.integers(len(SHAPES))), int(rng.integers(len(TEXTURES)))
    radius, pitch = rng.uniform(5, 6.5), 17.0
    columns, rows = 4, int(rng.integers(2, 4))
    room = np.array([scene.width - columns * pitch, scene.height - rows * pitch])
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    centers = rng.uniform(pitch, room) + pitch * cells + rng.uniform(-2, 2, cells.shape)
    angles = rng.uniform(0, 2 * math.pi, len(cells)).tolist()
    return [
        Sprite(shape=shape, texture=texture, center=(x, y), radius=radius, angle=angle)
        for (x, y), angle in zip(centers.tolist(), angles, strict=True)
    ]


def _clutter(scene: Scene, size: tuple[float, float]) -> np.ndarray:
    """An irregular polygon [7, 2] anywhere in the scene, or one time in three a long bar across it [4, 2].

    ``size`` is the range of its radius, or of the width of a bar, as a share of the image's shorter side.
    """
    rng = scene.rng
    center = np.array([rng.uniform(0, scene.width), rng.uniform(0, scene.height)])
    radius = rng.uniform(*size) * min(scene.height, scene.width)
    angle = rng.uniform(0, 360)
    if rng.random() < 1 / 3:
        along, across = _arc(angle, angle + 90, 2)
        length = scene.height + scene.width
        ends = [(-length, -1), (length, -1), (length, 1), (-length, 1)]
        return np.array([center + a * along + b * radius / 2 * across for a, b in ends])
    return center + _arc(angle, angle + 310, 7) * radius * rng.uniform(0.5, 1, (7, 1))
