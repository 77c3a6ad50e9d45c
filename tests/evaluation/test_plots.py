"""Curves as a picture, without a display."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from public.evaluation.plots import draw_curves

PANELS = (("loss", ("train_loss", "loss")), ("lr", ("lr",)))
ROWS = [
    {"epoch": 1, "train_loss": 2.0, "lr": 0.1},
    {"epoch": 2, "train_loss": 1.0, "lr": 0.1, "loss": 1.5},
    {"epoch": 3, "train_loss": 0.5, "lr": 0.01},
    {"epoch": 4, "train_loss": 0.4, "lr": 0.01, "loss": None},
]


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


@pytest.mark.slow
def test_each_metric_is_a_line_over_its_own_epochs(tmp_path: Path, figures: list[Figure]) -> None:
    """Epochs without evaluation are skipped of the metric's line; each panel has its title."""
    draw_curves(tmp_path / "curves.png", ROWS, PANELS, "tiny")
    loss, lr = figures[0].axes
    lines = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in loss.lines}
    assert lines == {"train_loss": [[1, 2.0], [2, 1.0], [3, 0.5], [4, 0.4]], "loss": [[2, 1.5]]}
    assert [axes.get_title() for axes in (loss, lr)] == ["loss", "lr"]
    assert figures[0].get_suptitle() == "tiny"
    assert loss.get_legend() is not None
    assert lr.get_legend() is None


@pytest.mark.slow
def test_the_picture_is_not_empty(tmp_path: Path) -> None:
    """A PNG of two panels, wider than high, with something drawn on the white."""
    draw_curves(tmp_path / "curves.png", ROWS, PANELS, "tiny")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        assert image.width > 2 * image.height
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


@pytest.mark.slow
@pytest.mark.parametrize("rows", [[], [{"epoch": 1}], [{"epoch": 1, "train_loss": float("nan"), "lr": 0.1}]])
def test_runs_with_little_to_show(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """No epoch, no metric, and a loss that is not finite."""
    draw_curves(tmp_path / "curves.png", rows, PANELS, "tiny")
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_full_disk_leaves_the_curves_before(
    tmp_path: Path, small_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    """Written whole or not at all, and nothing beside it."""
    draw_curves(tmp_path / "curves.png", ROWS[:2], PANELS, "tiny")
    before = (tmp_path / "curves.png").read_bytes()
    with small_disk(100), pytest.raises(OSError, match="File too large"):
        draw_curves(tmp_path / "curves.png", ROWS, PANELS, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert (tmp_path / "curves.png").read_bytes() == before


@pytest.mark.slow
def test_no_window_system_is_touched(tmp_path: Path) -> None:
    """pyplot, which keeps figures and looks for a display, is not needed."""
    before = "matplotlib.pyplot" in sys.modules
    draw_curves(tmp_path / "curves.png", ROWS, PANELS, "tiny")
    assert ("matplotlib.pyplot" in sys.modules) == before
