"""A run killed with SIGKILL at random steps and resumed each time, against the same run that was left alone.

    python -m benchmarks.exact_resume                10 kills, 3 epochs
    python -m benchmarks.exact_resume --kills 3

A copy of a real experiment's train.py is started as a process of its own on a small generated data set, with a
checkpoint due every half second. Each start of the killed run has another number of data workers than the one before.
In the end the model, the optimizer and the averaged weights of both runs must be equal bit for bit, and so must their
losses; the exit code is 1 where they are not.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro

from benchmarks.compare import append_result
from public.datasets.locations import REPOSITORY
from public.datasets.sample_layouts import write_imagenet
from public.runtime.checkpoint import load_checkpoint

EXPERIMENT = REPOSITORY / "imagenet_experiments" / "resnet_sample_train_example"
PROGRESS = re.compile(r"epoch (\d+)/\d+ +step (\d+)/(\d+)")
COMPARED = ("model", "ema", "optimizer", "ema_num_averaged", "schedule", "scaler", "epoch", "step", "rng")
"""The parts of a checkpoint that must be equal; of its metrics only the losses are compared, for others are times."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    kills: int = 10
    """How often the run is killed."""
    epochs: int = 3
    """Length of the run."""
    images_per_class: int = 16
    """Training images of each of the 10 classes."""
    batch_size: int = 16
    """Images per step."""
    network: str = "resnet34_half"
    """Any classification network."""
    precision: str = "fp32"
    """auto, fp32, bf16 or fp16."""
    device: str = "auto"
    """auto, cpu or cuda."""
    seed: int = 0
    """Of the steps at which the run is killed."""
    num_workers: tuple[int, ...] = (2, 1, 0)
    """Data workers of the first start and of those after it, over and over; the run left alone has the first."""


class Kill(NamedTuple):
    """One start of a run that was killed; steps are counted from the beginning of the run, from 1."""

    resumed_after: int
    """The step whose checkpoint it went on from; 0 for none."""
    killed_after: int
    """The last step that it reported."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """A copy of an experiment whose runs can be started, killed and read."""

    folder: Path
    """Holds train.py and config.py; runs/ appears beside them."""
    data_root: Path
    """Its DATA_ROOT."""
    arguments: tuple[str, ...]
    """What all runs share."""

    def latest(self, name: str) -> dict[str, Any]:
        """A run's last checkpoint."""
        return load_checkpoint(self.folder / "runs" / name / "checkpoints" / "latest.pth")

    @contextlib.contextmanager
    def started(self, name: str, num_workers: int) -> Iterator[subprocess.Popen[str]]:
        """Starts or resumes a run in a process group of its own; whatever is left of it at the end is killed."""
        command = [sys.executable, "train.py", *self.arguments]
        command += ["--name", name, "--runtime.num-workers", str(num_workers)]
        environment = os.environ | {"DATA_ROOT": str(self.data_root), "OMP_WAIT_POLICY": "PASSIVE"}
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def run_to_end(self, name: str, num_workers: int) -> None:
        """Starts or resumes a run and waits until it is done.

        Raises:
            RuntimeError: it failed; with the end of what it said.
        """
        with self.started(name, num_workers) as process:
            assert process.stderr is not None
            lines = process.stderr.readlines()
            if process.wait():
                raise RuntimeError(f"{name} ended with code {process.returncode}: {''.join(lines[-20:])}")

    def run_until(self, name: str, num_workers: int, step: int, delay: float) -> Kill:
        """Starts or resumes a run and kills it after a step.

        Args:
            name: of the run.
            num_workers: its data workers.
            step: counted from the beginning of the run, from 1.
            delay: what part of a step's time to wait before the kill, so that it hits anything: data, a forward or
                backward pass, the update, the checkpoint being written.

        Raises:
            RuntimeError: it ended before that step.
        """
        lines: list[str] = []
        reported: list[int] = []
        with self.started(name, num_workers) as process:
            assert process.stderr is not None
            before = time.monotonic()
            for line in process.stderr:
                lines.append(line)
                now = time.monotonic()
                reported += steps_done(line)
                if reported and reported[-1] >= step:
                    time.sleep(delay * min(now - before, 1.0))
                    os.killpg(process.pid, signal.SIGKILL)
                    return Kill(reported[0] - 1, reported[-1])
                before = now
        raise RuntimeError(f"{name} ended before step {step}: {''.join(lines[-20:])}")


def steps_done(line: str) -> list[int]:
    """The number of steps since the beginning that a progress line reports; nothing for other lines."""
    numbers = [tuple(map(int, found)) for found in PROGRESS.findall(line)]
    return [(epoch - 1) * steps_per_epoch + step for epoch, step, steps_per_epoch in numbers]


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's bytes: unlike its values they tell 0 from -0, and a NaN is equal to itself."""
    return tensor.reshape(-1).view(torch.uint8)


def differing_parts(first: Any, second: Any, name: str = "") -> list[str]:
    """The names of all values in which two nested structures differ; tensors must be equal to the last bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        alike = first.dtype == second.dtype and first.shape == second.shape
        return [] if alike and torch.equal(bits(first), bits(second)) else [name]
    if isinstance(first, dict) and isinstance(second, dict) and list(first) == list(second):
        return [part for key in first for part in differing_parts(first[key], second[key], f"{name}.{key}")]
    if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [part for i, (a, b) in pairs for part in differing_parts(a, b, f"{name}[{i}]")]
    return [] if type(first) is type(second) and first == second else [name]


def compared_parts(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What must be equal at the end of two runs of the same config."""
    timeless = ("epoch", "lr", "train_loss", "loss", "top1", "top5")
    rows = [{key: row[key] for key in timeless if key in row} for row in checkpoint["metrics"]["history"]]
    return {key: checkpoint[key] for key in COMPARED} | {"history": rows}


def prepare(root: Path, options: Options) -> Runs:
    """Writes a small data set, and a copy of the experiment, so that no run is left in the repository."""
    write_imagenet(root / "data" / "ILSVRC2012", 0, options.images_per_class, 2)
    experiment = root / "experiment"
    experiment.mkdir()
    for file in ("train.py", "config.py"):
        shutil.copy(EXPERIMENT / file, experiment)
    settings = {
        "network": options.network,
        "epochs": options.epochs,
        "batch-size": options.batch_size,
        "precision": options.precision,
        "ema-decay": 0.9,
        "runtime.device": options.device,
        "runtime.processes": 1,
        "runtime.log-every": 1,
        "runtime.save-every-minutes": 0.01,
    }
    arguments = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    return Runs(folder=experiment, data_root=root / "data", arguments=tuple(arguments))


def steps_of_kills(options: Options) -> list[int]:
    """Random steps in rising order, each leaving at least one step to do."""
    total = options.epochs * (10 * options.images_per_class // options.batch_size)
    if not 1 <= options.kills < total:
        raise ValueError(f"--kills {options.kills} must be at least 1 and below the run's {total} steps.")
    return sorted(random.Random(options.seed).sample(range(1, total), options.kills))


def kill_and_resume(runs: Runs, name: str, steps: Sequence[int], num_workers: Sequence[int], seed: int) -> list[Kill]:
    """Kills a run at the given steps, resuming it each time, and lets it come to its end.

    Returns:
        What happened to each start but the last.
    """
    rng = random.Random(seed)
    kills: list[Kill] = []
    for number, step in enumerate(steps):
        workers = num_workers[number % len(num_workers)]
        kill = runs.run_until(name, workers, step, rng.random())
        print(f"went on after step {kill.resumed_after}, killed after step {kill.killed_after}, {workers} workers")
        kills.append(kill)
    runs.run_to_end(name, num_workers[len(steps) % len(num_workers)])
    return kills


def check(root: Path, options: Options) -> tuple[list[Kill], list[str]]:
    """Makes both runs in an empty folder.

    Returns:
        What happened to the killed one, and the names of what differs in the end (there should be none).
    """
    steps = steps_of_kills(options)
    runs = prepare(root, options)
    runs.run_to_end("left_alone", options.num_workers[0])
    print("the run left alone is done", flush=True)
    kills = kill_and_resume(runs, "killed", steps, options.num_workers, options.seed)
    differing = differing_parts(compared_parts(runs.latest("left_alone")), compared_parts(runs.latest("killed")))
    return kills, differing


def main(options: Options) -> int:
    """Runs the check, prints and appends to results.jsonl; gives the exit code."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        kills, differing = check(Path(root), options)
    steps = [kill.killed_after for kill in kills]
    print(f"{len(kills)} kills, after steps {', '.join(map(str, steps))}; data workers {options.num_workers} in turn")
    print(f"model, optimizer and EMA identical: {'no' if differing else 'yes'}")
    for name in differing[:20]:
        print(f"  differs: {name}")
    numbers = {
        "kills": len(kills),
        "resumed_after_steps": [kill.resumed_after for kill in kills],
        "killed_after_steps": steps,
        "num_workers": options.num_workers,
        "identical": not differing,
        "seconds": round(time.monotonic() - start),
    }
    settings = f"{options.network}, {options.epochs} epochs of {10 * options.images_per_class} generated images"
    on_gpu = options.device != "cpu" and torch.cuda.is_available()
    append_result("exact_resume", numbers, torch.device("cuda", 0) if on_gpu else torch.device("cpu"), settings)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
