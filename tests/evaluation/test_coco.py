"""COCO's numbers against pycocotools, which reads the files that we write; and by hand where it has no opinion."""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from public.datasets.annotations import DetectionAnnotations, WrittenObjects
from public.datasets.coco import read_coco, write_coco_json
from public.datasets.predictions import Predictions, WrittenPredictions
from public.evaluation.coco import METRICS, CocoEvaluator
from public.evaluation.evaluator import DetectionResult
from tests.evaluation.coco_cases import make_case

NONE = Predictions(np.zeros(0, int), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))


def true_boxes(annotations: DetectionAnnotations) -> Predictions:
    """Every object, crowds too, as a detection of score 0.5."""
    image_ids = np.repeat(annotations.image_ids, np.diff(annotations.offsets))
    scores = np.full(annotations.num_boxes, 0.5, dtype=np.float32)
    return Predictions(image_ids, annotations.boxes, scores, annotations.labels)


def perturbed(annotations: DetectionAnnotations, rng: np.random.Generator, *, copies: int = 3) -> Predictions:
    """Objects moved by up to a third of their size, three times each, a fifth of another class; scores with ties."""
    truth = true_boxes(annotations)
    ids, boxes, _, labels = (np.concatenate([column] * copies) for column in truth)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes = boxes + rng.uniform(-0.33, 0.33, boxes.shape) * sides * rng.random((len(boxes), 1))
    scores = rng.random(len(ids)).round(2).astype(np.float32)
    other = rng.integers(0, len(annotations.class_names), len(ids))
    return Predictions(ids, boxes.astype(np.float32), scores, np.where(rng.random(len(ids)) < 0.2, other, labels))


def random_boxes(annotations: DetectionAnnotations, rng: np.random.Generator, *, most_of_one: int = 0) -> Predictions:
    """40 boxes an image, of any class; beside them `most_of_one` persons in each."""
    count = 40 + most_of_one
    ids = np.repeat(annotations.image_ids, count)
    sizes = np.repeat(annotations.sizes, count, axis=0)[:, ::-1]  # width, height
    ends = rng.random((len(ids), 2, 2)) * sizes[:, None]
    boxes = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1).astype(np.float32)
    labels = rng.integers(0, len(annotations.class_names), (annotations.num_images, count))
    labels[:, 40:] = 0
    return Predictions(ids, boxes, rng.random(len(ids)).astype(np.float32), labels.reshape(-1))


KINDS: dict[str, Callable[[DetectionAnnotations, np.random.Generator], Predictions]] = {
    "perturbed": perturbed,
    "random": random_boxes,
    "more than a hundred of a class": lambda a, rng: random_boxes(a, rng, most_of_one=120),
    "true": lambda a, rng: true_boxes(a),
    "a few": lambda a, rng: Predictions(*(column[:5] for column in perturbed(a, rng))),
}


@pytest.fixture(scope="module")
def mini(real_data: Path) -> DetectionAnnotations:
    """158 real images of COCO's val2017; crowds among their objects."""
    annotations = read_coco(real_data / "coco_mini", "val2017")
    assert annotations.num_images == 158
    assert annotations.ignored.sum() >= 5
    return annotations


def reference(truth: Path | dict[str, Any], results: Path) -> Any:
    """pycocotools' evaluation of a results file."""
    tools = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        if isinstance(truth, dict):
            index = tools[0].COCO()
            index.dataset = truth
            index.createIndex()
        else:
            index = tools[0].COCO(str(truth))
        evaluation = tools[1].COCOeval(index, index.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_equal_to(expected: Any, result: DetectionResult) -> None:
    """The twelve numbers, the row of every class and its curve, to 1e-12."""
    assert [*result.metrics] == [*METRICS]
    np.testing.assert_allclose([*result.metrics.values()], expected.stats, rtol=0, atol=1e-12)
    precision = expected.eval["precision"][..., 0, -1]  # [IoU, recall, class]
    present = np.flatnonzero((precision > -1).any(axis=(0, 1)))
    assert [row["class"] for row in result.per_class] == [result.class_names[label] for label in present]
    assert result.absent == [name for c, name in enumerate(result.class_names) if c not in present]
    for label, row in zip(present, result.per_class, strict=True):
        expected_row = precision[..., label].mean(), precision[0, :, label].mean()
        assert (row["AP"], row["AP50"]) == pytest.approx(expected_row, rel=0, abs=1e-12)
        np.testing.assert_allclose(result.curves.precision[label], precision[0, :, label], rtol=0, atol=1e-12)
    assert np.isnan(np.delete(result.curves.precision, present, axis=0)).all()
    np.testing.assert_allclose(result.curves.recall, expected.params.recThrs, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_pycocotools(mini: DetectionAnnotations, tmp_path: Path, kind: str, seed: int) -> None:
    """On real annotations, crowds included; pycocotools reads COCO's file and the one that we write."""
    predictions = KINDS[kind](mini, np.random.default_rng(seed))
    write_coco_json(tmp_path / "results.json", predictions, mini)
    result = CocoEvaluator(mini).evaluate(predictions)
    assert_equal_to(reference(mini.source, tmp_path / "results.json"), result)
    assert result.metrics["AP"] > (0.9 if kind == "true" else 1e-9)


def write_case(root: Path, truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[Path, Path]:
    """The files of a case, its images empty ones; gives those of its split val and of the results."""
    files = root / "annotations/instances_val.json", root / "results.json"
    for path, content in zip(files, (truth, results), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (root / "images/val").mkdir(parents=True)
    for image in truth["images"]:
        (root / "images/val" / image["file_name"]).touch()
    return files


def equal_in_case(root: Path, number: int) -> None:
    """Compares one generated case, boxes of the results in float64, with pycocotools to the last bit."""
    truth, results = make_case(number)
    files = write_case(root, truth, results)
    annotations = read_coco(root, "val")
    labels = {category["name"]: label for label, category in enumerate(truth["categories"])}
    boxes = np.array([row["bbox"] for row in results], dtype=np.float64).reshape(-1, 4)
    predictions = Predictions(
        np.array([row["image_id"] for row in results], dtype=np.int64),
        np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        np.array([row["score"] for row in results], dtype=np.float64),
        np.array([labels[f"class {row['category_id']}"] for row in results], dtype=np.int64),
    )
    result = CocoEvaluator(annotations).evaluate_written(WrittenPredictions(predictions, boxes[:, 2:]))
    expected = reference(truth, files[1])
    assert [*result.metrics.values()] == expected.stats.tolist()
    assert_equal_to(expected, result)


@pytest.mark.parametrize("number", range(8))
def test_generated_cases(tmp_path: Path, number: int) -> None:
    """Crowds, ties, areas at the limits, absent classes, IoUs at the thresholds: see `make_case`."""
    equal_in_case(tmp_path, number)


@pytest.mark.slow
def test_two_hundred_generated_cases(tmp_path: Path) -> None:
    """All of them hold what they shall: crowds, ties, absent classes, images with over a hundred of a class."""
    seen: Counter[str] = Counter()
    for number in range(200):
        truth, results = make_case(number)
        keys = Counter((row["image_id"], row["category_id"]) for row in results)
        used = {row["category_id"] for row in truth["annotations"]}
        seen["crowd"] += any(row["iscrowd"] for row in truth["annotations"])
        seen["tie"] += len({row["score"] for row in results}) < len(results)
        seen["absent"] += len(used) < len(truth["categories"])
        seen["many"] += max(keys.values(), default=0) > 100
        seen["at a limit"] += any(row["area"] in (1024, 9216) for row in truth["annotations"])
        equal_in_case(tmp_path / str(number), number)
    assert min(seen[kind] for kind in ("crowd", "tie", "absent", "many", "at a limit")) >= 20, seen


def test_nothing_found_is_zero(mini: DetectionAnnotations) -> None:
    """Every metric and every row, and the curves of the classes that have objects."""
    result = CocoEvaluator(mini).evaluate(NONE)
    assert set(result.metrics.values()) == {0.0}
    assert {row["AP"] for row in result.per_class} == {0.0}
    assert set(result.curves.precision[~np.isnan(result.curves.precision)]) == {0.0}


def test_objects_are_counted_without_crowds(mini: DetectionAnnotations) -> None:
    """Each row's count, from the file; classes without an object, or with crowds alone, are named as absent."""
    content = json.loads(mini.source.read_bytes())
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects = [names[row["category_id"]] for row in content["annotations"] if not row["iscrowd"]]
    result = CocoEvaluator(mini).evaluate(NONE)
    assert {row["class"]: row["objects"] for row in result.per_class} == {n: objects.count(n) for n in set(objects)}
    assert set(result.absent) == set(names.values()) - set(objects)


def test_the_file_is_read_once_and_nothing_is_printed(
    small: DetectionAnnotations, capfd: pytest.CaptureFixture[str]
) -> None:
    """Between epochs the ground truth is kept; equal predictions give equal results."""
    evaluator = CocoEvaluator(small)
    first = evaluator.evaluate(true_boxes(small))
    small.source.unlink()
    assert evaluator.evaluate(true_boxes(small)).metrics == first.metrics
    assert evaluator.evaluate(NONE).metrics["AP"] == 0
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def small(tmp_path: Path) -> DetectionAnnotations:
    """Three images, the second without objects: two cats (id 7) and a dog (id 3); no bird (id 9), a crowd of birds.

    The annotations' ids begin at 0, and one comes twice: numbers that the libraries take for marks.
    """
    rows = [(11, 7, [0, 0, 10, 10], 0, 0), (13, 7, [5, 5, 50, 40], 0, 1), (13, 3, [0, 0, 100, 100], 0, 1)]
    rows.append((13, 9, [0, 0, 60, 60], 1, 2))
    keys = "image_id", "category_id", "bbox", "iscrowd", "id"
    annotations: list[dict[str, Any]] = [dict(zip(keys, row, strict=True)) for row in rows]
    for row in annotations:
        row["area"] = row["bbox"][2] * row["bbox"][3]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 120, "width": 120} for i in (13, 12, 11)],
        "categories": [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}, {"id": 9, "name": "bird"}],
        "annotations": annotations,
    }
    (tmp_path / "instances_val.json").write_text(json.dumps(content))
    return DetectionAnnotations(
        folder=tmp_path,
        files=np.array([b"13.jpg", b"12.jpg", b"11.jpg"]),
        image_ids=np.array([13, 12, 11]),
        sizes=np.full((3, 2), 120),
        offsets=np.array([0, 3, 3, 4]),
        boxes=np.array([[5, 5, 55, 45], [0, 0, 100, 100], [0, 0, 60, 60], [0, 0, 10, 10]], dtype=np.float32),
        labels=np.array([1, 0, 2, 1]),
        ignored=np.array([False, False, True, False]),
        class_names=["dog", "cat", "bird"],
        category_ids=[3, 7, 9],
        source=tmp_path / "instances_val.json",
        truth=WrittenObjects(
            np.array([row["image_id"] for row in annotations]),
            np.array([[3, 7, 9].index(row["category_id"]) for row in annotations]),
            np.array([row["bbox"] for row in annotations], dtype=np.float64),
            np.array([row["area"] for row in annotations], dtype=np.float64),
            np.array([row["iscrowd"] for row in annotations], dtype=bool),
        ),
        skipped={},
    )


@pytest.mark.parametrize("from_file", [True, False])
def test_by_hand(small: DetectionAnnotations, tmp_path: Path, from_file: bool) -> None:
    """All found but the small cat: dog 1, cat 1 up to recall 0.5 (51 of 101 recalls); the bird's crowd is no object.

    From the file and from the arrays, which hold the same boxes.
    """
    annotations = small if from_file else replace(small, truth=None)
    result = CocoEvaluator(annotations).evaluate(Predictions(*(column[:3] for column in true_boxes(small))))
    assert result.metrics["AP"] == pytest.approx((1 + 51 / 101) / 2, abs=1e-12)
    assert result.metrics["AP_small"] == 0
    assert result.metrics["AR_100"] == pytest.approx(0.75, abs=1e-12)
    half, one = pytest.approx(51 / 101), pytest.approx(1)
    by_size = [{"AP_small": -1, "AP_medium": -1, "AP_large": one}, {"AP_small": 0, "AP_medium": one, "AP_large": -1}]
    assert result.per_class == [
        {"class": "dog", "objects": 1, "AP": one, "AP50": one} | by_size[0],
        {"class": "cat", "objects": 2, "AP": half, "AP50": half} | by_size[1],
    ]
    assert result.absent == ["bird"]


@pytest.mark.slow
def test_arrays_equal_to_pycocotools(mini: DetectionAnnotations, tmp_path: Path) -> None:
    """Another layout has no COCO file: ignored objects are crowds, the area is the box's; classes in any order."""
    rng = np.random.default_rng(2)
    order = rng.permutation(len(mini.class_names))  # new label -> old
    shuffled = replace(
        mini,
        truth=None,
        labels=np.argsort(order)[mini.labels],
        class_names=[mini.class_names[label] for label in order],
        category_ids=[mini.category_ids[label] for label in order],
    )
    boxes = mini.boxes.astype(float)
    sides = boxes[:, 2:] - boxes[:, :2]
    truth = {
        "images": [{"id": int(number)} for number in mini.image_ids],
        "categories": [
            {"id": number, "name": name} for number, name in zip(mini.category_ids, mini.class_names, strict=True)
        ],
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(np.repeat(mini.image_ids, np.diff(mini.offsets))[row]),
                "category_id": mini.category_ids[mini.labels[row]],
                "bbox": [*boxes[row, :2], *sides[row]],
                "area": sides[row].prod(),
                "iscrowd": int(mini.ignored[row]),
            }
            for row in range(mini.num_boxes)
        ],
    }
    predictions = perturbed(mini, rng)
    write_coco_json(tmp_path / "results.json", predictions, mini)
    expected = reference(truth, tmp_path / "results.json")
    assert_equal_to(expected, CocoEvaluator(replace(mini, truth=None)).evaluate(predictions))
    result = CocoEvaluator(shuffled).evaluate(predictions._replace(labels=np.argsort(order)[predictions.labels]))
    np.testing.assert_allclose([*result.metrics.values()], expected.stats, rtol=0, atol=1e-12)
    of_class = {row["class"]: row["AP"] for row in result.per_class}
    for label, name in enumerate(mini.class_names):
        precision = expected.eval["precision"][:, :, label, 0, -1]
        assert of_class.get(name, -1) == pytest.approx(precision.mean(), rel=0, abs=1e-12)


def test_no_object_at_all(small: DetectionAnnotations, tmp_path: Path) -> None:
    """-1 everywhere, COCO's word for it: there is nothing to take a mean of."""
    empty = replace(small, truth=None, ignored=np.ones(4, dtype=bool))
    result = CocoEvaluator(empty).evaluate(true_boxes(small))
    assert set(result.metrics.values()) == {-1.0}
    assert (result.per_class, result.absent) == ([], ["dog", "cat", "bird"])


def test_predictions_of_another_split_are_a_bug(small: DetectionAnnotations) -> None:
    """They would be skipped in silence."""
    with pytest.raises(AssertionError, match="another split"):
        CocoEvaluator(small).evaluate(true_boxes(small)._replace(image_ids=np.array([13, 13, 13, 99])))
