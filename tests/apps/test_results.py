"""Records of runs and the tables made of them: numbers worked out by hand, and what is refused."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from public.apps.results import BEGIN, END, REPOSITORY, add, main, read_record, tables
from public.config.classification import ClassificationConfig
from public.config.record import to_record

ENVIRONMENT = {"processor": "A processor", "device": "CPU (2 threads)"}


def write_run(folder: Path, config: ClassificationConfig, top1: list[float | None], epochs: int | None = None) -> Path:
    """A run folder with a row of metrics for each number, None being an epoch that was not evaluated."""
    folder.mkdir(parents=True)
    config = replace(config, epochs=epochs or len(top1), name=folder.name)
    (folder / "config.json").write_text(json.dumps(to_record(config)))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    rows = [{"epoch": i + 1, "lr": 0.1} | ({} if one is None else {"top1": one}) for i, one in enumerate(top1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def plain(config: ClassificationConfig) -> ClassificationConfig:
    """A config that ends when it is told to."""
    return replace(
        config, data=replace(config.data, folder="CIFAR100"), schedule=replace(config.schedule, milestones=(0.5,))
    )


def test_seeds_are_one_line(tmp_path: Path, plain: ClassificationConfig) -> None:
    """Mean and deviation of a sample: 0.2 and 0.4 are 0.3 and 0.141; the best epochs are 0.5 and 0.4."""
    runs = tmp_path / "an_experiment/runs"
    write_run(runs / "ours_seed0", plain, [0.5, None, 0.2])
    write_run(runs / "ours_seed1", replace(plain, seed=1), [0.3, None, 0.4])
    peer = write_run(runs / "other_seed0", plain, [0.1, None, 0.25])
    (peer / "peer.txt").write_text("a bare loop\n")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    main(["--results", str(tmp_path / "results"), "--page", str(page), "--add", *map(str, sorted(runs.iterdir()))])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| row")]
    assert lines == [
        "| other (a bare loop) | top1 | 0.250 | 0.250 | 3 | 1 | A processor | `other_seed0` |",
        "| ours | top1 | 0.300&nbsp;±&nbsp;0.141 | 0.450&nbsp;±&nbsp;0.071 | 3 | 2 | A processor | "
        "`ours_seed0`, `ours_seed1` |",
    ]


def test_other_settings_are_another_line(tmp_path: Path, plain: ClassificationConfig) -> None:
    """A run whose batch differs is not averaged with the others."""
    write_run(tmp_path / "results/e/row_seed0", plain, [0.2])
    write_run(tmp_path / "results/e/row_seed1", replace(plain, batch_size=2 * plain.batch_size, seed=1), [0.4])
    text = tables(tmp_path / "results")
    assert "| 0.200 |" in text
    assert "| 0.400 |" in text


def test_evaluations_alone_have_a_table_of_their_own(tmp_path: Path, plain: ClassificationConfig) -> None:
    """A column a metric; a run of the same folder has the table of runs before it."""
    write_run(tmp_path / "results/e/trained", plain, [0.25])
    folder = write_run(tmp_path / "results/e/engine_bf16", plain, [0.2])
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.json").write_text(json.dumps({"top1": 0.8215, "loss": 0.71234567, "num_images": 1000}))
    runs, evaluations = tables(tmp_path / "results").strip().split("\n\n")[-2:]
    assert "| trained | top1 | 0.250 |" in runs
    assert evaluations.splitlines() == [
        "| row | top1 | loss | num_images | processor |",
        "| --- | --- | --- | --- | --- |",
        "| engine_bf16 | 0.8215 | 0.7123 | 1000 | A processor |",
    ]


def test_refusals(tmp_path: Path, plain: ClassificationConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence each: half a run, no evaluation, a path of this machine, another run's record, no run, no place."""
    results = tmp_path / "results"
    runs = tmp_path / "e/runs"
    with pytest.raises(ValueError, match="ended after epoch 1 of 2; records are of whole runs"):
        read_record(write_run(runs / "half", plain, [0.2], epochs=2))
    with pytest.raises(ValueError, match=r"metrics\.jsonl has no top1 of the last epoch"):
        read_record(write_run(runs / "blind", plain, [0.2, None]))
    here = replace(plain, data=replace(plain.data, folder="/home/someone/CIFAR100"))
    with pytest.raises(ValueError, match="its config names /home/someone/CIFAR100, a path of this machine"):
        add(write_run(runs / "here", here, [0.2]), results)
    add(write_run(runs / "row", plain, [0.2]), results)
    with pytest.raises(ValueError, match="holds the record of another run"):
        add(write_run(tmp_path / "elsewhere/e/runs/row", plain, [0.3]), results)
    with pytest.raises(ValueError, match="holds no record of a run"):
        read_record(tmp_path)
    runs_left = write_run(results / "e/left", plain, [0.2])
    (runs_left / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match="left holds no record of a run"):
        tables(results)
    (runs_left / "metrics.json").write_text("[]")
    with pytest.raises(ValueError, match="left holds no record of an evaluation"):
        tables(results)
    (runs_left / "metrics.json").write_text('{"top1": 0.5}')
    other = shutil.copytree(runs_left, results / "e/other")
    (other / "metrics.json").write_text('{"loss": 0.5}')
    with pytest.raises(ValueError, match=r"other: metrics\.json has loss, and left top1\."):
        tables(results)
    shutil.rmtree(runs_left)
    shutil.rmtree(other)
    with pytest.raises(SystemExit):
        main(["--results", str(results), "--page", str(tmp_path / "none.md")])
    assert "has no place for the tables" in capsys.readouterr().err


def test_the_page_is_made_of_the_records() -> None:
    """`python -m public.apps.results` would change nothing, and every record can be read."""
    page = (REPOSITORY / "docs/results.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == tables(REPOSITORY / "results").strip()


def test_the_front_page_has_no_other_numbers() -> None:
    """Each row that links the records of an experiment states what the table of these records says."""
    made, linked = tables(REPOSITORY / "results"), 0
    for row in (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines():
        for name in re.findall(r"\(results/(\w+)\)", row) if row.startswith("|") else ():
            linked += 1
            table = made.split(f"### {name}\n")[1].split("### ")[0]
            assert set(re.findall(r"0\.\d+", row)) <= set(re.findall(r"0\.\d+", table)), row
    assert linked >= 3
