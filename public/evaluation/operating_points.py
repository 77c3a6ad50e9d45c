"""Which score a detection must have to be shown: precision, recall and F1 over that threshold, and where F1 is best.

A detection is right as in VOC's protocol at IoU 0.5 (`public/evaluation/voc.py`): the best-scored one of each object of
its class. Detections of ignored objects count neither way. Shown is what has the threshold's score or more.
"""

from typing import NamedTuple

import numpy as np

from public.datasets.annotations import DetectionAnnotations
from public.datasets.predictions import Predictions
from public.evaluation.voc import judge, match

THRESHOLDS = (np.arange(101) / 100).astype(np.float32)  # as scores are: one that prints as 0.7 is shown at 0.7
"""Where curves are drawn."""


class OperatingPoint(NamedTuple):
    """What a detector is worth at one threshold."""

    threshold: float
    """0..1."""
    precision: float
    """Of what is shown, the part that is right."""
    recall: float
    """Of the objects, the part that is found."""
    f1: float
    """2 precision recall / (precision + recall)."""


class OperatingPoints(NamedTuple):
    """The thresholds of the best F1, and the curves that they are the summits of."""

    best: OperatingPoint | None
    """Of all classes together: right, wrong and missed ones are summed over the classes. None without detections or
    objects."""
    per_class: list[OperatingPoint | None]
    """Of each class by itself; None for a class without detections or objects."""
    precision: np.ndarray
    """float64 [101], at `THRESHOLDS`, all classes together; NaN where nothing is shown."""
    recall: np.ndarray
    """float64 [101]; NaN without objects."""


class Judged(NamedTuple):
    """The K detections of a split that count, by falling score."""

    predictions: Predictions
    right: np.ndarray
    """bool [K]."""


def judged(predictions: Predictions, annotations: DetectionAnnotations) -> Judged:
    """The detections but for those of ignored objects, and whether each is right."""
    verdicts = judge(match(predictions, annotations), annotations.ignored, 0.5)
    order = np.argsort(-predictions.scores, kind="stable")  # that of the verdicts
    counted = verdicts != 0
    return Judged(Predictions(*(column[order][counted] for column in predictions)), verdicts[counted] > 0)


def operating_points(judged: Judged, annotations: DetectionAnnotations) -> OperatingPoints:
    """What a split's detections are worth at every threshold."""
    (_, _, scores, labels), right = judged
    num_objects = np.bincount(annotations.labels[~annotations.ignored], minlength=len(annotations.class_names))
    shown = np.searchsorted(-scores, -THRESHOLDS, side="right")  # [101], how many
    found = np.append(0, np.cumsum(right))[shown]
    with np.errstate(invalid="ignore"):  # 0 / 0: NaN
        precision, recall = found / shown, found / num_objects.sum()
    per_class = [best_point(scores[labels == c], right[labels == c], n) for c, n in enumerate(num_objects.tolist())]
    return OperatingPoints(best_point(scores, right, int(num_objects.sum())), per_class, precision, recall)


def best_point(scores: np.ndarray, right: np.ndarray, num_objects: int) -> OperatingPoint | None:
    """The threshold of the best F1.

    It lies in the middle between the weakest score that is shown and the strongest that is not: a difference in the
    last digit, of another precision or device, then changes nothing. Of equal F1 the one that shows less is taken.

    Args:
        scores: [D], falling.
        right: bool [D].
        num_objects: to be found.
    """
    if not len(scores) or not num_objects:
        return None
    last = np.append(scores[1:] < scores[:-1], True)  # equal scores are shown together
    shown, found = np.flatnonzero(last) + 1, np.cumsum(right)[last]
    f1 = 2 * found / (shown + num_objects)
    best = int(np.argmax(f1))
    weakest = float(scores[shown[best] - 1])
    hidden = float(scores[shown[best]]) if shown[best] < len(scores) else weakest
    precision, recall = float(found[best] / shown[best]), float(found[best] / num_objects)
    return OperatingPoint((weakest + hidden) / 2, precision, recall, float(f1[best]))
