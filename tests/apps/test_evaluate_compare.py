"""Runs side by side: groups by seed, hand-worked means and differences, and a sentence for what cannot be compared."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from public.apps.evaluate import main
from public.config.classification import ClassificationConfig
from public.config.record import to_record
from public.config.run import RunConfig
from public.datasets.coco import CocoData, read_coco, write_coco_json
from public.evaluation.classification_report import OUTCOME_COLUMNS
from public.evaluation.coco import CocoEvaluator
from tests.datasets.written import coco_content, write_coco
from tests.evaluation.test_coco import true_boxes
from tests.recipes.tiny_detection import TINY


def write_outcomes(folder: Path, config: RunConfig | None, right: list[bool], **metrics: float) -> Path:
    """A run folder (or the folder of a report alone) in which a classifier was right or not."""
    report = folder if config is None else folder / "report"
    report.mkdir(parents=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(to_record(config)))
    rows = [(f"cat/{i}.png", "cat", "cat" if one else "dog", 0.5, 0.5) for i, one in enumerate(right)]
    with (report / "outcomes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([OUTCOME_COLUMNS, *rows])
    (report / "metrics.json").write_text(json.dumps({"top1": float(np.mean(right)), "num_images": 4, **metrics}))
    return folder


def compare(tmp_path: Path, *args: str | Path) -> dict[str, Any]:
    """What the command writes down."""
    main(["--compare", *map(str, args), "--output", str(tmp_path / "out.json")])
    return json.loads((tmp_path / "out.json").read_text())


@pytest.mark.slow
def test_classifiers(config: ClassificationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of one row, and one run of another: top-1 of 0.5 and 1 against 0.25.

    The mean over the two seeds of image 0 is 1 more than the other row's, of image 1 it is 0.5, of image 2 it is 0.5
    and of image 3 it is 0: the difference of a draw is the mean of four of those.
    """
    other = replace(config, name="other", batch_size=32)
    runs = [
        write_outcomes(tmp_path / "other", other, [False, False, False, True], loss=1.0),
        write_outcomes(tmp_path / "seed0", config, [True, False, False, True], loss=3.0),
        write_outcomes(tmp_path / "seed1", replace(config, name="seed1", seed=1), [True] * 4, loss=5.0),
    ]
    found = compare(tmp_path, *runs, "--resamples", "400")
    first, second = found["groups"]
    assert (first["name"], len(first["runs"]), second["name"], len(second["runs"])) == ("other", 1, "seed0", 2)
    assert first["metrics"] == {"top1": [0.25, None], "loss": [1.0, None]}
    assert second["metrics"] == {
        "top1": [0.75, pytest.approx(0.5 / 2**0.5)],
        "loss": [4.0, pytest.approx(2**0.5)],
    }
    assert second["difference"] == {"top1": 0.5, "loss": 3.0}
    rng = np.random.default_rng(0)
    draws = [np.array([1, 0.5, 0.5, 0])[rng.integers(0, 4, 4)].mean() for _ in range(400)]
    assert second["interval"] == {"top1": pytest.approx(np.percentile(draws, (2.5, 97.5)).tolist())}
    printed = capsys.readouterr().out.splitlines()
    low, high = second["interval"]["top1"]
    assert f"top1       seed0  0.7500 ± 0.3536  +0.5000 [{low:+.4f}, {high:+.4f}]" in printed
    assert "loss       seed0  4.0000 ± 1.4142  +3.0000" in printed


@pytest.mark.slow
def test_detectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One finds both objects, the other one of them; the split is the one that the first run names."""
    write_coco(tmp_path, coco_content([(7, 3, 4, 5, 20, 20), (2, 3, 1, 1, 9, 9)]))
    data = CocoData(**{**vars(TINY.data), "folder": str(tmp_path), "val_splits": ("train2017",)})
    annotations = read_coco(tmp_path, "train2017")
    everything = true_boxes(annotations)
    half = everything._replace(scores=np.array([0.5, 0.4], np.float32), boxes=everything.boxes + [[0] * 4, [90] * 4])
    for name, found in (("all", everything), ("half", half)):
        folder = tmp_path / name
        (folder / "report").mkdir(parents=True)
        record = to_record(replace(TINY, name=name, epochs=len(name), data=data))
        (folder / "config.json").write_text(json.dumps(record))
        write_coco_json(folder / "report/predictions.json", found, annotations)
    rows = compare(tmp_path, tmp_path / "half", tmp_path / "all", "--resamples", "50")["groups"]
    expected = CocoEvaluator(annotations).evaluate(half).metrics
    assert rows[0]["metrics"]["AP"] == [expected["AP"], None]
    assert rows[1]["difference"]["AP50"] == pytest.approx(1 - expected["AP50"])
    low, high = rows[1]["interval"]["AP50"]
    assert low == pytest.approx(0), "only the image that both found was drawn"
    assert high == pytest.approx(1), "only the other one was"
    assert rows[1]["interval"].keys() == {"AP", "AP50"}

    files = [tmp_path / name / "report/predictions.json" for name in ("half", "all")]
    split = ("--data.folder", tmp_path, "--data.val-splits", "train2017")
    assert compare(tmp_path, *files, *split, "--resamples", "50")["groups"][0]["metrics"] == rows[0]["metrics"]
    names = files[0].with_name("coco_images.json")
    content = json.loads(names.read_text())
    names.write_text(json.dumps(content | {"images": content["images"][:1]}))
    with pytest.raises(SystemExit, match="2"):
        compare(tmp_path, tmp_path / "half", tmp_path / "all")
    error = capsys.readouterr().err
    assert f"{files[0]} is of 1 images, and {annotations.source} has 2 in this split: compare" in error


def test_what_cannot_be_compared(
    config: ClassificationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence each, and exit code 2."""
    one = write_outcomes(tmp_path / "one", config, [True, False])
    more = write_outcomes(tmp_path / "more", config, [True, False, True])
    bare = write_outcomes(tmp_path / "bare", None, [True, False])
    (tmp_path / "found.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    damaged = write_outcomes(tmp_path / "damaged", None, [True])
    (damaged / "outcomes.csv").write_text("image\n1\n")
    for runs, message in {
        (one,): "--compare takes two runs or more, got 1.",
        (one, one): "one of them is named twice",
        (one, tmp_path / "empty"): "empty holds no evaluation to compare: there is neither",
        (one, tmp_path / "nothing"): "nothing holds no evaluation to compare",
        (one, tmp_path / "found.json"): "is of a detector: compare one task.",
        (one, more): "more/report/outcomes.csv is of 3 images and",
        (bare, damaged): "is no table of outcomes: expected the columns image, truth",
    }.items():
        with pytest.raises(SystemExit) as ended:
            compare(tmp_path, *runs)
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert message in error, error
        assert error.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["--compare", str(one), str(bare), "--output", str(tmp_path)])
    captured = capsys.readouterr()
    assert (
        f"--output {tmp_path} is a folder; expected a file to write, such as {tmp_path}/compare.json." in captured.err
    )
    assert captured.out == "", "before the comparison"
    main(["--compare", str(one), str(bare), "--output", str(tmp_path / "new/deep/out.json")])
    assert (tmp_path / "new/deep/out.json").is_file()
