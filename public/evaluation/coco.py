"""COCO's twelve numbers through hotcoco, which gives pycocotools' numbers to the last bit."""

from functools import cached_property

import numpy as np
from hotcoco import COCO, COCOeval

from public.datasets.annotations import DetectionAnnotations, WrittenObjects
from public.datasets.predictions import Predictions, WrittenPredictions, with_sides
from public.evaluation.evaluator import Curves, DetectionResult, Evaluator, mean_or_minus_one
from public.evaluation.resampling import Resampled, Verdicts, average_precisions, mean_precisions

METRICS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
"""In COCO's order. AP and AR are means over ten IoUs and all classes; small objects are those below 32 x 32 pixels,
large ones those above 96 x 96; AR_10 is the recall of the ten best detections of each class in an image."""

SIZES = ("small", "medium", "large")
IOUS = np.arange(50, 100, 5) / 100
"""At which AP is a mean."""
RECALLS = np.linspace(0, 1, 101)
"""At which precision is read."""


class CocoEvaluator(Evaluator):
    """Evaluates on one split by COCO's rules.

    The ground truth is what COCO's own file states where there is one: its boxes in float64 and unclipped, the areas of
    the outlines, the crowds. For a data set in another format it is made from the arrays: ignored objects are crowds,
    and an area is that of the box. It is made at the first evaluation (on the main process, thus) and kept.
    """

    kind = "coco"
    metrics = METRICS
    panels = (("AP", ("AP", "AP50", "AP75")), ("AP by size", ("AP_small", "AP_medium", "AP_large")))
    report_names = ("record_mAP.txt",)
    resampled_metrics = ("AP", "AP50")

    @cached_property
    def truth(self) -> WrittenObjects:
        """The objects to find."""
        return make_truth(self.annotations) if self.annotations.truth is None else self.annotations.truth

    @cached_property
    def ground_truth(self) -> COCO:
        """The library's index of the objects, which numbers images by their ranks and categories by their labels."""
        truth = self.truth
        return COCO.from_arrays(
            [{"id": rank} for rank in range(self.annotations.num_images)],
            [{"id": label, "name": name} for label, name in enumerate(self.annotations.class_names)],
            self._ranks(truth.image_ids),
            truth.labels,
            truth.boxes,
            area=truth.areas,
            iscrowd=truth.crowds,
        )

    def evaluate(self, predictions: Predictions) -> DetectionResult:
        """COCO's numbers: the hundred best detections of a class in an image count, at IoU 0.50 to 0.95.

        The result's rows have AP (over ten IoUs), AP50 and the APs by size of each class, -1 without such objects; its
        curves stand at COCO's 101 recalls.
        """
        return self.evaluate_written(with_sides(predictions))

    def evaluate_written(self, written: WrittenPredictions) -> DetectionResult:
        """The same for the boxes of a file, whose sides are not rounded."""
        evaluation = self.comparison(written)
        evaluation.summary_lines()  # the numbers too; summarize() would print the lines
        metrics = dict(zip(METRICS, map(float, evaluation.stats), strict=True))
        assert evaluation.eval is not None
        # [IoU, recall, class, area, most detections] -> [IoU, recall, class, area]
        precision = np.asarray(evaluation.eval["precision"])[..., -1]
        return self._result(metrics, precision, np.array(evaluation.params.rec_thrs))

    def comparison(self, written: WrittenPredictions) -> COCOeval:
        """The library's evaluation, with precision and recall; its images have their ranks for ids."""
        evaluation = self._judgement(written)
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation

    def resampled(self, written: WrittenPredictions) -> Resampled:
        """AP and AP50. The library matches; its own `compare` counts an image once, however often it was drawn."""
        evaluation = self._judgement(written)
        evaluation.params.area_rng, evaluation.params.area_rng_lbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        judged = [entry for entry in evaluation.eval_imgs if entry is not None]  # of an image and a class
        scores = np.concatenate([np.zeros(0), *(entry["dtScores"] for entry in judged)])
        found = [len(entry["dtScores"]) for entry in judged]
        objects = [int(np.sum(entry["gtInDenominator"])) for entry in judged]
        ranks, labels = (np.array([entry[key] for entry in judged], np.int64) for key in ("image_id", "category_id"))
        images = np.argsort(self.annotations.image_ids)[ranks]
        order = np.lexsort((-scores, np.repeat(labels, found)))
        matched, ignored = (
            np.concatenate([np.zeros((len(IOUS), 0), bool), *(np.array(entry[key], bool) for entry in judged)], axis=1)
            for key in ("dtMatched", "dtIgnore")
        )
        verdicts = Verdicts(
            np.repeat(images, found)[order],
            np.repeat(labels, found)[order],
            np.where(ignored, 0, np.where(matched, 1, -1)).astype(np.int8)[:, order],
            np.repeat(images, objects),
            np.repeat(labels, objects),
        )
        return mean_precisions(average_precisions(verdicts, len(self.annotations.class_names), _covered))

    def _judgement(self, written: WrittenPredictions) -> COCOeval:
        """The library's evaluation before it evaluates."""
        (image_ids, boxes, scores, labels), sides = written
        truth = self.ground_truth
        columns = self._ranks(image_ids), boxes[:, :2], sides, scores, labels
        found = truth.load_res(np.column_stack(columns).astype(np.float64, copy=False))
        return COCOeval(truth, found, "bbox")

    def _ranks(self, image_ids: np.ndarray) -> np.ndarray:
        """The place of each id among the split's, by which equal scores are ordered; int64 [D].

        The ids themselves may have 64 bits, and the library takes them as float64 beside the boxes.
        """
        known = np.sort(self.annotations.image_ids)
        ranks = np.searchsorted(known, image_ids).clip(max=len(known) - 1)
        assert np.array_equal(known[ranks], image_ids), "predictions in images of another split"
        return ranks

    def reports(self, result: DetectionResult) -> dict[str, str]:
        """record_mAP.txt, see `format_coco_record`."""
        return {"record_mAP.txt": format_coco_record(result)}

    def _result(self, metrics: dict[str, float], precision: np.ndarray, recall: np.ndarray) -> DetectionResult:
        """The result from precision [T, R, C, 4] at recall [R]; areas are all, small, medium and large."""
        names = self.annotations.class_names
        counts = np.bincount(self.truth.labels[~self.truth.crowds], minlength=len(names)).tolist()
        rows = [
            {"class": name, "objects": count}
            | {"AP": _mean(precision[:, :, c, 0]), "AP50": _mean(precision[0, :, c, 0])}
            | {f"AP_{size}": _mean(precision[:, :, c, a]) for a, size in enumerate(SIZES, start=1)}
            for c, (name, count) in enumerate(zip(names, counts, strict=True))
            if count
        ]
        absent = [name for name, count in zip(names, counts, strict=True) if not count]
        at_half = precision[0, :, :, 0]
        curves = Curves(recall, np.where(at_half < 0, np.nan, at_half).T)
        return DetectionResult(metrics, rows, absent, names, curves)


def format_coco_record(result: DetectionResult) -> str:
    """COCO's twelve numbers in the words of its own tools, then the AP at IoU 0.5 of each class that has objects.

    Raises:
        KeyError: the result is not by COCO's rules.
    """
    kinds = {"AP": "Average Precision", "AR": "Average Recall"}
    lines = ["COCO results:"]
    for name in METRICS:
        kind, _, condition = name.partition("_")
        iou = f"0.{kind[2:]}" if kind[2:] else "0.50:0.95"
        area = "all" if condition in ("", "1", "10", "100") else condition
        most = condition if condition.isdigit() else "100"
        where = f"IoU={iou:<9} | area={area:>6} | maxDets={most:>3}"
        lines.append(f"{kinds[kind[:2]]:<18} ({kind[:2]}) @[ {where} ] = {result.metrics[name]:.3f}")
    lines += ["", "mAP(IoU=0.5) for each category:"]
    width = max((len(row["class"]) for row in result.per_class), default=0)
    lines += [f"{row['class']:<{width}}: {row['AP50']:.4f}" for row in result.per_class]
    return "\n".join(lines) + "\n"


def _covered(recall: np.ndarray) -> np.ndarray:
    """The part of `RECALLS` at a recall or below."""
    return np.searchsorted(RECALLS, recall, side="right") / len(RECALLS)


def _mean(values: np.ndarray) -> float:
    """The mean over what there is: -1 stands for what has no objects."""
    return mean_or_minus_one(values[values > -1])


def make_truth(annotations: DetectionAnnotations) -> WrittenObjects:
    """The objects of our arrays as COCO's files have them."""
    image_ids = np.repeat(annotations.image_ids, np.diff(annotations.offsets))  # [T]
    boxes = annotations.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return WrittenObjects(image_ids, annotations.labels, boxes, boxes[:, 2:].prod(axis=1), annotations.ignored)
