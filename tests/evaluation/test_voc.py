"""VOC's average precision: cases worked out by hand, and a plain loop over every prediction as reference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from public.datasets.annotations import DetectionAnnotations
from public.datasets.predictions import Predictions
from public.evaluation.evaluator import DetectionResult
from public.evaluation.voc import VocEvaluator, overlaps

Row = tuple[int, int, list[float], bool]
"""Image, label, box, difficult."""


def split_of(rows: list[Row], num_images: int = 2, num_classes: int = 1) -> DetectionAnnotations:
    """Annotations that hold these objects, image by image."""
    rows = sorted(rows, key=lambda row: row[0])
    counts = [sum(row[0] == image for row in rows) for image in range(num_images)]
    return DetectionAnnotations(
        folder=Path("images"),
        files=np.array([f"VOC2007/JPEGImages/{i:06d}.jpg".encode() for i in range(num_images)]),
        image_ids=np.arange(num_images),
        sizes=np.full((num_images, 2), 500),
        offsets=np.cumsum([0, *counts]),
        boxes=np.array([row[2] for row in rows], dtype=np.float32).reshape(-1, 4),
        labels=np.array([row[1] for row in rows], dtype=np.int64),
        ignored=np.array([row[3] for row in rows], dtype=bool),
        class_names=[f"class{label}" for label in range(num_classes)],
        category_ids=list(range(1, num_classes + 1)),
        source=Path("VOCdataset"),
        skipped={},
    )


def found(*rows: tuple[int, list[float], float], label: int = 0) -> Predictions:
    """Predictions of one class from (image, box, score)."""
    boxes = np.array([row[1] for row in rows], dtype=np.float32).reshape(-1, 4)
    scores = np.array([row[2] for row in rows], dtype=np.float32)
    return Predictions(np.array([row[0] for row in rows], dtype=np.int64), boxes, scores, np.full(len(rows), label))


LEFT, RIGHT, FAR = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [200.0, 200.0, 220.0, 220.0]


def row_of(annotations: DetectionAnnotations, predictions: Predictions) -> dict[str, Any]:
    """The numbers of the only class."""
    (row,) = VocEvaluator(annotations).evaluate(predictions).per_class
    return row


def test_right_wrong_right() -> None:
    """Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.

    Area: 1/2 x 1 + 1/2 x 2/3 = 5/6. Eleven points: 1 at the six recalls up to 0.5, 2/3 at five: (6 + 10/3) / 11.
    """
    truth = split_of([(0, 0, LEFT, False), (1, 0, RIGHT, False)])
    row = row_of(truth, found((0, LEFT, 0.9), (0, FAR, 0.8), (1, RIGHT, 0.7)))
    assert row["objects"] == 2
    assert row["AP50"] == pytest.approx(5 / 6, abs=1e-12)
    assert row["AP50_11point"] == pytest.approx((6 + 10 / 3) / 11, abs=1e-12)
    assert row["AP50_95"] == pytest.approx(5 / 6, abs=1e-12)


def test_the_score_decides_the_order_and_the_image_the_object() -> None:
    """The same boxes in the other images are wrong, and being wrong first costs precision: 0, 1/2."""
    truth = split_of([(0, 0, LEFT, False)])
    assert row_of(truth, found((0, LEFT, 0.3), (1, LEFT, 0.6)))["AP50"] == pytest.approx(0.5)
    assert row_of(truth, found((0, LEFT, 0.6), (1, LEFT, 0.3)))["AP50"] == pytest.approx(1.0)


def test_a_difficult_object_counts_neither_way() -> None:
    """It need not be found, and finding it, even twice, is not wrong: the other one alone decides."""
    truth = split_of([(0, 0, LEFT, False), (0, 0, RIGHT, True)])
    for extra in ([], [(0, RIGHT, 0.95)], [(0, RIGHT, 0.95), (0, RIGHT, 0.94)]):
        row = row_of(truth, found(*extra, (0, LEFT, 0.9)))
        assert (row["objects"], row["AP50"], row["AP50_11point"]) == (1, 1.0, 1.0)


def test_what_overlaps_a_difficult_object_too_little_is_wrong() -> None:
    """IoU 0.4 with it: first in the order, so that the right one has precision 1/2."""
    truth = split_of([(0, 0, LEFT, False), (0, 0, RIGHT, True)])
    assert row_of(truth, found((0, [20, 0, 24, 10], 0.95), (0, LEFT, 0.9)))["AP50"] == pytest.approx(0.5)


def test_duplicates_are_wrong() -> None:
    """Of three detections of one object the best-scored is right, however well the later ones fit."""
    truth = split_of([(0, 0, LEFT, False), (1, 0, RIGHT, False)])
    loose = [0.0, 0.0, 8.0, 10.0]  # IoU 0.8
    row = row_of(truth, found((0, LEFT, 0.8), (0, loose, 0.9), (0, LEFT, 0.7), (1, RIGHT, 0.6)))
    assert row["AP50"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    # Beyond 0.8 the loose one is wrong and the second right: precision 0, 1/2, 1/3, 2/4; three of ten thresholds.
    assert row["AP50_95"] == pytest.approx((7 * 0.75 + 3 * 0.5) / 10)


def test_a_taken_object_is_not_exchanged_for_the_next_best() -> None:
    """Two objects side by side, both detections nearest to the first: the second one is a duplicate, as in the devkit.

    The second box has IoU 0.75 with its nearest and 0.6 with the free one: COCO's matching would give it that.
    """
    truth = split_of([(0, 0, [0, 0, 10, 10], False), (0, 0, [0, 4, 10, 12], False)])
    row = row_of(truth, found((0, [0, 0, 10, 10], 0.9), (0, [0, 2.5, 10, 10], 0.8)))
    assert row["AP50"] == pytest.approx(0.5)


@pytest.mark.parametrize(("width", "count"), [(1, 1), (1.5, 6)])
def test_the_threshold_itself_is_enough(width: float, count: int) -> None:
    """IoU exactly 1/2 and 3/4 reach the thresholds of these names: the first one of ten, the first six."""
    truth = split_of([(0, 0, [0, 0, 2, 1], False)])
    assert row_of(truth, found((0, [0, 0, width, 1], 0.9)))["AP50_95"] == pytest.approx(count / 10)


def test_overlap_is_the_devkits() -> None:
    """1-based pixels 2..4 by 1..5 and 3..6 by 1..5, all inside: 15, 20, common 10 of 25."""
    ours = np.array([[1, 0, 4, 5]], dtype=np.float32), np.array([[2, 0, 6, 5]], dtype=np.float32)
    assert overlaps(*ours).tolist() == [10 / 25]
    assert overlaps(np.array([[0.0, 0, 1, 1]]), np.array([[1.0, 1, 2, 2]])).tolist() == [0]
    assert overlaps(np.array([[0.0, 0, 1, 1]]), np.array([[3.0, 3, 5, 5]])).tolist() == [0]


def test_recalls_at_the_eleven_points() -> None:
    """3 of 10 objects found without a mistake: precision 1 at recalls 0, 0.1, 0.2 and 0.3 itself."""
    boxes = [[30.0 * i, 0.0, 30.0 * i + 20, 20.0] for i in range(10)]
    truth = split_of([(0, 0, box, False) for box in boxes])
    row = row_of(truth, found(*((0, box, 0.9) for box in boxes[:3])))
    assert row["AP50_11point"] == pytest.approx(4 / 11, abs=1e-12)
    assert row["AP50"] == pytest.approx(0.3, abs=1e-12)


def test_absent_classes_are_in_no_mean() -> None:
    """Of four classes one is found, one is not, one has no object and one only a difficult one."""
    truth = split_of([(0, 0, LEFT, False), (0, 1, RIGHT, False), (1, 3, RIGHT, True)], num_classes=4)
    parts = found((0, LEFT, 0.9)), found((0, RIGHT, 0.9), label=2), found((1, RIGHT, 0.9), label=3)
    result = VocEvaluator(truth).evaluate(Predictions(*map(np.concatenate, zip(*parts, strict=True))))
    assert result.metrics == {"mAP50_11point": 0.5, "mAP50": 0.5, "mAP50_95": 0.5}
    assert [(row["class"], row["AP50"]) for row in result.per_class] == [("class0", 1.0), ("class1", 0.0)]
    assert result.absent == ["class2", "class3"]
    assert result.curves.precision.shape == (4, 101)
    assert result.curves.precision[:2].mean(axis=1).tolist() == [1.0, 0.0]
    assert np.isnan(result.curves.precision[2:]).all()


def test_nothing_found_is_zero_and_nothing_to_find_is_minus_one() -> None:
    """No crash in either."""
    metrics = VocEvaluator(split_of([(0, 0, LEFT, False)])).evaluate(found()).metrics
    assert metrics == {"mAP50_11point": 0.0, "mAP50": 0.0, "mAP50_95": 0.0}
    for predictions in (found(), found((0, LEFT, 0.5))):
        result = VocEvaluator(split_of([])).evaluate(predictions)
        assert set(result.metrics.values()) == {-1.0}
        assert (result.per_class, result.absent) == ([], ["class0"])


# ---- the reference ---------------------------------------------------------------------------------------------------


def plain_iou(a: list[float], b: list[float]) -> float:
    """Of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def plain_average_precision(
    annotations: DetectionAnnotations, predictions: Predictions, label: int, threshold: float
) -> tuple[float, float]:
    """One prediction after another: the area under the curve and the eleven-point mean."""
    truth = {
        image: [
            {"box": annotations.boxes[row].tolist(), "difficult": annotations.ignored[row], "taken": False}
            for row in range(annotations.offsets[image], annotations.offsets[image + 1])
            if annotations.labels[row] == label
        ]
        for image in range(annotations.num_images)
    }
    total = sum(not thing["difficult"] for things in truth.values() for thing in things)
    mine = [i for i in range(len(predictions.labels)) if predictions.labels[i] == label]
    right = wrong = 0
    points = []
    for i in sorted(mine, key=lambda i: -predictions.scores[i]):
        things = truth[predictions.image_ids[i]]
        ious = [plain_iou(predictions.boxes[i].tolist(), thing["box"]) for thing in things]
        best = max(range(len(things)), key=lambda j: ious[j], default=None)
        if best is not None and ious[best] >= threshold:
            if things[best]["difficult"]:
                continue
            right, wrong = (right, wrong + 1) if things[best]["taken"] else (right + 1, wrong)
            things[best]["taken"] = True
        else:
            wrong += 1
        points.append((right / total, right / (right + wrong)))
    area = last = 0.0
    for number, (recall, _) in enumerate(points):
        area += (recall - last) * max(precision for _, precision in points[number:])
        last = recall
    eleven = [max((p for r, p in points if r >= t / 10), default=0.0) for t in range(11)]
    return area, sum(eleven) / 11


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_plain_loop(seed: int) -> None:
    """Random objects (a quarter difficult), moved boxes, duplicates, wrong classes, equal scores, empty images."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for image in range(25):
        for _ in range(rng.integers(0, 9)):
            corner, sides = rng.integers(0, 60, 2), rng.integers(5, 60, 2)
            rows.append((image, int(rng.integers(0, 3)), [*corner, *(corner + sides)], bool(rng.random() < 0.25)))
    truth = split_of(rows, num_images=25, num_classes=3)
    chosen = rng.integers(0, truth.num_boxes, 600)
    predictions = Predictions(
        np.repeat(np.arange(25), np.diff(truth.offsets))[chosen],
        (truth.boxes[chosen] + rng.integers(-6, 7, (600, 4)) * (1, 1, 0, 0)).astype(np.float32),
        rng.random(600).round(2).astype(np.float32),
        np.where(rng.random(600) < 0.2, rng.integers(0, 3, 600), truth.labels[chosen]),
    )
    result: DetectionResult = VocEvaluator(truth).evaluate(predictions)
    assert result.absent == []
    for label, row in enumerate(result.per_class):
        plain = [plain_average_precision(truth, predictions, label, (50 + 5 * i) / 100) for i in range(10)]
        assert 0 < row["AP50_95"] < row["AP50"] < 1
        assert row["AP50"] == pytest.approx(plain[0][0], abs=1e-12)
        assert row["AP50_11point"] == pytest.approx(plain[0][1], abs=1e-12)
        assert row["AP50_95"] == pytest.approx(np.mean([area for area, _ in plain]), abs=1e-12)
    assert result.metrics["mAP50"] == pytest.approx(np.mean([row["AP50"] for row in result.per_class]))


def test_the_order_of_predictions_with_different_scores_is_no_matter() -> None:
    """A permutation gives the same numbers to the last bit."""
    rng = np.random.default_rng(9)
    truth = split_of([(i % 2, 0, [i, 0.0, i + 10, 10.0], i % 3 == 0) for i in range(0, 60, 4)])
    boxes = np.concatenate([truth.boxes] * 3) + rng.uniform(-2, 0, (45, 4)).astype(np.float32) * (1, 1, 0, 0)
    scores = rng.permutation(45).astype(np.float32)
    images = np.tile(np.repeat(np.arange(2), np.diff(truth.offsets)), 3)
    predictions = Predictions(images, boxes.astype(np.float32), scores, np.zeros(45, dtype=np.int64))
    order = rng.permutation(45)
    shuffled = Predictions(*(column[order] for column in predictions))
    assert VocEvaluator(truth).evaluate(predictions).metrics == VocEvaluator(truth).evaluate(shuffled).metrics
