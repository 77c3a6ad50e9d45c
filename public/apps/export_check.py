"""Whether an exported file says what PyTorch says: the largest differences, and what only one of the two found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from public.geometry.boxes import pairwise_iou
from public.geometry.labels import PADDING

SCORE_TOLERANCE = 1e-4
"""Of scores and probabilities."""
BOX_TOLERANCE = 0.05
"""Of each number of a box, pixels of the canvas."""
_SAME_IOU, _SAME_PIXELS = 0.5, 1.0
"""Two boxes that overlap by less, and lie farther apart, are two findings."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where a detection stands on an edge, so that rounding may decide whether it is there."""

    score_threshold: float
    """Of the network."""
    iou_threshold: float | None
    """Of its suppression; None: there is none."""


class Difference(NamedTuple):
    """What two answers to the same pictures differ by."""

    score: float = 0.0
    """The largest of scores or probabilities."""
    box: float = 0.0
    """The largest of numbers of boxes, pixels."""
    alone: int = 0
    """Detections that only one side has, but for those on an edge."""
    detections: int = 0
    """Of either side, what both have once."""

    @property
    def is_small(self) -> bool:
        """Whether the two say the same."""
        return self.score <= SCORE_TOLERANCE and self.box <= BOX_TOLERANCE and self.alone == 0

    def __str__(self) -> str:
        if not self.detections:
            return f"scores by {self.score:.1e}"
        alone = f", {self.alone} of {self.detections} boxes found by one side alone" if self.alone else ""
        return f"scores by {self.score:.1e}, boxes by {self.box:.1e} px{alone}"

    @classmethod
    def of(cls, parts: Sequence["Difference"]) -> "Difference":
        """Of all parts together."""
        scores, boxes, alone, detections = zip(*parts, strict=True)
        return cls(max(scores), max(boxes), sum(alone), sum(detections))


def difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], limits: Limits | None) -> Difference:
    """Of a batch.

    Args:
        ours: probabilities [B, C]; or boxes [B, D, 4], scores [B, D] and labels [B, D].
        theirs: likewise.
        limits: of a detector.
    """
    if limits is None:
        return Difference(score=_largest(ours[0] - theirs[0]))
    images = zip(*ours, *theirs, strict=True)
    return Difference.of([_of_image(_Found.of(*rows[:3]), _Found.of(*rows[3:]), limits) for rows in images])


class _Found(NamedTuple):
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    is_full: bool
    """Whether there are as many as there can be."""

    @classmethod
    def of(cls, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> "_Found":
        """The rows that do not only fill up."""
        there = labels != PADDING
        return cls(boxes[there], scores[there], labels[there], bool(there.all()))

    def overlaps(self, other: "_Found") -> np.ndarray:
        """[n, m], -1 for two classes."""
        overlaps = pairwise_iou(torch.from_numpy(self.boxes).double(), torch.from_numpy(other.boxes).double())
        return np.where(self.labels[:, None] == other.labels, overlaps.nan_to_num().numpy(), -1)


def _of_image(ours: _Found, theirs: _Found, limits: Limits) -> Difference:
    mine, yours = _pairs(ours, theirs)
    score = _largest(ours.scores[mine] - theirs.scores[yours])
    box = _largest(ours.boxes[mine] - theirs.boxes[yours])
    alone = _alone(ours, np.setdiff1d(np.arange(len(ours.scores)), mine), theirs, limits)
    alone += _alone(theirs, np.setdiff1d(np.arange(len(theirs.scores)), yours), ours, limits)
    return Difference(score, box, alone, len(ours.scores) + len(theirs.scores) - len(mine))


def _pairs(ours: _Found, theirs: _Found) -> tuple[np.ndarray, np.ndarray]:
    """Which are the same objects, the nearest pairs first."""
    pixels = np.abs(ours.boxes[:, None] - theirs.boxes).max(2, initial=0)
    scores = np.abs(ours.scores[:, None] - theirs.scores)
    distances = np.maximum(pixels / BOX_TOLERANCE, scores / SCORE_TOLERANCE)
    near = (ours.overlaps(theirs) >= _SAME_IOU) | (pixels <= _SAME_PIXELS)
    pairs, free = [], near & (ours.labels[:, None] == theirs.labels)
    for place in np.argsort(distances, axis=None, kind="stable"):
        row, column = divmod(int(place), max(1, distances.shape[1]))
        if free[row, column]:
            pairs.append((row, column))
            free[row], free[:, column] = False, False
    mine, yours = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return mine, yours


def _alone(found: _Found, rows: np.ndarray, other: _Found, limits: Limits) -> int:
    """How many of these rows, which the other side has not, are on no edge."""
    last = max((side.scores.min() for side in (found, other) if side.is_full and len(side.scores)), default=-np.inf)
    on_edge = found.scores[rows] <= max(limits.score_threshold, last) + SCORE_TOLERANCE
    if limits.iou_threshold is not None:
        for side in (found, other):
            on_edge |= (np.abs(found.overlaps(side)[rows] - limits.iou_threshold) <= SCORE_TOLERANCE).any(1)
    return int((~on_edge).sum())


def _largest(values: np.ndarray) -> float:
    # what is no number is as wrong as can be
    return float(np.abs(np.nan_to_num(values, nan=np.inf)).max()) if values.size else 0.0
