"""Pictures of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from public.datasets.drawing import new_figure, png_of
from public.runtime.run_folder import replace_bytes


def draw_curves(
    path: Path, rows: Sequence[dict[str, Any]], panels: Sequence[tuple[str, Sequence[str]]], title: str
) -> None:
    """Draws metrics over epochs, one panel a group; needs no display.

    Args:
        path: the PNG file; written whole or not at all.
        rows: one dict an epoch with "epoch" and numbers; a row may lack a metric (epochs without evaluation).
        panels: (title, names of the metrics that share the panel).
        title: above all panels.

    Raises:
        OSError: the file cannot be written.
    """
    figure = new_figure(4.6 * len(panels), 3.6)
    figure.suptitle(title)
    for axes, (panel_title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if row.get(name) not in (None, -1)]
            if points:
                axes.plot(*zip(*points, strict=True), marker="." if len(points) < 60 else None, label=name)
        axes.set_xlabel("epoch")
        axes.set_title(panel_title)
        axes.grid(alpha=0.3)
        if len(names) > 1 and axes.lines:
            axes.legend()
    replace_bytes(path, png_of(figure))
