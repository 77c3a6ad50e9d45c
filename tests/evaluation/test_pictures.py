"""Boxes, grids and curves as pictures, without a display."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from public.datasets.annotations import DetectionAnnotations
from public.datasets.coco import read_coco
from public.datasets.drawing import class_color, draw_boxes, name_in_plot
from public.datasets.predictions import Predictions
from public.evaluation.evaluator import Curves, DetectionResult
from public.evaluation.pictures import (
    PANEL,
    GridEntry,
    draw_grid,
    draw_precision_recall,
    grid_entries,
    spread,
)
from public.geometry.labels import IGNORED
from public.runtime import run_folder

NAMES = ["cat", "a class with a very long name", "WBC"]
NO_BOXES = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def black(height: int, width: int) -> np.ndarray:
    """An image."""
    return np.zeros((height, width, 3), dtype=np.uint8)


def test_colors_differ() -> None:
    """A hundred classes, none equal, none gray, none too dark to be seen; neighbors far apart."""
    colors = np.array([class_color(label) for label in range(100)])
    assert len(np.unique(colors, axis=0)) == 100
    assert (np.ptp(colors, axis=1) > 80).all()
    assert (colors.max(axis=1) >= 200).all()
    assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 100
    assert len(set(class_color(IGNORED))) == 1


def test_lines_cover_the_first_and_the_last_pixel() -> None:
    """A box from 20 to 60 covers the pixels 20 to 59; what lies outside box and name stays; the input stays."""
    image = black(100, 100)
    drawn = draw_boxes(image, np.array([[20.0, 30, 60, 80]]), np.array([0]), None, NAMES)
    color = np.array(class_color(0))
    ring = np.ones((50, 40), dtype=bool)
    ring[1:-1, 1:-1] = False
    inside = drawn[30:80, 20:60]
    assert (inside[ring] == color).all()
    assert not inside[~ring].any()
    assert not drawn[80:].any()
    assert not drawn[:, :20].any()
    assert drawn[15:30, 20:60].any(), "the name stands above"
    assert not image.any()


def test_the_best_is_on_top() -> None:
    """Two boxes that share an edge: it has the color of the higher score, whatever the order."""
    boxes = np.array([[20.0, 40, 60, 80], [20.0, 40, 80, 90]])
    for scores in ([0.9, 0.1], [0.1, 0.9]):
        drawn = draw_boxes(black(100, 100), boxes, np.array([0, 2]), np.array(scores), NAMES)
        best = 0 if scores[0] > scores[1] else 2
        assert drawn[75, 20].tolist() == [*class_color(best)]


def test_ignored_regions_are_gray() -> None:
    """They have no class to name."""
    drawn = draw_boxes(black(100, 100), np.array([[20.0, 30, 60, 80]]), np.array([IGNORED]), None, NAMES)
    assert drawn[79, 40].tolist() == [*class_color(-1)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (3, 60), (60, 60), (24, 60), (60, 24), (480, 640), (3000, 2000)])
@pytest.mark.parametrize("label", [0, 1, IGNORED])
def test_any_image_size(size: tuple[int, int], label: int) -> None:
    """Boxes inside, in the corners, all over and beyond the image: names stay inside it and can be seen."""
    height, width = size
    corners = [(0.2, 0.4, 0.6, 0.9), (0.9, 0.95, 1.0, 1.0), (0.0, 0.0, 0.1, 0.1), (-1.0, -1.0, 2.0, 2.0)]
    boxes = np.array(corners) * (width, height, width, height)
    for box in boxes:
        drawn = draw_boxes(black(*size), box[None], np.array([label]), np.array([0.5]), NAMES)
        assert (drawn.shape, drawn.dtype) == ((height, width, 3), np.uint8)
        assert (drawn == class_color(label)).all(axis=2).any()


def test_names_make_room_for_each_other() -> None:
    """Two boxes with one corner: the second name goes below the first one, and both patches are whole."""
    boxes = np.array([[50.0, 50, 150, 150], [50.0, 50, 150, 150]])
    one = draw_boxes(black(200, 200), boxes[:1], np.array([0]), np.array([0.9]), NAMES)
    both = draw_boxes(black(200, 200), boxes, np.array([0, 2]), np.array([0.9, 0.8]), NAMES)
    assert np.array_equal(one[:50], both[:50])
    assert (both[51:60, 55:90] == class_color(2)).all(axis=2).any()


def entry(image: np.ndarray, count: int) -> GridEntry:
    """An image with one object and `count` predictions."""
    boxes = np.tile(np.array([[5.0, 5, 20, 20]], np.float32), (count, 1))
    found = boxes, np.full(count, 0.5, np.float32), np.zeros(count, np.int64)
    return GridEntry(image, np.array([[4.0, 4, 22, 22]], np.float32), np.array([2]), *found)


@pytest.mark.parametrize("name", ["grid.png", "grid.jpg"])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_grid(tmp_path: Path, name: str, count: int) -> None:
    """Two images of two panels a row; images of any size; the place of a missing one stays white."""
    images = [black(48, 64), black(2000, 100), black(30, 700), black(60, 60), black(480, 640)]
    draw_grid(tmp_path / "new" / name, [entry(image, i) for i, image in enumerate(images[:count])], NAMES)
    picture = cv2.imread(str(tmp_path / "new" / name))
    assert picture is not None
    rows = -(-count // 2)
    if count:
        assert picture.shape[0] == rows * (PANEL[0] + 34)
        assert picture.shape[1] == (4 * (PANEL[1] + 6) + 24)
    if count == 1:
        assert (picture[:, picture.shape[1] // 2 + 8 :] > 250).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_panels_show_truth_and_predictions(tmp_path: Path) -> None:
    """The object's color on the left alone, the prediction's on the right alone."""
    draw_grid(tmp_path / "grid.png", [entry(black(48, 64), 1)], NAMES)
    picture = cv2.imread(str(tmp_path / "grid.png"))
    assert picture is not None
    left, right = np.split(picture[..., ::-1][:, : 2 * (PANEL[1] + 12)], 2, axis=1)
    for half, label, other in ((left, 2, 0), (right, 0, 2)):
        assert (half == class_color(label)).all(axis=2).any()
        assert not (half == class_color(other)).all(axis=2).any()


def test_entries_of_real_images(real_data: Path) -> None:
    """Spread over the split from the first to the last image, with their objects and what is sure enough."""
    annotations = read_coco(real_data / "coco_mini", "val2017")
    last = int(annotations.image_ids[-1])
    boxes = np.array([[1.0, 2, 30, 40], [2, 2, 50, 50]], np.float32)
    predictions = Predictions(np.array([last, last]), boxes, np.array([0.2, 0.9], np.float32), np.array([3, 4]))
    entries = grid_entries(annotations, predictions, spread(annotations, 3), 0.5)
    for shown, index in zip(entries, (0, 78, 157), strict=True):
        assert shown.image.shape == (*annotations.sizes[index], 3)
        gt_boxes, gt_labels = annotations.of(index)
        assert np.array_equal(shown.gt_boxes, gt_boxes)
        assert np.array_equal(shown.gt_labels, gt_labels)
    assert [len(shown.pred_labels) for shown in entries] == [0, 0, 1]
    assert entries[-1].pred_labels.tolist() == [4]
    assert len(grid_entries(annotations, predictions, spread(annotations), 0.3)) == 8


# ---- curves ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved."""
    saved: list[Figure] = []
    savefig = Figure.savefig

    def remember(self: Figure, *args: Any, **options: Any) -> None:
        saved.append(self)
        savefig(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return saved


def result_of(num_present: int, num_absent: int) -> DetectionResult:
    """Class c has precision (c + 1) / n everywhere; the absent ones come first."""
    names = [f"class{label}" for label in range(num_absent + num_present)]
    values = (np.arange(num_present) + 1) / max(1, num_present)
    precision = np.concatenate([np.full((num_absent, 11), np.nan), np.repeat(values[:, None], 11, axis=1)])
    rows = [
        {"class": name, "objects": 1, "AP50": value} for name, value in zip(names[num_absent:], values, strict=True)
    ]
    return DetectionResult({"AP": 0.5}, rows, names[:num_absent], names, Curves(np.linspace(0, 1, 11), precision))


@pytest.mark.slow
def test_curves_are_named_best_first(tmp_path: Path, figures: list[Figure]) -> None:
    """Each with its AP50, then the mean in bold."""
    draw_precision_recall(tmp_path / "new" / "curves.png", result_of(2, 1))
    lines = figures[0].axes[0].lines
    assert [str(line.get_label()) for line in lines] == ["class2 1.000", "class1 0.500", "mean of 2: 0.750"]
    assert np.asarray(lines[-1].get_ydata()).tolist() == [0.75] * 11
    assert lines[-1].get_linewidth() > 2 * lines[0].get_linewidth()
    assert (tmp_path / "new" / "curves.png").stat().st_size > 5000


@pytest.mark.slow
def test_of_many_classes_the_best_and_the_worst_are_named(tmp_path: Path, figures: list[Figure]) -> None:
    """Ten each of eighty; the others are there, without a name."""
    draw_precision_recall(tmp_path / "curves.png", result_of(80, 0))
    labels = [str(line.get_label()) for line in figures[0].axes[0].lines]
    named = [label.split()[0] for label in labels if label.startswith("class")]
    assert named == [f"class{i}" for i in (*range(79, 69, -1), *range(9, -1, -1))]
    assert len(labels) == 81


@pytest.mark.slow
def test_nothing_to_draw(tmp_path: Path) -> None:
    """No class has an object: empty axes, no crash, and no window system."""
    before = "matplotlib.pyplot" in sys.modules
    draw_precision_recall(tmp_path / "curves.png", result_of(0, 3))
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.slow
def test_a_full_disk_stops_nothing(
    tmp_path: Path,
    small_disk: Callable[[int], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning for each picture, and no half of it."""
    monkeypatch.setattr(run_folder, "_unwritten", [])
    with small_disk(100):
        draw_precision_recall(tmp_path / "curves.png", result_of(2, 1))
        draw_grid(tmp_path / "grid.jpg", [entry(black(48, 64), 1)], NAMES)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "could not write curves.png",
        "could not write grid.jpg",
    ]
    assert not list(tmp_path.iterdir())


def test_annotations_of_an_empty_image(tmp_path: Path) -> None:
    """No object and no prediction: two plain panels."""
    annotations = DetectionAnnotations(
        folder=tmp_path,
        files=np.array([b"a.png"]),
        image_ids=np.array([5]),
        sizes=np.array([[40, 60]]),
        offsets=np.array([0, 0]),
        boxes=NO_BOXES[0],
        labels=NO_BOXES[1],
        ignored=np.zeros(0, dtype=bool),
        class_names=NAMES,
        category_ids=[1, 2, 3],
        source=tmp_path,
        skipped={},
    )
    cv2.imwrite(str(tmp_path / "a.png"), black(40, 60))
    none = Predictions(NO_BOXES[1], NO_BOXES[0], np.zeros(0, np.float32), NO_BOXES[1])
    (only,) = grid_entries(annotations, none, spread(annotations), 0.3)
    draw_grid(tmp_path / "grid.png", [only], NAMES)
    assert only.image.shape == (40, 60, 3)


def test_names_in_plots() -> None:
    """A long one is cut, so that a legend leaves room for the curves; matplotlib hides what begins with "_"."""
    assert [name_in_plot(name) for name in ("a" * 24, "$x$", "_x")] == ["a" * 24, r"\$x\$", " _x"]
    assert name_in_plot("a" * 25) == "a" * 23 + "\u2026"
