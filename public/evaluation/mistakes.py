"""What kinds of mistakes a detector makes: classes taken for others, TIDE's six kinds of error, the worst images.

Ignored objects take no part, nor do detections of them (`operating_points.judged`).
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from public.datasets.annotations import DetectionAnnotations
from public.datasets.predictions import rows_of_images, with_sides
from public.evaluation.coco import CocoEvaluator
from public.evaluation.operating_points import Judged

KINDS = {
    "Cls": "wrong class at the right place",
    "Loc": "right class, badly placed (IoU 0.1 to 0.5)",
    "Both": "wrong class, badly placed",
    "Dupe": "an object found a second time",
    "Bkg": "background taken for an object",
    "Miss": "an object that nothing was found at",
}
"""TIDE's, Bolya et al. 2020, https://arxiv.org/abs/2008.08115, in the names that hotcoco has for them."""


class Mistakes(NamedTuple):
    """Of a split."""

    confusion: np.ndarray
    """int64 [C + 1, C + 1] at a threshold and IoU 0.5, whatever the class: rows are the truth, columns what was said;
    the last row is background that was taken for an object, the last column are objects that were missed."""
    errors: list[tuple[str, str, int, float]]
    """(kind, what it is, how often, by how much AP50 would rise without it), over detections of any score."""
    by_image: np.ndarray
    """int64 [N], wrong detections and missed objects of each image at the threshold."""


def find_mistakes(judged: Judged, annotations: DetectionAnnotations, threshold: float) -> Mistakes:
    """Looks at the detections of a split.

    Args:
        judged: the detections that count.
        annotations: of the split.
        threshold: detections of this score or more are shown.
    """
    truth = _without_ignored(annotations)
    comparison = CocoEvaluator(truth).comparison(with_sides(judged.predictions))
    confusion: Any = comparison.confusion_matrix(iou_thr=0.5, min_score=threshold)["matrix"]
    tide: Any = comparison.tide_errors(pos_thr=0.5, bg_thr=0.1)
    errors = [(kind, words, int(tide["counts"][kind]), float(tide["delta_ap"][kind])) for kind, words in KINDS.items()]
    shown = judged.predictions.scores >= judged.predictions.scores.dtype.type(threshold)
    images = rows_of_images(judged.predictions, annotations)
    found = np.bincount(images[shown & judged.right], minlength=annotations.num_images)
    wrong = np.bincount(images[shown & ~judged.right], minlength=annotations.num_images)
    return Mistakes(confusion.astype(np.int64), errors, wrong + np.diff(truth.offsets) - found)


def _without_ignored(annotations: DetectionAnnotations) -> DetectionAnnotations:
    """The split with the objects that are to be found, as arrays alone."""
    kept = ~annotations.ignored
    return replace(
        annotations,
        offsets=np.append(0, np.cumsum(kept))[annotations.offsets],
        boxes=annotations.boxes[kept],
        labels=annotations.labels[kept],
        ignored=np.zeros(int(kept.sum()), bool),
        truth=None,
    )
