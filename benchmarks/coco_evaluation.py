"""COCO's twelve numbers: our evaluation against pycocotools, on the same ground truth and the same predictions.

    python -m benchmarks.coco_evaluation

The annotations are a real val2017 where there is one, repeated under new ids until it has as many images as COCO's.
The predictions are its objects moved by about a tenth of their size, and random boxes. Both ways have read the ground
truth before, as in a run that is evaluated after each epoch. Ours begins with the arrays of predictions that a
detector's evaluation holds, pycocotools with the list of dicts that it takes, made before its clock starts. Both end
with the twelve numbers, which must be equal to 1e-12.
"""

import contextlib
import io
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.compare import alternate, find_data, report
from public.datasets.annotations import DetectionAnnotations, WrittenObjects
from public.datasets.coco import coco_rows, read_coco
from public.datasets.predictions import Predictions
from public.evaluation.coco import CocoEvaluator


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 3
    """Counted rounds."""
    images: int = 5000
    """Images of the split."""
    detections: int = 100
    """Predictions of each image."""
    data: Path | None = None
    """Folder of COCO's layout with val2017; None: the real data if it is there, else the generated sample."""


def repeat(annotations: DetectionAnnotations, num_images: int, folder: Path) -> DetectionAnnotations:
    """The images over and over under new ids, and a file of COCO's format that holds the original annotations so."""
    content = json.loads(annotations.source.read_bytes())
    of_image: dict[int, list[dict[str, Any]]] = {number: [] for number in annotations.image_ids.tolist()}
    for row in content["annotations"]:
        of_image[row["image_id"]].append(row)
    chosen = np.resize(np.arange(annotations.num_images), num_images)
    rows = [
        row | {"image_id": number}
        for number, image in enumerate(chosen.tolist(), start=1)
        for row in of_image[int(annotations.image_ids[image])]
    ]
    content["annotations"] = [row | {"id": number} for number, row in enumerate(rows, start=1)]
    content["images"] = [
        {"id": number, "height": height, "width": width, "file_name": ""}
        for number, (height, width) in enumerate(annotations.sizes[chosen].tolist(), start=1)
    ]
    source = folder / "instances.json"
    source.write_text(json.dumps(content))
    counts = np.diff(annotations.offsets)[chosen]
    objects = np.concatenate([np.arange(*annotations.offsets[image : image + 2]) for image in chosen])
    return replace(
        annotations,
        files=annotations.files[chosen],
        image_ids=np.arange(1, num_images + 1),
        sizes=annotations.sizes[chosen],
        offsets=np.cumsum([0, *counts]),
        boxes=annotations.boxes[objects],
        labels=annotations.labels[objects],
        ignored=annotations.ignored[objects],
        source=source,
        truth=WrittenObjects(
            np.array([row["image_id"] for row in rows]),
            np.array([annotations.category_ids.index(row["category_id"]) for row in rows]),
            np.array([row["bbox"] for row in rows], dtype=np.float64),
            np.array([row["area"] for row in rows], dtype=np.float64),
            np.array([row["iscrowd"] for row in rows], dtype=bool),
        ),
    )


def predict(annotations: DetectionAnnotations, per_image: int, rng: np.random.Generator) -> Predictions:
    """As many predictions for each image: two thirds moved objects, a fifth of them of another class; random boxes."""
    images = np.repeat(np.arange(annotations.num_images), per_image)  # [D]
    first, counts = annotations.offsets[images], np.diff(annotations.offsets)[images]
    objects = (first + (rng.random(len(images)) * counts).astype(int)).clip(max=annotations.num_boxes - 1)
    boxes = annotations.boxes[objects]
    boxes = boxes + rng.normal(0, 0.1, boxes.shape) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    ends = rng.random((len(images), 2, 2)) * annotations.sizes[images, None, ::-1]
    anywhere = (counts == 0) | (rng.random(len(images)) < 1 / 3)
    boxes = np.where(anywhere[:, None], ends.reshape(-1, 4), boxes)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    of_any_class = rng.integers(0, len(annotations.class_names), len(images))
    labels = np.where(anywhere | (rng.random(len(images)) < 0.2), of_any_class, annotations.labels[objects])
    scores = rng.random(len(images)).astype(np.float32)
    return Predictions(annotations.image_ids[images], boxes.astype(np.float32), scores, labels)


class Ways:
    """Both evaluations of the same predictions; each turn gives images per second."""

    def __init__(self, annotations: DetectionAnnotations, predictions: Predictions) -> None:
        self.annotations, self.predictions = annotations, predictions
        self.evaluator = CocoEvaluator(annotations)
        _ = self.evaluator.ground_truth
        with contextlib.redirect_stdout(io.StringIO()):
            self.truth = COCO(str(annotations.source))
        self.numbers: dict[str, list[float]] = {}

    def ours(self) -> float:
        """From arrays to numbers."""
        start = time.perf_counter()
        result = self.evaluator.evaluate(self.predictions)
        seconds = time.perf_counter() - start
        self.numbers["ours"] = [*result.metrics.values()]
        return self.annotations.num_images / seconds

    def pycocotools(self) -> float:
        """From dicts to numbers."""
        rows: Any = coco_rows(self.predictions, self.annotations.category_ids)  # new ones: it writes into them
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            evaluation = COCOeval(self.truth, self.truth.loadRes(rows), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            seconds = time.perf_counter() - start
        self.numbers["pycocotools"] = evaluation.stats.tolist()
        return self.annotations.num_images / seconds


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    folder, data = find_data("coco_mini", "COCO2017", options.data)
    with tempfile.TemporaryDirectory() as temporary:
        annotations = repeat(read_coco(folder, "val2017"), options.images, Path(temporary))
        predictions = predict(annotations, options.detections, np.random.default_rng(0))
        ways = Ways(annotations, predictions)
        comparison = alternate({"ours": ways.ours, "pycocotools": ways.pycocotools}, options.rounds, "images/s")
    difference = np.abs(np.subtract(ways.numbers["ours"], ways.numbers["pycocotools"])).max()
    assert difference <= 1e-12, f"the twelve numbers differ by up to {difference}"
    words = f"{data} val2017 repeated to {options.images} images, {len(predictions.scores)} predictions"
    report("coco_evaluation", comparison, 60.0, torch.device("cpu"), words)
    print(f"the twelve numbers are equal to {difference:.0e}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
