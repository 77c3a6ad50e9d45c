"""From a config to an exit code: every known mistake is one sentence, every defect a traceback."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from public.config.checks import require
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.optim.step import NonFiniteLossError
from public.runtime import launch as launch_module
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from public.runtime.launch import launch, raised_by_us


@pytest.fixture
def config(config: ClassificationConfig) -> ClassificationConfig:
    """The small row on the CPU."""
    return replace(config, runtime=RuntimeConfig(device="cpu"))


def test_runs_here(config: ClassificationConfig) -> None:
    """One process on the CPU: the work is done in this one, and its exit code is passed on."""
    worlds: list[DistributedContext] = []
    assert launch(config, "train.py", [], lambda context: worlds.append(context) or 143) == 143
    assert [(context.rank, context.size, context.device.type) for context in worlds] == [(0, 1, "cpu")]


def test_starts_the_script_again(config: ClassificationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes: the script and its arguments go to the launcher, and nothing runs here."""
    started: list[Any] = []
    monkeypatch.setattr(launch_module, "start_processes", lambda *args: started.append(args) or 5)
    config = replace(config, runtime=replace(config.runtime, processes=4))
    assert launch(config, "train.py", ["--epochs", "2"], lambda context: pytest.fail("ran here")) == 5
    assert started == [(4, "train.py", ["--epochs", "2"])]


def test_a_batch_that_does_not_divide_starts_nothing(
    config: ClassificationConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 images over the 3 GPUs that are visible: exit code 2 before any process is started."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(launch_module, "start_processes", lambda *args: pytest.fail("started"))
    config = replace(config, runtime=RuntimeConfig(device="auto"))
    with pytest.raises(SystemExit) as stop:
        launch(config, "train.py", [], lambda context: 0)
    assert stop.value.code == 2
    assert "batch_size=16 must be divisible by processes x accumulation_steps = 3 x 1 = 3" in capsys.readouterr().err


def test_a_missing_gpu(
    config: ClassificationConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--runtime.device cuda on a machine without one: exit code 2, one line."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config = replace(config, runtime=RuntimeConfig(device="cuda"))
    assert launch(config, "train.py", [], lambda context: 0) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: device='cuda' needs an NVIDIA GPU, and PyTorch sees none here; give 'cpu' or 'auto'."


def test_the_users_mistakes_end_with_code_2(
    config: ClassificationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ValueError or FileNotFoundError that this package raised is for the user."""
    assert launch(config, "train.py", [], lambda context: require(False, "lr=0 is wrong.") or 0) == 2
    assert launch(config, "train.py", [], lambda context: len(load_checkpoint(tmp_path / "x.pth"))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: lr=0 is wrong.", f"error: no checkpoint at {tmp_path / 'x.pth'}."]


def test_what_each_process_finds_out_is_said_once(
    config: ClassificationConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """All exit with code 2; what comes behind the first sentence, that a process is gone for instance, is silent."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        for sentence in ("lr=0 is wrong.", "lr=0 is wrong.", "a process is gone."):
            assert launch(config, "train.py", [], lambda context, text=sentence: require(False, text) or 0) == 2
    finally:
        dist.destroy_process_group()
    assert capsys.readouterr().err.splitlines() == ["error: lr=0 is wrong."]


def test_a_loss_that_is_not_finite_ends_with_code_1(
    config: ClassificationConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is over, and it was no mistake on the command line."""
    monkeypatch.setattr(launch_module, "PACKAGE", Path(__file__).parent)

    def run(context: DistributedContext) -> int:
        raise NonFiniteLossError("the loss is not finite at step 3")

    assert launch(config, "train.py", [], run) == 1
    assert capsys.readouterr().err == "error: the loss is not finite at step 3\n"


def test_a_defect_keeps_its_traceback(config: ClassificationConfig) -> None:
    """A ValueError from python or torch is no message for the user."""
    with pytest.raises(ValueError, match="invalid literal"):
        launch(config, "train.py", [], lambda context: int("x"))
    with pytest.raises(KeyError):
        launch(config, "train.py", [], lambda context: {}["x"])


def test_raised_by_us() -> None:
    """The innermost frame decides; an error that was never raised has none."""
    with pytest.raises(ValueError, match="ours") as ours:
        require(False, "ours")
    with pytest.raises(ValueError, match="Expected") as torchs:
        torch.nn.functional.batch_norm(torch.zeros(1, 1), None, None, training=True)
    assert raised_by_us(ours.value)
    assert not raised_by_us(torchs.value)
    assert not raised_by_us(ValueError("never raised"))
