"""What judges a detector's predictions by the rules of a data set, and what it gives: the numbers, rows and curves."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from public.datasets.annotations import DetectionAnnotations
from public.datasets.predictions import Predictions, WrittenPredictions
from public.evaluation.resampling import Resampled


class Curves(NamedTuple):
    """Precision over recall at IoU 0.5."""

    recall: np.ndarray
    """float64 [R], rising from 0 to 1, the same for all classes."""
    precision: np.ndarray
    """float64 [C, R], the highest that is reached at this recall or above; NaN for a class without objects."""


class DetectionResult(NamedTuple):
    """What predictions are worth by some rules, whichever: tables and plots read this alone."""

    metrics: dict[str, float]
    """Means over the classes that have objects; -1 where none has (COCO's own convention)."""
    per_class: list[dict[str, Any]]
    """One row for each class that has objects: its name, the number of its objects, then metrics."""
    absent: list[str]
    """Classes without an object to find: in no row and no mean."""
    class_names: list[str]
    """The classes of `curves`."""
    curves: Curves
    """For the precision-recall plot."""


class Evaluator:
    """Some rules on one split; each is one line of `public.evaluation.detection.EVALUATORS`.

    Args:
        annotations: of the split, in whatever format it lies. All its images count, whether anything was found in them
            or not.
    """

    kind: ClassVar[str]
    """What --data.metrics calls these rules."""
    metrics: ClassVar[tuple[str, ...]]
    """The metrics that they give, in the order of tables."""
    panels: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]]
    """What curves.png shows of them: a title and the metrics under it."""
    report_names: ClassVar[tuple[str, ...]] = ()
    """The files that `reports` gives."""
    resampled_metrics: ClassVar[tuple[str, ...]] = ()
    """The metrics that `resampled` gives; none: a comparison by these rules has no intervals."""

    def __init__(self, annotations: DetectionAnnotations) -> None:
        self.annotations = annotations

    def evaluate(self, predictions: Predictions) -> DetectionResult:
        """What the predictions for all images of the split are worth."""
        raise NotImplementedError

    def evaluate_written(self, written: WrittenPredictions) -> DetectionResult:
        """What the predictions of a file of results are worth, in its own numbers."""
        return self.evaluate(written.predictions)

    def resampled(self, written: WrittenPredictions) -> Resampled:
        """The same with images that count more or less often, for intervals: `resampled_metrics`, in their order."""
        raise NotImplementedError

    def reports(self, result: DetectionResult) -> dict[str, str]:
        """Further files of a report by name, as these rules' own tools write them: the texts of `report_names`."""
        return {}


def existing(metrics: dict[str, float]) -> dict[str, float]:
    """The numbers that there are: without those of no objects, which COCO calls -1."""
    return {name: value for name, value in metrics.items() if value != -1}


def mean_or_minus_one(values: np.ndarray) -> float:
    """The mean, or -1 where there is nothing to take it of: COCO's convention, for every data set."""
    return float(np.mean(values)) if values.size else -1.0
