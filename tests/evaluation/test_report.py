"""What an evaluation writes: every file by name, from one call, for either kind of data set."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from public.config.detection import DetectionData
from public.datasets.annotations import DetectionAnnotations
from public.datasets.coco import CocoData, read_coco
from public.datasets.predictions import Predictions
from public.datasets.voc import VocData, read_voc
from public.evaluation.detection import evaluator_of, format_table
from public.evaluation.evaluator import DetectionResult, Evaluator
from public.evaluation.pictures import PANEL
from public.evaluation.report import write_report
from public.runtime import run_folder
from tests.datasets.written import coco_content, voc_object, write_coco, write_voc

SPLITS: dict[str, Any] = {
    "folder": "/nowhere",
    "input_size": 40,
    "train_splits": ("train2017",),
    "val_splits": ("val2017",),
    "train_transforms": (),
}
OPTIONS: dict[str, DetectionData] = {"coco": CocoData(**SPLITS), "voc": VocData(**SPLITS)}


def annotations_of(dataset: str, root: Path) -> DetectionAnnotations:
    """A dog in the larger of two images, the boxes x1 y1 x2 y2 = 4 5 24 25."""
    if dataset == "coco":
        write_coco(root, coco_content([(7, 3, 4, 5, 20, 20)]))
        return read_coco(root, "train2017")
    write_voc(root, {"a": voc_object("dog", 5, 6, 24, 25), "b": ""})
    return read_voc(root, ["Own/train"], ["dog", "cat"])


def found_in(annotations: DetectionAnnotations) -> Predictions:
    """The dog, and a cat that is not there."""
    image_id = annotations.image_ids[np.flatnonzero(np.diff(annotations.offsets))[0]]
    boxes = np.array([[4, 5, 24, 25], [0, 0, 9, 9]], np.float32)
    return Predictions(np.full(2, image_id), boxes, np.array([0.75, 0.5], np.float32), np.array([0, 1]))


def evaluated(dataset: str, root: Path) -> tuple[Evaluator, tuple[DetectionResult, Predictions, DetectionAnnotations]]:
    """All that a report is about."""
    annotations = annotations_of(dataset, root)
    predictions, evaluator = found_in(annotations), evaluator_of(dataset)(annotations)
    return evaluator, (evaluator.evaluate(predictions), predictions, annotations)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "predictions"),
    [
        ("coco", {"predictions.json", "coco_images.json", "record_mAP.txt"}),
        ("voc", {"predictions.json", "coco_images.json", "comp4_det_test_dog.txt", "comp4_det_test_cat.txt"}),
    ],
)
def test_the_files(dataset: str, predictions: set[str], tmp_path: Path) -> None:
    """Table, curves, the picture under its name, and the detections in the data set's own format."""
    evaluator, found = evaluated(dataset, tmp_path / "data")
    folder, result = tmp_path / "run" / "report", found[0]
    write_report(folder, *found, data=OPTIONS[dataset], evaluator=evaluator, title="t", picture="epoch_003.jpg")
    assert {path.name for path in folder.iterdir()} == {
        "table.txt",
        "report.html",
        "metrics.json",
        "per_class.csv",
        "precision_recall.png",
        "worst.jpg",
        "epoch_003.jpg",
        *predictions,
    }
    table = (folder / "table.txt").read_text()
    assert table == format_table(result)
    assert "no object of 1 of 2 classes, in no mean: cat" in table
    grid = cv2.imread(str(folder / "epoch_003.jpg"))
    assert grid is not None
    assert grid.shape == (PANEL[0] + 34, 4 * (PANEL[1] + 6) + 24, 3), "two images side by side, two panels each"
    write_report(folder, *found, data=OPTIONS[dataset], evaluator=evaluator, title="t")
    assert (folder / "pictures.jpg").read_bytes() == (folder / "epoch_003.jpg").read_bytes()


@pytest.mark.slow
def test_the_detections_of_each_format(tmp_path: Path) -> None:
    """x y width height and COCO's ids; 1-based first and last pixels and the image's name."""
    evaluator, found = evaluated("coco", tmp_path / "coco")
    write_report(tmp_path, *found, data=OPTIONS["coco"], evaluator=evaluator, title="t")
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert rows[0] == {"image_id": 7, "category_id": 3, "bbox": [4, 5, 20, 20], "score": 0.75}
    assert rows[1]["category_id"] == 90
    evaluator, found = evaluated("voc", tmp_path / "voc")
    write_report(tmp_path, *found, data=OPTIONS["voc"], evaluator=evaluator, title="t")
    line = (tmp_path / "comp4_det_test_dog.txt").read_text()
    assert line == "a 0.75 5.000 6.000 24.000 25.000\n"


@pytest.mark.slow
def test_other_rules_in_the_same_folder(tmp_path: Path) -> None:
    """record_mAP.txt is always of the evaluation that table.txt is of."""
    _, (_, found, annotations) = evaluated("coco", tmp_path / "data")
    for rules in ("coco", "voc", "voc", "coco"):
        evaluator = evaluator_of(rules)(annotations)
        result = evaluator.evaluate(found)
        write_report(tmp_path / "out", result, found, annotations, data=OPTIONS["coco"], evaluator=evaluator, title="t")
        assert (tmp_path / "out" / "table.txt").read_text() == format_table(result)
        assert (tmp_path / "out" / "record_mAP.txt").exists() == (rules == "coco")


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["coco", "voc"])
def test_nothing_found(dataset: str, tmp_path: Path) -> None:
    """The first evaluation of many a run."""
    annotations = annotations_of(dataset, tmp_path / "data")
    nothing = Predictions(
        np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int)
    )
    evaluator = evaluator_of(dataset)(annotations)
    result = evaluator.evaluate(nothing)
    write_report(tmp_path / "out", result, nothing, annotations, data=OPTIONS[dataset], evaluator=evaluator, title="t")
    assert "dog" in (tmp_path / "out" / "table.txt").read_text()
    assert (tmp_path / "out" / "pictures.jpg").stat().st_size > 1000


@pytest.mark.slow
def test_a_full_disk_stops_nothing(
    tmp_path: Path,
    small_disk: Callable[[int], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A warning that names each file, none of which is left half written; what is small enough is there."""
    monkeypatch.setattr(run_folder, "_unwritten", [])
    evaluator, found = evaluated("voc", tmp_path / "data")
    with small_disk(60):
        write_report(tmp_path / "out", *found, data=OPTIONS["voc"], evaluator=evaluator, title="t")
    names = [message.partition(":")[0] for message in caplog.messages]
    assert names == [
        f"could not write {name}"
        for name in (
            "precision_recall.png",
            "pictures.jpg",
            "worst.jpg",
            "table.txt",
            "metrics.json",
            "per_class.csv",
            "report.html",
            "predictions.json",
        )
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"comp4_det_test_dog.txt", "comp4_det_test_cat.txt"}


@pytest.mark.slow
def test_the_numbers(tmp_path: Path) -> None:
    """One right detection of 0.75 above a wrong one of 0.5: shown from 0.625 on, and nothing is drawn as -1."""
    evaluator, found = evaluated("coco", tmp_path / "data")
    points = write_report(tmp_path / "out", *found, data=OPTIONS["coco"], evaluator=evaluator, title="a <run>")
    assert points.best == (0.625, 1.0, 1.0, 1.0)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {name: metrics[name] for name in ("score_threshold", "precision", "recall", "F1", "AP50", "AP_small")} == {
        **{"score_threshold": 0.625, "precision": 1, "recall": 1, "F1": 1},
        **{"AP50": pytest.approx(1), "AP_small": pytest.approx(1)},
    }
    assert "AP_large" not in metrics
    header, dog = (line.split(",") for line in (tmp_path / "out" / "per_class.csv").read_text().splitlines())
    sizes = ["AP_small", "AP_medium", "AP_large"]
    assert header == ["class", "objects", "AP", "AP50", *sizes, "score_threshold", "precision", "recall", "F1"]
    assert [value if i in (0, 5, 6) else float(value) for i, value in enumerate(dog)] == [
        *("dog", 1, pytest.approx(1), pytest.approx(1), pytest.approx(1), "", "", 0.75, 1, 1, 1)
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a &lt;run&gt;" in page
    assert page.count("data:image/") == 3
    assert "-1.0" not in page
