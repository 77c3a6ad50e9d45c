"""docs/cluster/slurm.sbatch on a real Slurm: two nodes of one core each on this machine, started and ended here.

Debian's packages suffice: apt-get install slurm-wlm munge.
"""

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from public.runtime.checkpoint import load_checkpoint
from tests.conftest import ROOT
from tests.recipes.runs import assert_same_result, free_port

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin"
DAEMONS = "munged", "slurmctld", "slurmd"
LONGEST = 300.0
"""Seconds for anything to happen."""
CONF = """\
ClusterName=tiny
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname=localhost Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname=localhost Port={ports[2]} CPUs=1
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n1,n2 PriorityTier=2
"""
TRAIN = """\
import os, time
import torch
from tests.recipes.tiny_experiment import TINY, TinyTask, main

class PausingTask(TinyTask):
    def prepare(self, parts, step):
        time.sleep(float(os.environ["PAUSE"]))
        return super().prepare(parts, step)

if __name__ == "__main__":
    torch.set_num_threads(1)
    main({"tiny": TINY}, __file__, task=PausingTask)
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A controller and two nodes, which end with the test."""
    programs = {name: shutil.which(name, path=SEARCHED) for name in (*DAEMONS, "srun", "sbatch", "scontrol")}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    folder = tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o400)
    ports = [free_port() for _ in range(3)]
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, user=getpass.getuser(), ports=ports))
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    munge = [f"--{name}={folder / name}" for name in ("pid-file", "log-file", "seed-file")]
    munge += ["--force", f"--key-file={folder / 'key'}", f"--socket={folder / 'munge.socket'}", "--foreground"]
    commands = ["munged", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, *arguments in commands:
            with (folder / f"{len(started)}.log").open("wb") as log:
                path = programs[name]
                assert path is not None
                started.append(subprocess.Popen([path, *arguments], stdout=log, stderr=log, cwd=folder))
            if name == "munged":
                wait_for((folder / "munge.socket").exists, "munged")
        wait_for(lambda: command("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D") == "2", "two idle nodes")
        yield
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            command("scancel", "--full", "--partition=low", "--signal=KILL")
        for daemon in reversed(started):
            daemon.terminate()
            daemon.wait(30)


def command(*arguments: str | Path) -> str:
    """What one of Slurm's commands prints; empty where it fails, as before the controller is there."""
    return subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    ).stdout.strip()


def wait_for(is_there: Callable[[], bool], what: str) -> None:
    """Looks until it is there."""
    end = time.monotonic() + LONGEST
    while not is_there():
        assert time.monotonic() < end, f"no {what} within {LONGEST} s"
        time.sleep(0.2)


def state_of(job: str) -> str:
    """PENDING, RUNNING, COMPLETING, ...: of an array's only job."""
    return command("squeue", "-h", "-j", job, "-o", "%T")


def preempt(job: str, log: Path, times: int) -> None:
    """Takes both nodes away, for the first or second time, once the run is in its second epoch since it began."""

    def has_begun() -> bool:
        return log.is_file() and log.read_text().count("run folder") == times

    wait_for(has_begun, "start of the run")
    epochs = log.read_text().count("train_loss")
    wait_for(lambda: log.read_text().count("train_loss") > epochs + 1, "epochs")
    command("sbatch", "--partition=high", "--nodes=2", "--output=/dev/null", "--wrap=true")
    wait_for(lambda: state_of(job) == "PENDING", "place in the queue")

    # Slurm lets it wait for two minutes; and its daemons refuse what starts within the second in which they ended it.
    wait_for(lambda: command("squeue", "-h", "-j", job, "-o", "%r") == "BeginTime", "delay of the second start")
    command("scontrol", "update", f"jobid={job}_0", "starttime=now+5")
    wait_for(lambda: state_of(job) == "RUNNING", "second start")


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_a_run_that_is_preempted_twice(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On two nodes; each time a SIGTERM, a checkpoint and a place in the queue: the bits of an undisturbed run."""
    folder, other = tmp_path / "experiment", tmp_path / "undisturbed"
    for one in (folder, other):
        one.mkdir()
        (one / "train.py").write_text(TRAIN)
    settings = {"TINY_DATA": str(image_folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PAUSE": "0"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    options = ("--epochs", "12", "--batch-size", "2", "--evaluate-every", "12")
    subprocess.run(
        [sys.executable, "train.py", *options, "--runtime.processes", "2"], cwd=other, check=True, timeout=300
    )

    script = (ROOT / "docs/cluster/slurm.sbatch").read_text().replace("ROWS=(resnet50 resnet101)", "ROWS=(tiny)")
    (folder / "slurm.sbatch").write_text(script)
    here = (
        "--array=0",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--cpus-per-task=1",
        "--gpus-per-node=0",
        "--output=log.txt",
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PAUSE", "0.2")
    job = command("sbatch", "--parsable", *here, "slurm.sbatch", *options)
    log = folder / "runs/tiny/train.log"

    for times in (1, 2):
        preempt(job, log, times)
    wait_for(lambda: state_of(job) not in ("PENDING", "RUNNING"), "end")

    text = log.read_text()
    assert text.count("resuming from") == 2
    assert text.count("stopped by SIGTERM in epoch") == 2
    checkpoints = [load_checkpoint(one / "runs/tiny/checkpoints/latest.pth") for one in (folder, other)]
    assert_same_result(*checkpoints, num_tensors=18)
