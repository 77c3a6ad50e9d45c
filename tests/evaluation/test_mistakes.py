"""Confusion, TIDE's kinds of error and mistakes by image, by hand."""

from pathlib import Path

import numpy as np
import pytest

from public.datasets.annotations import DetectionAnnotations
from public.datasets.predictions import Predictions
from public.evaluation.mistakes import find_mistakes
from public.evaluation.operating_points import judged

# Two images: a cat, a dog and an ignored dog; a cat.
TRUTH = DetectionAnnotations(
    folder=Path(),
    files=np.array([b"a", b"b"]),
    image_ids=np.array([5, 7]),
    sizes=np.full((2, 2), 100),
    offsets=np.array([0, 3, 4]),
    boxes=np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 60, 60], [0, 0, 10, 10]], np.float32),
    labels=np.array([0, 1, 1, 0]),
    ignored=np.array([False, False, True, False]),
    class_names=["cat", "dog"],
    category_ids=[3, 4],
    source=Path("x"),
    skipped={},
)
FOUND = [
    (5, (0, 0, 10, 10), 0.9, 0),  # the cat
    (5, (0, 0, 10, 9), 0.8, 0),  # the cat again
    (5, (20, 20, 30, 30), 0.7, 0),  # the dog, taken for a cat
    (5, (40, 40, 60, 60), 0.9, 1),  # the ignored dog
    (7, (70, 70, 90, 90), 0.6, 1),  # nothing
    (7, (0, 0, 10, 4), 0.5, 0),  # the cat, badly placed: IoU 0.4
    (7, (0, 0, 10, 10), 0.1, 0),  # the cat, below the threshold
]


def predictions() -> Predictions:
    """As arrays."""
    ids, boxes, scores, labels = zip(*FOUND, strict=True)
    return Predictions(np.array(ids), np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels))


def test_every_kind() -> None:
    """At 0.4: of image 5 a duplicate, a wrong class and a missed dog; of image 7 two wrong boxes and a missed cat."""
    mistakes = find_mistakes(judged(predictions(), TRUTH), TRUTH, threshold=0.4)
    assert mistakes.by_image.tolist() == [3, 3]
    # Rows cat, dog, background; columns cat, dog, missed.
    assert mistakes.confusion.tolist() == [[1, 0, 1], [1, 0, 0], [2, 1, 0]]
    counts = {kind: count for kind, _, count, _ in mistakes.errors}
    assert counts == {"Cls": 1, "Loc": 1, "Both": 0, "Dupe": 1, "Bkg": 1, "Miss": 0}
    lost = {kind: value for kind, _, _, value in mistakes.errors}
    # Without the wrong class the dog has AP 1 instead of 0, and the cats have one wrong box less.
    assert lost["Cls"] == pytest.approx(0.5, abs=0.2)
    assert lost["Both"] == 0


def test_nothing_found() -> None:
    """All three objects are missed, and the ignored one is not."""
    none = Predictions(*(column[:0] for column in predictions()))
    mistakes = find_mistakes(judged(none, TRUTH), TRUTH, threshold=0.3)
    assert mistakes.by_image.tolist() == [2, 1]
    assert mistakes.confusion.tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]
