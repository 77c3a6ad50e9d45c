"""The parts of the benchmarks that could make a wrong number look right."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import compare, exact_resume, step_memory
from benchmarks.apart import Apart, entered
from benchmarks.training_steps import CLAIMED
from public.config.experiment import load_configs
from public.datasets.batches import DataError
from tests.commands import ROOT


def test_ratio_is_the_median_of_the_rounds_against_the_best_peer() -> None:
    speeds = {"ours": [10.0, 30.0, 40.0], "slow": [1.0, 1.0, 1.0], "fast": [5.0, 10.0, 10.0]}
    comparison = compare.Comparison(unit="images/s", speeds=speeds)
    assert comparison.best_peer == "fast"
    assert comparison.ratios == [2.0, 3.0, 4.0]
    assert comparison.ratio == 3.0
    assert comparison.record()["medians"] == {"ours": 30.0, "slow": 1.0, "fast": 10.0}
    assert "3.00" in comparison.table()


def test_ways_take_turns_after_a_round_that_does_not_count() -> None:
    turns: list[str] = []

    def turn(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    comparison = compare.alternate({name: lambda name=name: turn(name) for name in "ab"}, rounds=2, unit="turns/s")
    assert turns == ["a", "b", "a", "b", "b", "a"]
    assert comparison.speeds == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_all_rounds_of_what_is_warm_count() -> None:
    comparison = compare.alternate({"a": lambda: 1.0, "b": iter([2.0]).__next__}, 1, "turns/s", is_warm=True)
    assert comparison.speeds == {"a": [1.0], "b": [2.0]}


def test_a_result_is_one_line_with_its_machine(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    for ratio in (1.0, 2.0):
        compare.append_result("a_claim", {"ratio": ratio}, torch.device("cpu"), "some data", results)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["ratio"] for row in rows] == [1.0, 2.0]
    assert rows[0]["claim"] == "a_claim"
    assert rows[0]["machine"]["packages"]["torch"]
    assert rows[0]["date"].startswith("20")


def test_missing_data_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data to measure with.*public\.datasets\.sample"):
        compare.find_data("nothing_like_it", "NOTHING", tmp_path / "absent")


def test_differing_parts_names_every_difference_to_the_last_bit() -> None:
    def state(weight: float, step: int) -> dict[str, object]:
        return {"model": {"w": torch.tensor([1.0, weight])}, "optimizer": [{"step": step}]}

    assert exact_resume.differing_parts(state(0.0, 3), state(0.0, 3)) == []
    assert exact_resume.differing_parts(state(0.0, 3), state(-0.0, 4)) == [".model.w", ".optimizer[0].step"]
    assert exact_resume.differing_parts(state(float("nan"), 3), state(float("nan"), 3)) == []
    assert exact_resume.differing_parts({"a": 1}, {"b": 1}) == [""]
    assert exact_resume.differing_parts(torch.zeros(1), torch.zeros(1, dtype=torch.float64), "x") == ["x"]


def test_kills_are_spread_over_the_run() -> None:
    options = exact_resume.Options(kills=5, epochs=2, images_per_class=8, batch_size=16)  # 10 steps
    steps = exact_resume.steps_of_kills(options)
    assert len(set(steps)) == 5
    assert steps == sorted(steps)
    assert 1 <= steps[0] <= steps[-1] <= 9
    with pytest.raises(ValueError, match=r"--kills 10 must be .* below the run's 10 steps"):
        exact_resume.steps_of_kills(exact_resume.Options(kills=10, epochs=2, images_per_class=8))


def test_steps_are_read_from_progress_lines() -> None:
    line = "epoch 2/3  step 4/10  cross_entropy 2.1  lr 0.1  90 images/s  waiting for data 2%  left 0:00:07"
    assert exact_resume.steps_done(line) == [14]
    assert exact_resume.steps_done("evaluate  step 4/10  90 images/s") == []


@pytest.mark.parametrize("name", CLAIMED)
def test_a_step_by_default_is_one_of_the_row(name: str) -> None:
    """`training_steps` measures NHWC, the precision that `auto` takes, and what is computed again by default."""
    row = load_configs(ROOT / "detection_experiments" / f"resnet50_{name}_coco")[f"resnet50_{name}"]
    assert row.channels_last
    assert (row.precision, row.runtime.activation_checkpointing) == ("auto", "auto")


def test_recomputation_is_timed_as_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """glibc's variable is set for the processes that are weighed alone: beside it a run keeps no freed memory."""
    seen: list[str | None] = []

    class Pool:
        def __init__(self, _: int) -> None: ...
        def __enter__(self) -> "Pool":
            return self

        def __exit__(self, *_: object) -> None: ...
        def apply(self, *_: object) -> float:
            seen.append(os.environ.get("MALLOC_MMAP_THRESHOLD_"))
            return 1.0

    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setattr(step_memory.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=Pool))
    step_memory.memory("retinanet", step_memory.Options(ways=("norms", "off")))
    assert seen == [str(2**20)] * 2
    assert "MALLOC_MMAP_THRESHOLD_" not in os.environ


def turn_of(folder: Path, name: str) -> Callable[[], list[str]]:
    """A turn that gives who was ready before it."""
    before = [path.name for path in folder.iterdir()]
    time.sleep(0.2)
    (folder / name).touch()
    return lambda: before


def test_each_process_is_ready_before_the_next_prepares_and_before_any_turn(tmp_path: Path) -> None:
    with entered({name: Apart(turn_of, tmp_path, name) for name in ("first", "second")}) as ways:
        assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}
        assert (ways["first"](), ways["second"]()) == ([], ["first"])
