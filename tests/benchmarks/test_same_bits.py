"""What `benchmarks.same_bits` compares, and that it sees a difference of one bit."""

import re
from typing import Any

import pytest
import torch

from benchmarks.same_bits import compare, flat
from benchmarks.same_bits_cases import CASES, config_of

STEPS = {f"step/loss of step {step}": 1.0 for step in range(1, 21)}


def result(**changes: Any) -> dict[str, dict[str, Any]]:
    """A whole result with one weight, some of its kinds replaced."""
    kinds: dict[str, dict[str, Any]] = {
        "step losses": STEPS,
        "weights": {"w": torch.tensor([1.0, 0.0])},
        "outputs": {"0": torch.ones(1)},
        "files of detections": {"predictions.json": b"x" * 100},
    }
    return kinds | {key.replace("_", " "): value for key, value in changes.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_a_config_of_the_present_tree(name: str) -> None:
    """In its own spelling: four epochs, of five steps with the generated images."""
    config = config_of(name)
    assert (config.name, config.epochs, config.runtime.processes) == (name, 4, CASES[name].processes)
    assert config.data.folder == CASES[name].data[1]["folder"]
    assert config.optimizer.lr == CASES[name].optimizer[1]["lr"]
    assert len(config.data.train_transforms) == len(CASES[name].data[1]["train_transforms"])


def test_every_task_is_run_with_accumulation_averaging_and_two_processes() -> None:
    """And without."""
    tasks: dict[str, list[str]] = {}
    for name, case in CASES.items():
        tasks.setdefault(case.data[0] if case.detector is None else case.detector[0], []).append(name)
    assert sorted(tasks) == ["cascade_rcnn", "centernet", "cifar100", "faster_rcnn", "fcos", "imagenet", "retinanet"]
    for names in tasks.values():
        assert {CASES[name].processes for name in names} == {1, 2}
        for setting in ("accumulation_steps", "ema_decay"):
            assert any(setting in CASES[name].run for name in names)


def test_equal_results_are_called_equal() -> None:
    is_equal, line = compare(result(), result())
    assert is_equal
    assert line == "equal: 20 step losses, 1 weights, 1 outputs, 1 files of detections"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"w": torch.tensor([1.0, -0.0])}}, r"DIFFERS in weights: w: by at most 0 \(1 of 1 differ\)"),
        ({"weights": {"w": torch.tensor([1.5, 0.0])}}, r"DIFFERS in weights: w: by at most 0\.5"),
        ({"weights": {"v": torch.zeros(2)}}, r"DIFFERS in weights: w is only in the old one \(2 such\)"),
        ({"weights": {"w": torch.zeros(3)}}, r"torch\.float32 \[2\] is now torch\.float32 \[3\]"),
        ({"step_losses": STEPS | {"step/loss of step 3": 1.25}}, r"step losses: step/loss of step 3: .* by 0\.25"),
        ({"files_of_detections": {"predictions.json": b"xx"}}, r"100 and 2 bytes, alike up to byte 2"),
    ],
)
def test_a_difference_is_named_with_its_size(changes: dict[str, Any], message: str) -> None:
    """The first of its kind; the others by kind alone."""
    is_equal, line = compare(result(), result(**changes))
    assert not is_equal
    assert re.search(message, line), line


def test_nothing_compared_is_not_equal() -> None:
    """Runs that stopped early, outputs that nobody kept, detectors that found nothing."""
    no_detections = {"predictions.json": b"[]"}
    for changes, words in (
        ({"step_losses": {}}, "were 0 steps and not 20"),
        ({"outputs": {}}, "no outputs"),
        ({"files_of_detections": no_detections}, "no detections"),
    ):
        is_equal, line = compare(result(**changes), result(**changes))
        assert not is_equal
        assert words in line


def test_structures_are_compared_by_the_place_of_each_value() -> None:
    """Dicts, lists and tuples within each other."""
    assert flat({"a": [1, (2.0, None)], 3: {"b": "c"}}) == {"a.0": 1, "a.1.0": 2.0, "a.1.1": None, "3.b": "c"}
