"""What a detector says about a split, gathered from all processes and written as files; and what it is worth."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from public.datasets.annotations import DetectionAnnotations
from public.runtime.distributed import World
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text


class Predictions(NamedTuple):
    """D detections in the images of a split."""

    image_ids: np.ndarray
    """int64 [D], the data set's own."""
    boxes: np.ndarray
    """float32 [D, 4], x1 y1 x2 y2 in pixels of the original image: pixel i covers [i, i + 1)."""
    scores: np.ndarray
    """float32 [D]."""
    labels: np.ndarray
    """int64 [D], 0-based."""


class Curves(NamedTuple):
    """Precision over recall at IoU 0.5."""

    recall: np.ndarray
    """float64 [R], rising from 0 to 1, the same for all classes."""
    precision: np.ndarray
    """float64 [C, R], the highest that is reached at this recall or above; NaN for a class without objects."""


class DetectionResult(NamedTuple):
    """What predictions are worth by one data set's rules, whichever: tables and plots read this alone."""

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


def gather_predictions(local: Predictions, world: World) -> Predictions:
    """The predictions of all processes, on every process, sorted by image.

    Within an image they keep their order, and each image belongs to one process: the result is the same, to the last
    bit, for any number of processes.
    """
    parts = world.gather(tuple(local))
    together = Predictions(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order = np.argsort(together.image_ids, kind="stable")
    return Predictions(*(array[order] for array in together))


def coco_rows(predictions: Predictions, category_ids: list[int]) -> list[dict[str, Any]]:
    """One dict a detection, as COCO's results files have them: x y width height, the data set's category ids.

    Subtracted in float64, where differences of float32 coordinates of one magnitude are exact: an evaluation of the
    file gives the numbers that we give.
    """
    boxes = predictions.boxes.astype(np.float64)  # [D, 4]
    boxes[:, 2:] -= boxes[:, :2]
    categories = np.asarray(category_ids, dtype=np.int64)[predictions.labels]
    columns = predictions.image_ids.tolist(), categories.tolist(), boxes.tolist(), predictions.scores.tolist()
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(*columns, strict=True)
    ]


def write_coco_json(path: Path, predictions: Predictions, annotations: DetectionAnnotations) -> None:
    """Writes the results file that COCO's tools and server read. A full disk is a warning, and no file."""
    with going_on_when_disk_is_full(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(coco_rows(predictions, annotations.category_ids)) + "\n")


def write_voc_files(folder: Path, predictions: Predictions, annotations: DetectionAnnotations) -> None:
    """Writes the results files that VOC's devkit reads, comp4_det_test_<class>.txt, one for every class.

    A line is the image's name, the score, and the first and last column and row of pixels that belong to the box,
    counted from 1: x1 + 1, y1 + 1, x2, y2. A full disk is a warning, and no file.
    """
    images = rows_of_images(predictions, annotations)
    stems = [Path(name.decode()).stem for name in annotations.files.tolist()]
    boxes = predictions.boxes.astype(np.float64) + (1, 1, 0, 0)  # [D, 4]
    for label, class_name in enumerate(annotations.class_names):
        chosen = np.flatnonzero(predictions.labels == label)
        columns = images[chosen].tolist(), predictions.scores[chosen].tolist(), boxes[chosen].tolist()
        lines = [
            f"{stems[image]} {score:.9g} {x1:.3f} {y1:.3f} {x2:.3f} {y2:.3f}\n"
            for image, score, (x1, y1, x2, y2) in zip(*columns, strict=True)
        ]
        with going_on_when_disk_is_full("comp4_det_test_*.txt"):
            folder.mkdir(parents=True, exist_ok=True)
            replace_text(folder / f"comp4_det_test_{class_name.replace('/', '_')}.txt", "".join(lines))


def rows_of_images(predictions: Predictions, annotations: DetectionAnnotations) -> np.ndarray:
    """Which image of the annotations each prediction belongs to, int64 [D]."""
    order = np.argsort(annotations.image_ids)
    sorted_ids = annotations.image_ids[order]
    places = np.searchsorted(sorted_ids, predictions.image_ids).clip(max=len(sorted_ids) - 1)
    assert np.array_equal(sorted_ids[places], predictions.image_ids), "predictions in images of another split"
    return order[places]


def mean_or_minus_one(values: np.ndarray) -> float:
    """The mean, or -1 where there is nothing to take it of: COCO's convention, for every data set."""
    return float(np.mean(values)) if values.size else -1.0
