"""Pictures whose boxes are painted, each in a color of its own.

Wherever a transform moves a box, all of it and nothing but it has to be of that color.
"""

from collections.abc import Iterator

import numpy as np

from public.transforms.detection import DetectionSample

ALMOST_ONE = 1 - 2.0**-53
Box = tuple[float, float, float, float]


def sample_of(image: np.ndarray, boxes: list[Box], labels: list[int] | None = None) -> DetectionSample:
    """A sample without a canvas; classes 0, 1, 2, ... unless given."""
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    classes = np.array(range(len(array)) if labels is None else labels, dtype=np.int64)
    return DetectionSample(image, array, classes, image.shape[:2])


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def color_of(row: int) -> tuple[int, int, int]:
    """Of the painted box that was row `row` at first; red is 200 or more in no other pixel."""
    return (200 + 5 * row, 255 - 20 * row, 30 * row)


def painted(rng: np.random.Generator) -> DetectionSample:
    """Up to 9 boxes at whole pixels, in the cells of a 3x3 grid, each painted; about a third are ignore regions.

    Labels are the rows, or -2 - row for an ignore region, so that each box can be told by its label.
    """
    height, width = rng.integers(45, 90, 2).tolist()
    image = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
    cells = [cell for cell in range(9) if rng.random() < 0.35]
    boxes, labels = [], []
    for row, cell in enumerate(cells):
        top, left = cell // 3 * (height // 3), cell % 3 * (width // 3)
        y1, y2 = top + rng.integers(0, 5), top + rng.integers(9, height // 3 + 1)
        x1, x2 = left + rng.integers(0, 5), left + rng.integers(9, width // 3 + 1)
        image[y1:y2, x1:x2] = color_of(row)
        boxes.append((x1, y1, x2, y2))
        labels.append(row if rng.random() < 0.65 else -2 - row)
    return sample_of(image, boxes, labels)


def row_of(label: int) -> int:
    """The row that a painted box was at first."""
    return label if label >= 0 else -2 - label


def painted_cases(num_draws: int, num_cases: int = 300) -> Iterator[tuple[DetectionSample, np.ndarray]]:
    """Painted samples with draws, among them the lowest and the highest."""
    rng = np.random.default_rng(0)
    for case in range(num_cases):
        draws = rng.random(num_draws)
        yield painted(rng), {0: np.zeros(num_draws), 1: np.full(num_draws, ALMOST_ONE)}.get(case, draws)


def assert_painted(result: DetectionSample, num_rows: int) -> None:
    """Each box is all of its color, and that color is nowhere else (nor anywhere, if the box is gone)."""
    boxes = {row_of(label): box for label, box in zip(result.labels.tolist(), result.boxes.tolist(), strict=True)}
    for row in range(num_rows):
        is_color = (result.image == color_of(row)).all(axis=2)
        x1, y1, x2, y2 = (int(edge) for edge in boxes.get(row, (0, 0, 0, 0)))
        assert is_color[y1:y2, x1:x2].all()
        assert is_color.sum() == (x2 - x1) * (y2 - y1)
