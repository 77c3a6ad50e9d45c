"""COCO's twelve numbers through faster-coco-eval, which computes pycocotools' numbers to the last bit."""

import contextlib
import gc
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from public.config.names import first_line
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.coco import coco_rows
from public.datasets.predictions import Predictions
from public.evaluation.evaluator import Curves, DetectionResult, Evaluator, mean_or_minus_one

METRICS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
"""In COCO's order. AP and AR are means over ten IoUs and all classes; small objects are those below 32 x 32 pixels,
large ones those above 96 x 96; AR_10 is the recall of the ten best detections of each class in an image."""


def _silent(*words: object) -> None:
    """Takes what the library would print."""


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Half a million new dicts would set the collector to look through all of them again and again, for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class CocoEvaluator(Evaluator):
    """Evaluates on one split by COCO's rules.

    The ground truth is COCO's own file where there is one, not our arrays: its boxes in float64 and unclipped, the
    areas of the segments, the crowds. For a data set in another format it is made from the arrays: ignored objects are
    crowds, and an area is that of the box. It is read at the first evaluation (on the main process, thus) and kept for
    the next.
    """

    kind = "coco"
    metrics = METRICS
    panels = (("AP", ("AP", "AP50", "AP75")), ("AP by size", ("AP_small", "AP_medium", "AP_large")))
    report_names = ("record_mAP.txt",)

    @cached_property
    def ground_truth(self) -> COCO:
        """The library's index of the objects."""
        annotations = self.annotations
        file = annotations.coco_file
        objects = _make_objects(annotations) if file is None else _read_objects(annotations, file)
        # Numbered anew, from 1: the library takes the number 0 for "no match", and numbers that come twice for one.
        rows = [{"id": number, **row} for number, row in enumerate(objects, start=1)]
        images = [{"id": number} for number in annotations.image_ids.tolist()]
        categories = [
            {"id": number, "name": name}
            for number, name in zip(annotations.category_ids, annotations.class_names, strict=True)
        ]
        return _index(images, categories, rows)

    @_no_garbage_collection()
    def evaluate(self, predictions: Predictions) -> DetectionResult:
        """COCO's numbers: the hundred best detections of a class in an image count, at IoU 0.50 to 0.95.

        The result's rows have AP (over ten IoUs) and AP50 of each class; its curves stand at COCO's 101 recalls.
        """
        truth = self.ground_truth
        # What the library's loadRes does, less the polygon that it makes of each box.
        rows = coco_rows(predictions, self.annotations.category_ids)
        for number, row in enumerate(rows, start=1):
            row |= {"id": number, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
        found = _index(truth.dataset["images"], truth.dataset["categories"], rows)
        assert found.imgToAnns.keys() <= truth.imgs.keys(), "predictions in images of another split"
        evaluation = COCOeval_faster(truth, found, "bbox", print_function=_silent)
        evaluation.run()
        metrics = dict(zip(METRICS, map(float, evaluation.stats), strict=True))
        # [IoU, recall, class, area, most detections] -> [IoU, recall, class]; the library sorts classes by their ids.
        places = np.argsort(np.argsort(self.annotations.category_ids))
        return self._result(metrics, evaluation.eval["precision"][:, :, places, 0, -1], evaluation.params.recThrs)

    def reports(self, result: DetectionResult) -> dict[str, str]:
        """record_mAP.txt, see `format_coco_record`."""
        return {"record_mAP.txt": format_coco_record(result)}

    def _result(self, metrics: dict[str, float], precision: np.ndarray, recall: np.ndarray) -> DetectionResult:
        """The result from precision [T, R, C] at recall [R]."""
        truth, names = self.ground_truth, self.annotations.class_names
        counts = dict.fromkeys(self.annotations.category_ids, 0)
        for row in truth.dataset["annotations"]:
            counts[row["category_id"]] += not row["iscrowd"]
        rows = [
            {"class": name, "objects": count, "AP": _mean(precision[..., c]), "AP50": _mean(precision[0, :, c])}
            for c, (name, count) in enumerate(zip(names, counts.values(), strict=True))
            if count
        ]
        absent = [name for name, count in zip(names, counts.values(), strict=True) if not count]
        curves = Curves(recall, np.where(precision[0] < 0, np.nan, precision[0]).T)
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


def _mean(values: np.ndarray) -> float:
    """The mean over what there is: -1 stands for what has no objects."""
    return mean_or_minus_one(values[values > -1])


def _index(images: list[Any], categories: list[Any], objects: list[Any]) -> COCO:
    index = COCO()
    index.dataset = {"images": images, "categories": categories, "annotations": objects}
    index.createIndex()
    return index


def _read_objects(annotations: DetectionAnnotations, file: Path) -> list[dict[str, Any]]:
    """The objects of COCO's file, in its order, without their outlines (nine tenths of the memory).

    Raises:
        DataError: the file cannot be read any more.
    """
    try:
        rows = json.loads(file.read_bytes())["annotations"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the annotations {file} cannot be read: {first_line(error)}.") from error
    images, categories = set(annotations.image_ids.tolist()), set(annotations.category_ids)
    return [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"],
            "bbox": row["bbox"],
            "area": row.get("area", row["bbox"][2] * row["bbox"][3]),
            "iscrowd": row.get("iscrowd", 0),
        }
        for row in rows
        if row["image_id"] in images and row["category_id"] in categories
    ]


def _make_objects(annotations: DetectionAnnotations) -> list[dict[str, Any]]:
    """The objects of our arrays as COCO's files have them."""
    image_ids = np.repeat(annotations.image_ids, np.diff(annotations.offsets))  # [T]
    truth = Predictions(image_ids, annotations.boxes, np.ones(annotations.num_boxes), annotations.labels)
    rows = coco_rows(truth, annotations.category_ids)
    for row, ignored in zip(rows, annotations.ignored.tolist(), strict=True):
        row |= {"area": row["bbox"][2] * row["bbox"][3], "iscrowd": int(ignored)}
    return rows
