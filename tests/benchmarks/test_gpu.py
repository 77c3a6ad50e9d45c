"""The runner of `benchmarks.gpu`, and a check that needs no card. All rows are tried by `--device cpu --quick`."""

import ast
import contextlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Row
from benchmarks.gpu_checks import are_expected, difference, resume, waiting_lines
from benchmarks.gpu_steps import CLASSIFICATION, Setting, Training
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
        Row("wrong", 1, lambda _: {"passed": False}),
        Row("no card", 1, skipped),
        Row("broken", 1, broken),
        Row("too long", 2000, lambda _: {"passed": True}),
        Row("endless", 1, interrupted),
    ]
    outcomes = gpu.run_rows(rows, SETTING, time.monotonic() + 1000, tmp_path / "results.jsonl")
    assert outcomes == {
        **{"passed": ["right"], "failed": ["wrong", "broken", "endless"]},
        **{"skipped": ["no card"], "left out": ["too long"]},
    }
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["claim"], one["row"], one["outcome"]) for one in lines] == [
        ("gpu", "right", "passed"),
        *(("gpu", name, "failed") for name in ("wrong", "broken", "endless")),
    ]
    assert lines[0]["ratio"] == 2.0
    assert lines[2]["why"] == "RuntimeError: CUDA error: an illegal memory access"
    printed = capsys.readouterr().out
    assert "such things need a GPU, and this is a cpu" in printed
    assert "it may take 2000 s" in printed


def test_a_row_is_interrupted() -> None:
    with pytest.raises(gpu.OverTime), gpu.at_most(0.01), contextlib.suppress(Exception):
        time.sleep(60)


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
