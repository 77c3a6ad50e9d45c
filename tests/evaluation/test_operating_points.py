"""The threshold of the best F1, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from public.datasets.predictions import Predictions
from public.evaluation.operating_points import THRESHOLDS, best_point, judged, operating_points
from tests.evaluation.test_mistakes import TRUTH


@pytest.mark.parametrize(
    ("scores", "right", "num_objects", "expected"),
    [
        ([0.9, 0.8, 0.4], [1, 1, 0], 2, (0.6, 1.0, 1.0, 1.0)),  # between the last right one and the wrong one
        ([0.9, 0.8, 0.4], [0, 1, 0], 2, (0.6, 0.5, 0.5, 0.5)),
        ([0.9, 0.9, 0.9], [1, 0, 0], 1, (0.9, 1 / 3, 1.0, 0.5)),  # equal scores are shown together
        ([0.7], [1], 3, (0.7, 1.0, 1 / 3, 0.5)),
        ([0.9, 0.5], [0, 0], 4, (0.7, 0.0, 0.0, 0.0)),
        ([0.9, 0.6, 0.5], [1, 0, 1], 3, (0.5, 2 / 3, 2 / 3, 2 / 3)),  # f1: 2/4, 2/5, 4/6
        ([0.9, 0.6, 0.5], [1, 0, 1], 1, (0.75, 1.0, 1.0, 1.0)),  # the best of 2/2, 2/3 and 4/4 that shows least
    ],
)
def test_the_best_threshold(
    scores: list[float], right: list[int], num_objects: int, expected: tuple[float, ...]
) -> None:
    """Threshold, precision, recall and F1."""
    point = best_point(np.array(scores), np.array(right, bool), num_objects)
    assert point == pytest.approx(expected)


def test_nothing_to_choose() -> None:
    """No detection, or no object."""
    assert best_point(np.zeros(0), np.zeros(0, bool), 3) is None
    assert best_point(np.array([0.5]), np.zeros(1, bool), 0) is None


def test_over_classes() -> None:
    """Two cats (one found, twice), one dog (missed), an ignored dog that is found, and a bird that is none.

    Counted: the cat at 0.9 right, its second box at 0.7 wrong, the bird at 0.3 wrong; three objects.
    """
    truth = replace(TRUTH, class_names=["cat", "dog", "bird"], category_ids=[1, 2, 3])
    found = Predictions(
        np.array([5, 5, 5, 7]),
        np.array([[0, 0, 10, 9], [0, 0, 10, 10], [40, 40, 60, 60], [0, 0, 10, 10]], np.float32),
        np.array([0.7, 0.9, 0.8, 0.3], np.float32),
        np.array([0, 0, 1, 2]),
    )
    points = operating_points(judged(found, truth), truth)
    assert points.best == pytest.approx((0.8, 1.0, 1 / 3, 0.5))
    cat, dog, bird = points.per_class
    assert cat == pytest.approx((0.8, 1.0, 0.5, 2 / 3))
    assert (dog, bird) == (None, None)
    at = {round(float(t), 2): i for i, t in enumerate(THRESHOLDS)}
    assert [points.precision[at[t]] for t in (0.0, 0.3, 0.31, 0.7, 0.8)] == pytest.approx(
        [1 / 3, 1 / 3, 1 / 2, 1 / 2, 1]
    )
    assert np.isnan(points.precision[at[0.95]])
    assert points.recall.tolist() == pytest.approx([1 / 3] * 91 + [0] * 10, abs=0.34)
    assert points.recall[at[0.9]] == pytest.approx(1 / 3)
    assert points.recall[at[0.91]] == 0
