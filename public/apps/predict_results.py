"""What a trained network says of one picture, as plain arrays, and as tables and objects of other libraries."""

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

_SHOWN = 10
"""Labels in a line of text."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is said of one picture, the surest first."""

    source: str
    """The file or address; of a video also the frame, "street.mp4#12"; of an array its place, "picture 0"."""
    height: int
    """Of the picture, pixels."""
    width: int
    """Of the picture, pixels."""
    labels: np.ndarray
    """int64 [K], 0-based."""
    scores: np.ndarray
    """float32 [K], 0..1, falling."""
    names: list[str]
    """The classes of the labels."""

    def __len__(self) -> int:
        return len(self.labels)

    def __str__(self) -> str:
        said = [f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True)]
        more = len(said) - _SHOWN
        return ", ".join(said[:_SHOWN] + [f"and {more} more"] * (more > 0)) or "nothing"

    def rows(self) -> list[dict[str, Any]]:
        """One dict of plain values for each label; floats are those of float32, unrounded."""
        columns = zip(self.names, self.labels.tolist(), self.scores.tolist(), strict=True)
        return [{"class": name, "label": label, "score": score} for name, label, score in columns]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"image": self.source, "height": self.height, "width": self.width, "predictions": self.rows()}

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a line for each label: image, class, label, score, and of a detection its box.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        rows = [{"image": self.source} | row for row in self.rows()]
        return _other("pandas").DataFrame(rows, columns=["image", "class", "label", "score", *self._box_columns])

    _box_columns = ()


@dataclass(frozen=True, kw_only=True)
class Classified(Result):
    """The likeliest classes of a picture."""

    probabilities: np.ndarray
    """float32 [C], of every class in the order of the labels; sums to 1."""

    def to_supervision(self) -> Any:
        """A `supervision.Classifications` of the likeliest classes; raises ModuleNotFoundError without supervision."""
        return _other("supervision").Classifications(class_id=self.labels, confidence=self.scores)


@dataclass(frozen=True, kw_only=True)
class Detected(Result):
    """The objects in a picture."""

    boxes: np.ndarray
    """float32 [K, 4], x1 y1 x2 y2 in pixels of the picture: pixel i covers [i, i + 1)."""

    _box_columns = ("x1", "y1", "x2", "y2")

    def rows(self) -> list[dict[str, Any]]:
        """As of every result, with the corners of the box."""
        corners = (dict(zip(self._box_columns, box, strict=True)) for box in self.boxes.tolist())
        return [row | box for row, box in zip(super().rows(), corners, strict=True)]

    def above(self, threshold: float) -> "Detected":
        """The same without what is weaker."""
        kept = self.scores >= threshold
        names = [name for name, is_kept in zip(self.names, kept.tolist(), strict=True) if is_kept]
        columns = {name: getattr(self, name)[kept] for name in ("labels", "scores", "boxes")}
        return replace(self, names=names, **columns)

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with `class_name` among its data; raises ModuleNotFoundError without
        supervision."""
        names = np.array(self.names, dtype=str)
        return _other("supervision").Detections(
            xyxy=self.boxes, confidence=self.scores, class_id=self.labels, data={"class_name": names}
        )


def _other(library: str) -> Any:
    """A library that only some people have.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise ModuleNotFoundError(
            f"to_{library}() needs the package {library}, which is not installed: pip install {library}.", name=library
        ) from None
