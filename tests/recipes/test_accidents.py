"""What happens to a run from outside: processes that are killed, files that are spoiled, a disk that is full."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.restarts import launchers, run_with_kills
from public.runtime.checkpoint import load_checkpoint
from tests import warm_python
from tests.recipes import runs


def run_under(launcher: str, folder: Path, data: Path, kills: list[tuple[int, int, float]]) -> dict[str, Any]:
    """Trains the tiny experiment for two epochs of 5 steps in two processes; gives latest.pth."""
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("tiny_experiment.py"), folder / "train.py")
    environment = os.environ | {"TINY_DATA": str(data), "OMP_NUM_THREADS": "1"}
    environment["PYTHON_EXEC"] = warm_python.executable()  # of the workers, which torchrun starts and sees die
    script = ["train.py", "--batch-size", "2", "--epochs", "2", "--runtime.save-every-minutes", "0.0001"]
    code, lines = run_with_kills(launchers()[launcher], script, folder, environment, kills, longest=300)
    assert code == 0, "".join(lines[-60:])
    assert sum("run folder /" in line for line in lines) == 1 + len(kills)
    return load_checkpoint(folder / "runs" / "tiny" / "checkpoints" / "latest.pth")


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, Any]]:
    """latest.pth of the run that was left alone, once there is one."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "rank"), [("standalone", 0), ("static", 1)])
def test_torchrun_recovers_from_a_killed_worker(
    launcher: str, rank: int, image_folder: Path, tmp_path: Path, reference: dict[str, dict[str, Any]]
) -> None:
    """At a random step and moment; it starts both again, and they end with the bits of a run that was left alone.

    `benchmarks/restarts.py` kills either rank many times under either launcher.
    """
    if not reference:
        reference["latest"] = run_under(launcher, tmp_path / "left_alone", image_folder, [])
    rng = random.Random(rank)
    killed = run_under(launcher, tmp_path / "killed", image_folder, [(rng.randint(2, 9), rank, rng.random() * 0.05)])
    runs.assert_same_result(killed, reference["latest"], num_tensors=6 * 3)
