"""A detector over a split in any number of processes, the files of its predictions, and the table of the result."""

import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from public.config.detection import DetectionConfig, DetectionData
from public.config.options import DetectorOptions
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DetectionBatch, ImageSizes
from public.datasets.coco import CocoData, read_coco, write_coco_json
from public.datasets.predictions import Predictions
from public.datasets.voc import VocData, read_voc, write_voc_files
from public.detectors.detector import Detections
from public.evaluation.coco import CocoEvaluator, format_coco_record
from public.evaluation.detection import (
    EVALUATORS,
    check_metrics,
    evaluate_detector,
    evaluator_of,
    format_table,
    gather_predictions,
)
from public.evaluation.evaluator import Curves, DetectionResult
from public.evaluation.voc import VocEvaluator
from public.geometry.labels import PADDING
from public.optim.options import ConstantOptions, SGDOptions
from public.runtime import run_folder
from public.runtime.distributed import DistributedContext
from tests.datasets.written import voc_object, write_image, write_voc

SPLITS: dict[str, Any] = {
    "folder": "/nowhere",
    "input_size": 40,
    "train_splits": ("train",),
    "val_splits": ("val",),
    "train_transforms": (),
}
COCO, VOC = CocoData(**SPLITS), VocData(**SPLITS)
NUM_IMAGES = 7
IDS = np.array([40, 7, 13, 99, 2, 58, 21])  # as in COCO's files: in no order


def row(data: DetectionData, best_metric: str) -> DetectionConfig:
    """A row on some data."""
    return DetectionConfig(
        name="tiny",
        epochs=1,
        batch_size=2,
        best_metric=best_metric,
        detector=DetectorOptions(backbone="resnet18"),
        data=data,
        optimizer=SGDOptions(lr=0.1, weight_decay=0.0),
        schedule=ConstantOptions(),
    )


@pytest.fixture
def annotations() -> DetectionAnnotations:
    """Seven images with two objects each, of a cat and a dog/wolf."""
    boxes = np.array([[[i, 0, i + 20, 20], [i, 40, i + 30, 70]] for i in range(NUM_IMAGES)], dtype=np.float32)
    return DetectionAnnotations(
        folder=Path("images"),
        files=np.array([f"VOC2007/JPEGImages/{i:06d}.jpg".encode() for i in IDS]),
        image_ids=IDS,
        sizes=np.full((NUM_IMAGES, 2), 100),
        offsets=np.arange(0, 2 * NUM_IMAGES + 1, 2),
        boxes=boxes.reshape(-1, 4),
        labels=np.tile([0, 1], NUM_IMAGES),
        ignored=np.zeros(2 * NUM_IMAGES, dtype=bool),
        class_names=["cat", "dog/wolf"],
        category_ids=[3, 7],
        source=Path("VOCdataset"),
        skipped={},
    )


def batches_of(indices: np.ndarray, batch_size: int) -> list[DetectionBatch]:
    """Images whose first pixel is their number."""
    batches = []
    for begin in range(0, len(indices), batch_size):
        part = torch.from_numpy(indices[begin : begin + batch_size])
        images = part.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
        sizes = torch.full((len(part), 2), 100)
        nothing = torch.zeros(len(part), 1, 4), torch.full((len(part), 1), PADDING)
        ids = torch.from_numpy(IDS)[part]
        batches.append(DetectionBatch(images, *nothing, sizes // 2, sizes + part[:, None], ids, seeds=part))
    return batches


def detect(images: torch.Tensor, sizes: ImageSizes) -> Detections:
    """Finds the cat of every image and the dogs of the even ones, a little beside where they are; fills up with -1."""
    assert not torch.is_grad_enabled()
    numbers = images[:, 0, 0, 0].long()  # [B]
    assert torch.equal(sizes.content, torch.full((len(images), 2), 50))
    assert torch.equal(sizes.original, 100 + numbers[:, None].expand(-1, 2))
    cat = torch.stack([numbers + 1, numbers * 0, numbers + 21, numbers * 0 + 20], dim=1)
    dog = torch.stack([numbers, numbers * 0 + 41, numbers + 30, numbers * 0 + 70], dim=1)
    boxes = torch.stack([cat, dog, torch.zeros_like(cat)], dim=1).float()  # [B, 3, 4]
    scores = torch.stack([1 - numbers / 10, 0.5 - numbers / 20, torch.zeros(len(numbers))], dim=1)
    dogs = torch.where(numbers % 2 == 0, 1, PADDING)
    return Detections(boxes, scores, torch.stack([numbers * 0, dogs, torch.full_like(dogs, PADDING)], dim=1))


def assert_same(some: Predictions, others: Predictions) -> None:
    """To the last bit, types included."""
    for column, other in zip(some, others, strict=True):
        assert column.dtype == other.dtype
        assert np.array_equal(column, other)


def predictions_by_hand() -> Predictions:
    """By falling number of the image, cats first."""
    rows = []
    for image_id, number in sorted(zip(IDS.tolist(), range(NUM_IMAGES), strict=True)):
        rows.append((image_id, (number + 1, 0, number + 21, 20), 1 - number / 10, 0))
        if number % 2 == 0:
            rows.append((image_id, (number, 41, number + 30, 70), 0.5 - number / 20, 1))
    ids, boxes, scores, labels = zip(*rows, strict=True)
    columns = np.array(ids), np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels)
    return Predictions(*columns)


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_one_process(annotations: DetectionAnnotations, context: DistributedContext, batch_size: int) -> None:
    """Sorted by image, without padding; all cats and four dogs found."""
    heard: list[int] = []
    batches = batches_of(np.arange(NUM_IMAGES), batch_size)
    result, predictions = evaluate_detector(
        detect, batches, VocEvaluator(annotations), context, after_batch=heard.append
    )
    expected = predictions_by_hand()
    np.testing.assert_allclose(predictions.scores, expected.scores, rtol=1e-6)
    assert_same(predictions, expected._replace(scores=predictions.scores))
    assert [row["AP50"] for row in result.per_class] == pytest.approx([1.0, 4 / 7])
    assert heard == [len(batch.labels) for batch in batches]


@pytest.mark.parametrize("size", [2, 3, 9])
def test_many_processes_equal_one(annotations: DetectionAnnotations, context: DistributedContext, size: int) -> None:
    """Process r has the images r, r + n, ...; some have none. Predictions and result are those of one process."""
    one, predictions = evaluate_detector(detect, batches_of(np.arange(7), 3), VocEvaluator(annotations), context)
    shares = [batches_of(np.arange(rank, NUM_IMAGES, size), 3) for rank in range(size)]
    locals_: list[Any] = []

    class Alone(DistributedContext):
        """Keeps what this process has to give, and stops."""

        def gather(self, value: Any) -> list[Any]:
            locals_.append(value)
            raise InterruptedError

    class Together(DistributedContext):
        """Hands out what all processes give: first their predictions, then the main one's result."""

        def gather(self, value: Any) -> list[Any]:
            return locals_ if isinstance(value, tuple) and len(value) == 4 else [one] + [None] * (size - 1)

    for rank, share in enumerate(shares):
        with pytest.raises(InterruptedError):
            evaluate_detector(detect, share, VocEvaluator(annotations), Alone(rank, size, context.device))
    for rank, share in enumerate(shares):
        evaluator = _Spy(annotations)
        result, gathered = evaluate_detector(detect, share, evaluator, Together(rank, size, context.device))
        assert_same(gathered, predictions)
        assert result.metrics == one.metrics
        assert [spied.metrics for spied in evaluator.results] == ([one.metrics] if rank == 0 else [])


class _Spy(VocEvaluator):
    """Keeps the results."""

    def __init__(self, annotations: DetectionAnnotations) -> None:
        super().__init__(annotations)
        self.results = list[DetectionResult]()

    def evaluate(self, predictions: Predictions) -> DetectionResult:
        """Passes on."""
        self.results.append(super().evaluate(predictions))
        return self.results[-1]


def test_equal_images_keep_their_order(context: DistributedContext) -> None:
    """Rows of one image stay as they were, equal scores included."""
    ids = np.array([5, 1, 5, 1, 5])
    local = Predictions(ids, np.arange(20, dtype=np.float32).reshape(5, 4), np.full(5, 0.5, np.float32), np.arange(5))
    assert gather_predictions(local, context).labels.tolist() == [1, 3, 0, 2, 4]


def test_no_batches_at_all(annotations: DetectionAnnotations, context: DistributedContext) -> None:
    """More processes than images, and nothing found: zeros, with the types that others have."""
    result, predictions = evaluate_detector(detect, [], VocEvaluator(annotations), context)
    assert result.metrics["mAP50"] == 0
    assert [column.dtype for column in predictions] == [np.int64, np.float32, np.float32, np.int64]
    assert predictions.boxes.shape == (0, 4)


def test_each_data_set_has_its_rules() -> None:
    """And no others."""
    assert (evaluator_of("coco"), evaluator_of("voc")) == (CocoEvaluator, VocEvaluator)
    assert list(EVALUATORS) == ["coco", "voc"]
    with pytest.raises(ValueError, match=r"^data\.metrics='vocc': no evaluation has these rules; the nearest: voc"):
        evaluator_of("vocc")


@pytest.mark.parametrize("rules", EVALUATORS)
def test_metrics_are_those_that_are_stated(annotations: DetectionAnnotations, rules: str) -> None:
    """In their order; curves.png shows some of them; the files are those that are removed after other rules."""
    evaluator = evaluator_of(rules)(annotations)
    result = evaluator.evaluate(predictions_by_hand())
    assert tuple(result.metrics) == evaluator.metrics
    assert {name for _, names in evaluator.panels for name in names} <= set(evaluator.metrics)
    assert tuple(evaluator.reports(result)) == evaluator.report_names


@pytest.mark.parametrize(
    ("data", "best_metric", "message"),
    [
        (
            COCO,
            "mAP50",
            r"^best_metric='mAP50' is not among the metrics of data\.dataset='coco': AP, AP50, .*AR_large\.$",
        ),
        (
            VOC,
            "AP",
            r"^best_metric='AP' is not among the metrics of data\.dataset='voc': mAP50_11point, mAP50, mAP50_95",
        ),
        (replace(VOC, metrics="coco"), "mAP50", r"^best_metric='mAP50' is not among .* data\.metrics='coco': AP, "),
        (replace(VOC, metrics="cocoo"), "AP", r"^data\.metrics='cocoo': .*; the nearest: coco"),
    ],
)
def test_metrics_that_are_not_given(data: DetectionData, best_metric: str, message: str) -> None:
    """Rules that nobody knows, and a metric that the rules do not give."""
    with pytest.raises(ValueError, match=message):
        check_metrics(row(data, best_metric))


def test_every_metric_may_choose() -> None:
    """Of the format's rules, and of the others when they are asked for."""
    for data in (COCO, VOC):
        for rules in (None, *EVALUATORS):
            for metric in evaluator_of(rules or data.kind).metrics:
                check_metrics(row(replace(data, metrics=rules), metric))


# ---- files -----------------------------------------------------------------------------------------------------------


def test_coco_file(annotations: DetectionAnnotations, tmp_path: Path) -> None:
    """COCO's category ids; left, top, width and height; every digit, so that an evaluation of it is ours."""
    predictions = predictions_by_hand()
    predictions.boxes[0] = 0.1, 0.2, 30.3, 40.4
    write_coco_json(tmp_path / "new" / "results.json", predictions, annotations)
    rows = json.loads((tmp_path / "new" / "results.json").read_text())
    assert [row["image_id"] for row in rows[:3]] == [2, 2, 7]
    assert [row["category_id"] for row in rows[:3]] == [3, 7, 3]
    x1, y1, x2, y2 = map(float, predictions.boxes[0])
    assert rows[0]["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    assert [row["score"] for row in rows] == predictions.scores.tolist()
    again = np.array([row["bbox"] for row in rows])
    again[:, 2:] += again[:, :2]
    assert np.array_equal(again.astype(np.float32), predictions.boxes)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"results.json", "coco_images.json"}


def test_voc_files(annotations: DetectionAnnotations, tmp_path: Path) -> None:
    """A file for each class, also one without detections; 1-based pixels, the last one inside the box."""
    write_voc_files(tmp_path / "new", predictions_by_hand(), replace(annotations, class_names=["cat", "dog/wolf", "x"]))
    files = {path.name: path.read_text().splitlines() for path in (tmp_path / "new").iterdir()}
    assert {name: len(lines) for name, lines in files.items()} == {
        "comp4_det_test_cat.txt": 7,
        "comp4_det_test_dog_wolf.txt": 4,
        "comp4_det_test_x.txt": 0,
    }
    assert files["comp4_det_test_cat.txt"][0] == "000002 0.600000024 6.000 1.000 25.000 20.000"
    assert np.float32("0.600000024") == np.float32(0.6)


@pytest.mark.parametrize("write", [write_coco_json, write_voc_files])
def test_a_full_disk_is_one_warning(
    write: Callable[..., None],
    annotations: DetectionAnnotations,
    tmp_path: Path,
    small_disk: Callable[[int], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run goes on, the old file stays, nothing half written is left."""
    monkeypatch.setattr(run_folder, "_unwritten", [])
    write(tmp_path / "out", predictions_by_hand(), annotations)
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    many = Predictions(*(np.concatenate([column] * 9) for column in predictions_by_hand()))
    with small_disk(500):
        write(tmp_path / "out", many, annotations)
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before
    (message,) = caplog.messages
    assert message.startswith("could not write ")
    assert message.endswith("The run continues without it.")


# ---- the table -------------------------------------------------------------------------------------------------------


def test_table() -> None:
    """Metrics, a line a class in the data set's order, absent classes by name."""
    rows = [
        {"class": "cat", "objects": 12, "AP50": 0.5, "AP50_95": 0.25},
        {"class": "traffic light", "objects": 3, "AP50": 1.0, "AP50_95": 0.75},
    ]
    names = ["cat", "dog", "traffic light"]
    curves = Curves(np.zeros(1), np.zeros((3, 1)))
    table = format_table(DetectionResult({"mAP50": 0.75, "mAP50_95": 0.5}, rows, ["dog"], names, curves))
    assert table.splitlines() == [
        "mAP50 0.7500  mAP50_95 0.5000",
        "",
        "class           objects          AP50       AP50_95",
        "cat                  12        0.5000        0.2500",
        "traffic light         3        1.0000        0.7500",
        "",
        "no object of 1 of 3 classes, in no mean: dog",
    ]
    assert table.endswith("\n")


def test_table_of_nothing() -> None:
    """A split without objects."""
    result = DetectionResult({"AP": -1.0}, [], ["cat"], ["cat"], Curves(np.zeros(1), np.zeros((1, 1))))
    assert format_table(result).splitlines() == ["", "", "no object of 1 of 1 classes, in no mean: cat"]


# ---- COCO's numbers on Pascal VOC's layout ---------------------------------------------------------------------------

NAMES = ["cat", "dog"]


def write_both_layouts(root: Path) -> tuple[DetectionAnnotations, DetectionAnnotations]:
    """The same 12 images of 200 x 150 with three objects each, of all three of COCO's sizes, read from VOC and COCO.

    Every seventh object is difficult: a crowd.
    """
    rng = np.random.default_rng(0)
    objects: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for image in range(12):
        stem = f"{image:06d}"
        objects[stem] = ""
        for _ in range(3):
            width, height = rng.integers(10, 140, 2).tolist()
            x, y = int(rng.integers(0, 200 - width)), int(rng.integers(0, 150 - height))
            label, crowd = len(rows) % 2, int(len(rows) % 7 == 0)
            objects[stem] += voc_object(NAMES[label], x + 1, y + 1, x + width, y + height, str(crowd))
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": crowd}
            rows.append({"id": len(rows) + 1, "image_id": image, "category_id": label + 1, **box})
        write_image(root / "images" / "val2017" / f"{stem}.jpg", 200, 150)
    write_voc(root, objects, "VOC2012/val", 200, 150)
    headers = [{"id": i, "file_name": f"{i:06d}.jpg", "width": 200, "height": 150} for i in range(12)]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
    (root / "annotations").mkdir()
    content = json.dumps({"images": headers, "annotations": rows, "categories": categories})
    (root / "annotations" / "instances_val2017.json").write_text(content)
    return read_voc(root, ["VOC2012/val"], NAMES), read_coco(root, "val2017")


def test_cocos_twelve_numbers_of_voc_data(tmp_path: Path) -> None:
    """Those of pycocotools on the same boxes in a COCO file, in the words that it prints; then each class's AP50."""
    voc, coco = write_both_layouts(tmp_path)
    rng = np.random.default_rng(1)
    boxes = np.tile(voc.boxes, (2, 1)) + rng.normal(0, 4, (72, 4)).astype(np.float32)
    labels = np.where(rng.random(72) < 0.8, np.tile(voc.labels, 2), 0)
    image_ids = np.tile(np.repeat(voc.image_ids, 3), 2)
    found = Predictions(image_ids, boxes, rng.random(72).astype(np.float32), labels)
    result = evaluator_of("coco")(voc).evaluate(found)
    assert result.metrics == evaluator_of("coco")(coco).evaluate(found).metrics
    assert 0.1 < result.metrics["AP"] < 0.9
    assert len(set(result.metrics.values())) >= 9

    tools = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    write_coco_json(tmp_path / "found.json", found, voc)
    with redirect_stdout(io.StringIO()):
        truth = tools[0].COCO(str(coco.source))
        evaluation = tools[1].COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    with redirect_stdout(io.StringIO()) as printed:
        evaluation.summarize()
    record = format_coco_record(result).splitlines()
    assert record[0] == "COCO results:"
    assert record[1:13] == [line.strip() for line in printed.getvalue().splitlines()]
    assert record[13:15] == ["", "mAP(IoU=0.5) for each category:"]
    precision = evaluation.eval["precision"][0, :, :, 0, -1].mean(axis=0)
    assert record[15:] == [f"cat: {precision[0]:.4f}", f"dog: {precision[1]:.4f}"]
    with pytest.raises(KeyError):
        format_coco_record(evaluator_of("voc")(voc).evaluate(found))
