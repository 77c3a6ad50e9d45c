"""Pascal VOC's average precision by the devkit's protocol (VOCevaldet.m), at ten overlaps, with no loop over boxes.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010; the devkit's notes. The devkit counts
pixels from 1 and a box of columns 1 to 3 as 3 wide; ours has 0 to 3, so that areas and overlaps are the same.
"""

from typing import Any, NamedTuple

import numpy as np

from public.datasets.annotations import DetectionAnnotations
from public.datasets.predictions import Predictions, WrittenPredictions, rows_of_images
from public.evaluation.evaluator import Curves, DetectionResult, Evaluator, mean_or_minus_one
from public.evaluation.resampling import Resampled, Verdicts, average_precisions, mean_precisions

IOUS = np.arange(50, 100, 5) / 100
"""The thresholds of mAP50_95; the first one is VOC's own."""
ELEVEN = np.arange(11) / 10
"""The recalls of the 11-point average."""
CURVE = np.arange(101) / 100
"""The recalls of the plotted curve."""


class Matches(NamedTuple):
    """Predictions by falling score, each with the object of its class and image that it overlaps most.

    The devkit asks for the best object before it asks whether that one is taken, so this depends on no threshold and
    on no other prediction.
    """

    labels: np.ndarray
    """int64 [D]."""
    ious: np.ndarray
    """float64 [D], with that object; -1 where there is none."""
    objects: np.ndarray
    """int64 [D], its row in the annotations; -1 where there is none."""


class VocEvaluator(Evaluator):
    """Evaluates on one split by VOC's rules.

    The split's ignored objects are its difficult ones: they need not be found, and a detection of one is neither right
    nor wrong.
    """

    kind = "voc"
    metrics = ("mAP50_11point", "mAP50", "mAP50_95")
    resampled_metrics = ("mAP50_95", "mAP50")
    panels = (("mAP", ("mAP50", "mAP50_11point", "mAP50_95")),)

    def evaluate(self, predictions: Predictions) -> DetectionResult:
        """mAP50_11point (VOC2007's measure), mAP50 (area under the curve: since VOC2010), mAP50_95 (ten overlaps).

        Each row of the result has these for one class, without the m.
        """
        annotations = self.annotations
        matches = match(predictions, annotations)
        labels = annotations.labels[~annotations.ignored]
        counts = np.bincount(labels, minlength=len(annotations.class_names))
        verdicts = np.stack([judge(matches, annotations.ignored, iou) for iou in IOUS])  # [10, D]
        rows: list[dict[str, Any]] = []
        curves = np.full((len(counts), len(CURVE)), np.nan)
        for label in np.flatnonzero(counts):
            chosen = verdicts[:, matches.labels == label]  # [10, Dc]
            points = [recall_and_precision(verdict, counts[label]) for verdict in chosen]
            areas = [area_under(*point) for point in points]
            curves[label] = precision_at(CURVE, *points[0])
            rows.append(
                {
                    "class": annotations.class_names[label],
                    "objects": int(counts[label]),
                    "AP50_11point": float(precision_at(ELEVEN, *points[0]).mean()),
                    "AP50": areas[0],
                    "AP50_95": float(np.mean(areas)),
                }
            )
        names = ("AP50_11point", "AP50", "AP50_95")
        metrics = {f"m{name}": mean_or_minus_one(np.array([row[name] for row in rows])) for name in names}
        absent = [name for name, count in zip(annotations.class_names, counts, strict=True) if count == 0]
        return DetectionResult(metrics, rows, absent, annotations.class_names, Curves(CURVE, curves))

    def resampled(self, written: WrittenPredictions) -> Resampled:
        """mAP50_95 and mAP50."""
        predictions, annotations = written.predictions, self.annotations
        matches = match(predictions, annotations)
        order = np.argsort(matches.labels, kind="stable")
        images = rows_of_images(predictions, annotations)[np.argsort(-predictions.scores, kind="stable")]
        easy = ~annotations.ignored
        verdicts = Verdicts(
            images[order],
            matches.labels[order],
            np.stack([judge(matches, annotations.ignored, iou) for iou in IOUS])[:, order],
            np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))[easy],
            annotations.labels[easy],
        )
        return mean_precisions(average_precisions(verdicts, len(annotations.class_names), lambda recall: recall))


def match(predictions: Predictions, annotations: DetectionAnnotations) -> Matches:
    """Finds each prediction's object; predictions of equal score keep their order, and so do objects of equal IoU."""
    order = np.argsort(-predictions.scores, kind="stable")
    predictions = Predictions(*(array[order] for array in predictions))
    num_classes = len(annotations.class_names)
    # Objects grouped by image and class: those of a prediction lie side by side.
    images = np.repeat(np.arange(annotations.num_images), np.diff(annotations.offsets))  # [T]
    object_keys = images * num_classes + annotations.labels
    grouped = np.argsort(object_keys, kind="stable")
    keys = rows_of_images(predictions, annotations) * num_classes + predictions.labels  # [D]
    first = np.searchsorted(object_keys[grouped], keys)
    counts = np.searchsorted(object_keys[grouped], keys, side="right") - first
    # One row for each prediction and each of its objects, P of them.
    begin = np.cumsum(counts) - counts  # [D], where a prediction's rows begin
    rows = np.repeat(np.arange(len(keys)), counts)  # [P]
    candidates = grouped[first[rows] + np.arange(len(rows)) - begin[rows]]
    ious = overlaps(predictions.boxes[rows], annotations.boxes[candidates])
    # By prediction, then falling IoU; the first row of each prediction is its best.
    best = np.lexsort((-ious, rows))[begin[counts > 0]]
    result = Matches(predictions.labels, np.full(len(keys), -1.0), np.full(len(keys), -1))
    result.ious[counts > 0], result.objects[counts > 0] = ious[best], candidates[best]
    return result


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of boxes [P, 4] with others [P, 4], row by row, float64 [P]."""
    boxes, others = boxes.astype(np.float64), others.astype(np.float64)
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])  # [P, 2]
    common = sides.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return common / (areas - common)


def judge(matches: Matches, difficult: np.ndarray, iou: float) -> np.ndarray:
    """Right (1), wrong (-1) or neither (0, a difficult object), int8 [D].

    Right is the best-scored prediction of each object; the later ones are duplicates, and wrong.
    """
    verdict = np.full(len(matches.ious), -1, dtype=np.int8)
    near = np.flatnonzero(matches.ious >= iou)  # the devkit has >=, some of its translations >
    easy = ~difficult[matches.objects[near]]
    verdict[near[~easy]] = 0
    near = near[easy]
    _, first = np.unique(matches.objects[near], return_index=True)
    verdict[near[first]] = 1
    return verdict


def recall_and_precision(verdict: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """After each prediction that counts, by falling score: float64 [K], [K]."""
    right = verdict[verdict != 0] > 0
    found = np.cumsum(right)
    return found / num_objects, found / np.arange(1, len(right) + 1)


def envelope(precision: np.ndarray) -> np.ndarray:
    """The highest precision at each point or at a later one (at a higher recall), [K]."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def area_under(recall: np.ndarray, precision: np.ndarray) -> float:
    """The area under the envelope of the precision-recall curve."""
    return float(np.diff(recall, prepend=0.0) @ envelope(precision))


def precision_at(thresholds: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The highest precision at each of some recalls or above it; 0 where that is not reached."""
    # Recalls n / N and thresholds k / 10 are the doubles nearest to them: equal fractions are equal here.
    return np.append(envelope(precision), 0.0)[np.searchsorted(recall, thresholds)]
