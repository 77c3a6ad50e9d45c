"""The runner of `benchmarks.gpu`, and a check that needs no card. All rows are tried by `--device cpu --quick`."""

import ast
import contextlib
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Row
from benchmarks.gpu_checks import InParts, are_expected, difference, resume, waiting_lines, wrappers_outcome
from benchmarks.gpu_steps import CLASSIFICATION, SGD, Setting, Training
from public.datasets.batches import DetectionBatch
from public.detectors import suppression
from tests.test_architecture import ROOT, imported_by

SETTING = Setting(device=torch.device("cpu"), **gpu.QUICK | {"backbone": "mobilenet_v3_small", "canvas": 32})


def skipped(setting: Setting) -> dict[str, Any]:
    setting.only_on_cuda("such things")
    return {}


def broken(setting: Setting) -> dict[str, Any]:
    raise RuntimeError("CUDA error:\n an illegal memory access")


def interrupted(setting: Setting) -> dict[str, Any]:
    raise gpu.OverTime


@pytest.mark.slow
def test_what_goes_wrong_in_a_row_is_named_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        Row("right", 1, lambda _: {"ratio": 2.0, "passed": True}),
        Row("timed", 1, lambda _: {"ratio": 3.0, "outcome": "measured"}),
        Row("wrong", 1, lambda _: {"passed": False}),
        Row("no card", 1, skipped),
        Row("broken", 1, broken),
        Row("too long", 2000, lambda _: {"passed": True}),
        Row("endless", 1, interrupted),
        Row("too little", 1, interrupted, takes_the_rest=True),
    ]
    outcomes = gpu.run_rows(rows, SETTING, time.monotonic() + 1000, tmp_path / "results.jsonl")
    assert outcomes == {
        **{"passed": ["right"], "measured": ["timed"], "failed": ["wrong", "broken", "endless"]},
        **{"skipped": ["no card"], "not run": ["too long"], "not shown": ["too little"]},
    }
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["claim"], one["row"], one["outcome"]) for one in lines] == [
        ("gpu", "right", "passed"),
        ("gpu", "timed", "measured"),
        *(("gpu", name, "failed") for name in ("wrong", "broken", "endless")),
        ("gpu", "too little", "not shown"),
    ]
    assert lines[0]["ratio"] == 2.0
    assert lines[3]["why"] == "RuntimeError: CUDA error: an illegal memory access"
    printed = capsys.readouterr().out
    assert "such things need a GPU, and this is a cpu" in printed
    assert "not run  why no time left: " in printed


def test_a_row_is_interrupted() -> None:
    with pytest.raises(gpu.OverTime), gpu.at_most(0.01), contextlib.suppress(Exception):
        time.sleep(60)


def test_what_matters_most_fits_though_each_row_takes_as_long_as_it_may() -> None:
    rows = list(gpu.rows(None, 0.0))
    names = [row.name for row in rows]
    important = rows[: names.index(f"{CLASSIFICATION} resumed") + 1]
    assert sum(row.seconds for row in important) < 60 * gpu.MINUTES
    assert 60 * gpu.MINUTES + gpu.GRACE < 9 * 60
    assert len(set(names)) == len(names)
    assert {"retinanet against the CPU", "resnet50 bf16, channels_last"} < {row.name for row in important}


def test_a_row_that_does_not_come_back_ends_the_command_with_its_name() -> None:
    """In a process of its own: nothing that Python could interrupt is at work."""
    code = "import time; from benchmarks.gpu import ended_at\nwith ended_at(0, ['hangs', 'one', 'two']): time.sleep(60)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ended.returncode, ended.stdout) == (1, "ended: hangs does not come back. Not run: one, two\n")


def test_cifar_shows_its_accuracy_in_all_epochs_alone() -> None:
    few = gpu.cifar_outcome(37, 200, 0.9)
    assert few == {"outcome": "not shown", "why": "there was time for 37 of 200 epochs"}
    assert gpu.cifar_outcome(200, 200, 0.784) == {"passed": True}
    assert gpu.cifar_outcome(200, 200, 0.7839) == {"passed": False}


def test_one_gpu_shows_no_replication() -> None:
    assert wrappers_outcome(True, 1) == {"outcome": "not shown", "why": "one GPU: replication not shown"}
    assert wrappers_outcome(True, 2)["passed"]
    assert not wrappers_outcome(False, 1)["passed"]
    assert not wrappers_outcome(False, 2)["passed"]


@pytest.mark.slow
def test_a_batch_in_parts() -> None:
    """What nn.DataParallel on as many GPUs has: the losses of each part, in its place."""
    training = Training(CLASSIFICATION, SETTING, torch.float32, SGD)
    batch = training.batch(0)
    halves = [DetectionBatch(*(field[number : number + 1] for field in batch)) for number in range(2)]
    training.step.eval()  # so that an image does not depend on its neighbor
    expected = torch.stack([training.step(*half)["cross_entropy"] for half in halves])
    torch.testing.assert_close(InParts(training.step, 2)(*batch)["cross_entropy"], expected)


@pytest.mark.parametrize(("args", "is_noted"), [([], True), (["--quick"], False), (["--quick", "--out"], True)])
def test_a_quick_try_is_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], is_noted: bool
) -> None:
    """Its numbers mean nothing, and the pages state those of results.jsonl."""
    results = tmp_path / "results.jsonl"
    monkeypatch.setattr(gpu, "RESULTS", results)
    monkeypatch.setattr(gpu, "rows", lambda cifar, deadline: [Row("one", 1, lambda _: {"passed": True})])
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    assert gpu.main(["--device", "cpu", *args, *([str(results)] if "--out" in args else [])]) == 0
    assert results.exists() is is_noted


def test_a_machine_without_a_card_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        gpu.main([])
    assert "torch sees no GPU here; --device cpu --quick tries the code without one." in capsys.readouterr().err


@pytest.mark.slow
def test_a_state_that_was_not_put_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the momentum alone."""
    assert resume(CLASSIFICATION, SETTING)["passed"]
    monkeypatch.setattr(Training, "load", lambda self, state: self.step.load_state_dict(state["step"]))
    assert not resume(CLASSIFICATION, SETTING)["passed"]


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("retinanet", [], True),
        ("retinanet", ["suppression.py:68"], False),
        (CLASSIFICATION, ["classification.py:40"], False),
        ("faster_rcnn", ["suppression.py:68"], True),
        ("faster_rcnn", [], False),
        ("faster_rcnn", ["sampling.py:20"], False),
        ("cascade_rcnn", ["suppression.py:68", "sampling.py:20"], False),
        ("cascade_rcnn", ["suppression.py:68", "suppression.py:68"], False),
    ],
)
def test_host_waits_that_pass(name: str, lines: list[str], expected: bool) -> None:
    """None of one stage, of two stages that of `nms`."""
    assert are_expected(name, lines) is expected


def test_a_wait_is_at_our_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though Python of others, here of a test, is what warns; other warnings are none of a wait."""

    def nms(*_: Any) -> torch.Tensor:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
        return torch.zeros(1, dtype=torch.int64)

    monkeypatch.setattr(suppression.ops, "nms", nms)
    with waiting_lines() as lines:
        suppression.nms(torch.zeros(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64), 0.5)
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
    assert [line.partition(":")[0] for line in lines] == ["suppression.py", "test_gpu.py"]


def test_differences_are_shares_of_the_largest_value() -> None:
    expected = (torch.tensor([1.0, 2.5]), [torch.tensor([4.0])])
    found = (torch.tensor([1.0, 2.0]), [torch.tensor([4.0])])
    assert difference(found, expected) == pytest.approx(0.2)
    assert difference(expected, expected) == 0.0


def test_nothing_but_torch_is_needed() -> None:
    """By every module that its rows import, but for the CIFAR row's run."""
    found, queue = set[str](), [ROOT / "benchmarks/gpu.py", ROOT / "public/backbones/resnet.py"]
    queue += sorted((ROOT / "public/detectors").glob("*/network.py"))
    outside = set[str]()
    while queue:
        tree = ast.parse(queue.pop().read_text(encoding="utf-8"))
        for name in (name for node in tree.body for name in imported_by(node)):
            path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if name.partition(".")[0] not in ("public", "benchmarks"):
                outside.add(name.partition(".")[0])
            elif path.is_file() and name not in found:
                found.add(name)
                queue.append(path)
    assert len(found) > 40
    assert outside - sys.stdlib_module_names == {"torch", "torchvision", "numpy"}
