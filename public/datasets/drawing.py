"""Boxes with the names of their classes on an image, or classes alone, and figures as files; no display."""

import colorsys
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from public.config.names import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT = cv2.FONT_HERSHEY_SIMPLEX
CAPITAL = 22
"""Height of the font's capitals in pixels at scale 1."""


def class_color(label: int) -> tuple[int, int, int]:
    """RGB: neighboring labels are far apart in hue, and no two of a hundred are equal. Gray for a negative label."""
    if label < 0:
        return 190, 190, 190
    hue = 0.02 + label * 0.6180339887  # the golden ratio divides the circle of hues most evenly
    value, saturation = ((1.0, 0.85), (0.8, 1.0), (1.0, 0.6))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    class_names: list[str],
) -> np.ndarray:
    """A copy of an image with boxes, and the name of its class on each.

    Args:
        image: uint8 [H, W, 3] RGB, of any size: lines and letters grow with it.
        boxes: [N, 4], x1 y1 x2 y2 in its pixels.
        labels: int64 [N]; a negative one is drawn gray as "ignored".
        scores: [N], written behind the names; the best is drawn last, on top. None for ground truth.
        class_names: of the labels.
    """
    image = np.ascontiguousarray(image).copy()
    height, width = image.shape[:2]
    line = max(1, round(max(height, width) / 300))
    best_first = range(len(boxes)) if scores is None else np.argsort(-scores, kind="stable").tolist()
    limits = np.array([width, height, width, height])
    corners = np.rint(boxes).clip(0, limits).astype(int) - (0, 0, 1, 1)  # first and last pixel: both belong to the box
    tags: list[_Tag] = []
    for i in best_first:
        name = class_names[labels[i]] if labels[i] >= 0 else "ignored"
        text = name if scores is None else f"{name} {scores[i]:.2f}"
        tags.append(_place(text, corners[i].tolist(), (height, width), tags))
    for i in reversed(best_first):  # the best lie on top
        x1, y1, x2, y2 = corners[i].tolist()
        cv2.rectangle(image, (x1, y1), (max(x1, x2), max(y1, y2)), class_color(int(labels[i])), line)
    for i, tag in zip(reversed(best_first), reversed(tags), strict=True):  # no line runs through the letters
        _write(image, tag, class_color(int(labels[i])))
    return image


def draw_classes(image: np.ndarray, labels: np.ndarray, scores: np.ndarray, names: list[str]) -> np.ndarray:
    """A copy of an image with classes in its top left corner, as many as there is room for.

    Args:
        image: uint8 [H, W, 3] RGB, of any size: the letters grow with it.
        labels: int64 [K], which choose the colors.
        scores: [K], written behind the names.
        names: K of them.
    """
    image = np.ascontiguousarray(image).copy()
    top = 0
    for label, score, name in zip(labels.tolist(), scores.tolist(), names, strict=True):
        tag = _place(f"{name} {score:.2f}", [0, 0, 0, 0], (image.shape[0], image.shape[1]), [])._replace(y=top)
        if top + tag.height > image.shape[0]:
            break
        _write(image, tag, class_color(label))
        top += tag.height
    return image


class _Tag(NamedTuple):
    """Text on a patch of color."""

    text: str
    x: int
    y: int
    width: int
    height: int
    scale: float
    """Of the font."""
    margin: int
    """Pixels around the letters."""

    def meets(self, other: "_Tag") -> bool:
        """Whether they share pixels."""
        return max(self.x, other.x) < min(self.x + self.width, other.x + other.width) and max(self.y, other.y) < min(
            self.y + self.height, other.y + other.height
        )


def _place(text: str, box: list[int], size: tuple[int, int], others: list[_Tag]) -> _Tag:
    """The tag of a box (first and last pixels) in an image of this height and width, shrunk to lie inside it.

    It goes above the box, into its top or below it, where it first is clear of other tags; above, where it never is.
    """
    text = printable(text)  # OpenCV ends the process on letters that are none
    height, width = size
    scale = max(8.0, max(height, width) / 45) / CAPITAL
    letters = cv2.getTextSize(text, FONT, scale, 1)[0][0] + 4
    scale *= min(1.0, width / letters, height / (2 * CAPITAL * scale))
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, _thickness(scale))
    margin = max(1, round(3 * scale))
    tag_width, tag_height = min(width, text_width + 2 * margin), min(height, text_height + below + margin)
    x = max(0, min(box[0], width - tag_width))
    tags = [
        _Tag(text, x, max(0, min(y, height - tag_height)), tag_width, tag_height, scale, margin)
        for y in (box[1] - tag_height, box[1], box[3] + 1)
    ]
    return next((tag for tag in tags if not any(map(tag.meets, others))), tags[0])


def _thickness(scale: float) -> int:
    return max(1, round(1.4 * scale))


def _write(image: np.ndarray, tag: _Tag, color: tuple[int, int, int]) -> None:
    """Draws a tag, with black or white letters, whichever stands out."""
    patch = np.full((tag.height, tag.width, 3), color, np.uint8)  # one of its own: letters cannot leave it
    ink = (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 120 else (255, 255, 255)
    baseline = tag.height - cv2.getTextSize(tag.text, FONT, tag.scale, 1)[1]
    thickness = _thickness(tag.scale)
    cv2.putText(patch, tag.text, (tag.margin, baseline), FONT, tag.scale, ink, thickness, cv2.LINE_AA)
    image[tag.y : tag.y + tag.height, tag.x : tag.x + tag.width] = patch


def in_rows(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size [H, W, 3], at least one, as rows of one picture; white where the last row has no more."""
    filled = [*tiles, *[np.full_like(tiles[0], 255)] * (-len(tiles) % columns)]
    rows = [np.concatenate(filled[i : i + columns], axis=1) for i in range(0, len(filled), columns)]
    return np.concatenate(rows)


def encoded(kind: str, image: np.ndarray, *, jpeg_quality: int = 95) -> bytes:
    """uint8 [H, W, 3] RGB as the content of a file of a kind, .jpg or .png."""
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if kind == ".jpg" else []
    return cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches, whose parts are laid out to fit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and most programs draw none
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def name_in_plot(name: str) -> str:
    """A class's name as a plot shows it: so short that it leaves room for the plot, no formula, and not hidden."""
    short = name if len(name) <= 24 else f"{name[:23]}…"
    return (f" {short}" if name.startswith("_") else short).replace("$", r"\$")


def png_of(figure: "Figure") -> bytes:
    """A figure as the content of a PNG file: written in one go, a full disk leaves no part of it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
