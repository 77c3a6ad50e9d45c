"""What the tests of both recipes share: comparing whole runs, stopping them, starting them as a person would."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from public.runtime.distributed import DistributedContext
from public.runtime.interruption import Decision, Interruption
from tests import warm_python

ONE_PROCESS = DistributedContext(rank=0, size=1, device=torch.device("cpu"))


def tensors_of(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Every tensor of the network, its average and the optimizer, by name."""
    slots = checkpoint["optimizer"]["state"]
    found = {f"optimizer.{i}.{k}": v for i, s in slots.items() for k, v in s.items() if isinstance(v, torch.Tensor)}
    found |= {f"model.{k}": v for k, v in checkpoint["model"].items()}
    return found | {f"ema.{k}": v for k, v in (checkpoint["ema"] or {}).items()}


def assert_same_result(ours: dict[str, Any], reference: dict[str, Any], *, num_tensors: int) -> None:
    """Both runs ended with the same bits, in so many tensors."""
    a, b = tensors_of(ours), tensors_of(reference)
    assert a.keys() == b.keys()
    assert len(a) == num_tensors
    assert [key for key in a if not torch.equal(a[key], b[key])] == []
    assert result_rows(ours["metrics"]["history"]) == result_rows(reference["metrics"]["history"])


def result_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what a clock put in."""
    clocked = ("images_per_second", "data_wait_share", "train_seconds")
    return [{k: v for k, v in row.items() if k not in clocked} for row in rows]


def stop_after_polls(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives a function that makes the next run receive SIGTERM at its n-th step boundary (or evaluated batch)."""
    real_poll = Interruption.poll

    def install(num_polls: int) -> None:
        left = iter(range(num_polls - 1, -1, -1))

        def poll(self: Interruption) -> Decision:
            return Decision(signal.SIGTERM, save=False) if next(left, None) == 0 else real_poll(self)

        monkeypatch.setattr(Interruption, "poll", poll)

    return install


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


LAUNCHES = {
    "self": ["train.py", "--runtime.processes", "2"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"],
    "launch": [
        *("-W", "ignore::FutureWarning", "-m", "torch.distributed.launch", "--nproc_per_node=2"),
        *("--master_addr", "127.0.0.1", "--master_port", str(free_port()), "train.py"),
    ],
}
"""Every way to start two processes; the last one's option makes it, and so its workers, start Python itself."""


def run_program(
    script: str, folder: Path, data: Path, args: list[str], expected: int = 0, python: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a tiny experiment of this folder, copied, as a person would, by default with the warm Python."""
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name(script), folder / "train.py")
    environment = os.environ | {"TINY_DATA": str(data), "OMP_NUM_THREADS": "1"}
    command = [python or warm_python.executable(), *args]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == expected, done.stderr[-3000:]
    return done
