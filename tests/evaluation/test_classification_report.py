"""The report of a classifier: what its files hold."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from public.evaluation.classification import ClassificationResult
from public.evaluation.classification_report import write_report
from tests.evaluation.test_outcomes import NAMES, OUTCOMES

METRICS = {"top1": 0.5, "top5": 1.0, "loss": 0.7, "num_images": 6}


class Split:
    """Red pictures that know who asked for them."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def picture(self, index: int) -> np.ndarray:
        """One of them."""
        self.asked.append(index)
        return np.full((20, 40, 3), (200, 0, 0), np.uint8)

    def name(self, index: int) -> str:
        """A name with a comma, which a table must keep."""
        return f"{index},x.png"


def write(folder: Path, result: ClassificationResult, names: list[str], title: str) -> list[int]:
    """Writes a report; gives the pictures that were asked for."""
    split: Any = Split()
    write_report(folder, result, names, split, title=title)
    return split.asked


def test_its_files(tmp_path: Path) -> None:
    """Numbers as JSON, a line a class and a line an image as CSV, the three wrong pictures, all of it in the page."""
    asked = write(tmp_path / "out", ClassificationResult(METRICS, OUTCOMES), NAMES, "six of <4>")
    assert asked == [2, 4, 1]
    lines = (tmp_path / "out" / "outcomes.csv").read_text().splitlines()
    assert lines[0] == "image,truth,predicted,confidence,true_probability"
    assert [lines[3], lines[4]] == ['"2,x.png",ant,bee,0.8,0.1', '"3,x.png",bee,bee,1.0,1.0']
    assert len(lines) == 7
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics == METRICS | {
        "calibration_error": pytest.approx((0.1 + 0.6 + 0.8 + 0.5 + 0.9) / 6)
    }  # each a bin of its own
    rows = list(csv.DictReader((tmp_path / "out" / "per_class.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == NAMES
    assert (rows[0]["recall"], rows[3]["recall"]) == (str(1 / 3), "")
    grid = cv2.imread(str(tmp_path / "out" / "worst.jpg"))
    assert grid is not None
    assert grid.shape == (190, 3 * 158, 3)
    assert abs(grid[79, 79].astype(int) - (0, 0, 200)).max() < 12
    page = (tmp_path / "out" / "report.html").read_text()
    assert "six of &lt;4&gt;" in page
    assert page.count("data:image/png;base64,") == 0
    assert page.count("data:image/jpeg;base64,") == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "metrics.json", "per_class.csv", "outcomes.csv", "worst.jpg"}


def test_nothing_wrong(tmp_path: Path) -> None:
    """No worst picture, none asked for, and the matrix of a hundred and one classes is a picture."""
    count = 101
    right = OUTCOMES._replace(predicted=OUTCOMES.labels)
    names = [f"class {i}" for i in range(count)]
    assert write(tmp_path, ClassificationResult(METRICS, right), names, "x") == []
    assert not (tmp_path / "worst.jpg").exists()
    page = (tmp_path / "report.html").read_text()
    assert "Worst pictures" not in page
    assert page.count("data:image/png;base64,") == 1
