"""The square window by hand, on a picture of 8 x 4 pixels (width x height)."""

import numpy as np
import pytest

from public.transforms.detection import FILL, DetectionSample
from public.transforms.window import RandomSquareWindow

IMAGE = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
BOXES = np.array([[1, 1, 3, 3], [0, 0, 1, 1], [1, 1, 8, 4]], dtype=np.float32)


def window(scale: float, row: float, column: float, border: int = 128) -> DetectionSample:
    """Of that scale, at draws of the middle's place."""
    sample = DetectionSample(IMAGE, BOXES, np.array([5, 6, -1]), (4, 8))
    return RandomSquareWindow(scales=(9.0, scale), border=border)(sample, np.array([0.5, row, column]))


def test_a_square_as_wide_as_the_picture() -> None:
    """The border 128 is halved to 1 and 2: the middle is pixel 1 + 0.5 x 2 = 2 of 4 rows, 2 + 0.5 x 4 = 4 of 8
    columns, so that the square begins in row -2 and column 0."""
    found = window(1.0, 0.5, 0.5)
    assert (found.image.shape, found.content_size) == ((8, 8, 3), (8, 8))
    assert np.array_equal(found.image[2:6], IMAGE)
    assert (found.image[:2] == FILL).all()
    assert (found.image[6:] == FILL).all()
    assert found.boxes.tolist() == [[1, 3, 3, 5], [0, 2, 1, 3], [1, 3, 8, 6]]
    assert found.labels.tolist() == [5, 6, -1]


def test_a_small_square_cuts_objects() -> None:
    """Of side 4 around row 2 and column 4: columns 2 to 6. Nothing is left of the second object."""
    found = window(0.5, 0.5, 0.5)
    assert np.array_equal(found.image, IMAGE[:, 2:6])
    assert found.boxes.tolist() == [[0, 1, 1, 3], [0, 1, 4, 4]]
    assert found.labels.tolist() == [5, -1]


def test_the_middle_stays_within_the_border() -> None:
    """Of 1: the columns 1 to 6; of 0: the corner pixel too."""
    assert np.array_equal(window(0.25, 0.5, 0.0, border=1).image, IMAGE[1:3, :2])
    assert np.array_equal(window(0.25, 0.5, 0.99, border=1).image, IMAGE[1:3, 5:7])
    corner = window(0.25, 0.0, 0.0, border=0).image
    assert np.array_equal(corner[1, 1], IMAGE[0, 0])
    assert (corner[0] == FILL).all()


@pytest.mark.parametrize("wrong", [{"scales": ()}, {"scales": (0.5, 0.0)}, {"border": -1}, {"border": 1.5}])
def test_what_it_refuses(wrong: dict[str, object]) -> None:
    """With the transform as it was given."""
    with pytest.raises(ValueError, match=r"RandomSquareWindow\(.*must be"):
        RandomSquareWindow(**wrong)  # pyright: ignore[reportArgumentType]
