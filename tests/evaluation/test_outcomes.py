"""Confusion, recall, precision and calibration of a classifier, worked out by hand."""

import numpy as np
import pytest

from public.evaluation.outcomes import Outcomes, calibration, class_rows, confused_pairs, confusion_matrix, worst

NAMES = ["ant", "bee", "cat", "dog"]
OUTCOMES = Outcomes(
    labels=np.array([0, 0, 0, 1, 1, 2]),
    predicted=np.array([0, 1, 1, 1, 0, 2]),
    confidence=np.array([0.9, 0.6, 0.8, 1.0, 0.5, 0.1], np.float32),
    true_probability=np.array([0.9, 0.3, 0.1, 1.0, 0.2, 0.1], np.float32),
)


def test_the_classes() -> None:
    """Ant: 1 of 3 recognized, 2 taken for one; no dog is there, and none was seen."""
    matrix = confusion_matrix(OUTCOMES, 4)
    assert matrix.tolist() == [[1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    ant, bee, cat, dog = class_rows(matrix, NAMES)
    assert ant == ("ant", 3, 2, pytest.approx(1 / 3), 0.5, pytest.approx(0.4))
    assert bee == ("bee", 2, 3, 0.5, pytest.approx(1 / 3), pytest.approx(0.4))
    assert cat == ("cat", 1, 1, 1, 1, 1)
    assert dog == ("dog", 0, 0, None, None, None)
    assert confused_pairs(matrix, NAMES) == [("ant", "bee", 2), ("bee", "ant", 1)]
    assert confused_pairs(matrix, NAMES, limit=1) == [("ant", "bee", 2)]


def test_calibration() -> None:
    """Two bins: 0.5 and 0.1 (one of two right, mean 0.3) and four of 0.825 in the mean, of which two are right."""
    error, bins = calibration(OUTCOMES, num_bins=2)
    assert error == pytest.approx((2 * 0.2 + 4 * 0.325) / 6)
    low, high = bins
    assert low == (0.0, 0.5, 2, pytest.approx(0.3), 0.5)
    assert high == (0.5, 1.0, 4, pytest.approx(0.825), 0.5)
    empty = calibration(Outcomes(*(column[:0] for column in OUTCOMES)))
    assert (empty[0], sum(one.images for one in empty[1])) == (0.0, 0)


def test_the_worst_come_first() -> None:
    """Wrong ones alone, by the probability of the truth."""
    assert worst(OUTCOMES).tolist() == [2, 4, 1]
    assert worst(OUTCOMES, limit=1).tolist() == [2]
