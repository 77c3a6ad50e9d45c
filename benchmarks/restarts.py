"""Workers killed at random steps under torchrun, which starts all again, against the same run that was left alone.

    python -m benchmarks.restarts                  12 kills of either rank, under --standalone and under a fixed port
    python -m benchmarks.restarts --kills 2

The run of `exact_resume.py` in two processes, with a checkpoint due every half second. The launcher is started once for
all kills (`--max-restarts`) and has to bring the run to its end by itself, with the same bits; the exit code is 1 where
it does not. Linux alone: workers are found in /proc.
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from benchmarks import exact_resume
from benchmarks.compare import append_result
from benchmarks.exact_resume import compared_parts, differing_parts, steps_done

STARTED = re.compile(r"run folder /")
"""A line of the log that each start writes before its first step."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    kills: int = 12
    """Under each of the two launchers."""
    epochs: int = 4
    """Length of the run, of 10 steps each."""
    seed: int = 0
    """Of the steps, the ranks and the moments within a step."""
    longest: float = 900.0
    """Seconds after which a launcher that has not ended counts as hanging."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launchers() -> dict[str, list[str]]:
    """torchrun's options for two processes: with a store that it sets up itself, and with a fixed address."""
    return {
        "standalone": ["--standalone", "--nproc_per_node=2"],
        "static": ["--nproc_per_node=2", "--master_addr=127.0.0.1", f"--master_port={free_port()}"],
    }


def worker(launcher: int, rank: int) -> int | None:
    """The process number of a launcher's worker; None while it has none of that rank."""
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return int(pid)
    return None


def run_with_kills(
    options: Sequence[str],
    script: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    kills: Sequence[tuple[int, int, float]],
    longest: float = 900.0,
) -> tuple[int, list[str]]:
    """Runs a script under torchrun to its end, and kills workers on the way.

    Args:
        options: torchrun's.
        script: and its arguments; it logs every step.
        folder: to run it in.
        environment: to run it in.
        kills: for each restart the step after whose report a worker dies, counted from the beginning of the run, its
            rank, and the seconds in between.
        longest: seconds after which everything is killed.

    Returns:
        torchrun's exit code, negative where it was killed, and what it and the workers said.
    """
    command = [sys.executable, "-m", "torch.distributed.run", *options, f"--max-restarts={len(kills)}", *script]
    left, has_started, lines = list(kills), False, list[str]()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        deadline = threading.Timer(longest, os.killpg, (process.pid, signal.SIGKILL))
        deadline.start()
        for line in process.stderr:
            lines.append(line)
            has_started |= STARTED.search(line) is not None
            if left and has_started and max(steps_done(line), default=0) >= left[0][0]:
                _, rank, delay = left.pop(0)
                time.sleep(delay)
                pid = worker(process.pid, rank)
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                has_started = False  # lines of the dead start are still on their way
        deadline.cancel()
    return process.returncode, lines


def check(root: Path, options: Options, launcher: str) -> tuple[int, list[str]]:
    """Makes both runs in an empty folder; gives the launcher's exit code, and what differs in the end."""
    settings = exact_resume.Options(epochs=options.epochs, network="resnet18cifar", device="cpu")
    prepared = exact_resume.prepare(root, settings)
    environment = os.environ | {"DATA_ROOT": str(prepared.data_root), "OMP_NUM_THREADS": "1"}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE"}
    rng = random.Random(f"{options.seed} {launcher}")
    steps = sorted(rng.choices(range(1, options.epochs * 10), k=options.kills))
    kills = [(step, rng.randrange(2), rng.random() * 0.3) for step in steps]
    print(f"{launcher}: (step, rank) {[kill[:2] for kill in kills]}", flush=True)
    for name, some in (("left_alone", []), ("killed", kills)):
        script = ["train.py", *prepared.arguments, "--data.input-size", "32", "--name", name]
        script += ["--runtime.num-workers", "0"]
        code, lines = run_with_kills(launchers()[launcher], script, prepared.folder, environment, some, options.longest)
        if code:
            print("".join(lines[-60:]))
            return code, []
        starts = sum(STARTED.search(line) is not None for line in lines)
        print(f"{launcher}, {name}: {starts} starts", flush=True)
    left_alone, killed = (compared_parts(prepared.latest(name)) for name in ("left_alone", "killed"))
    return 0, differing_parts(left_alone, killed)


def main(options: Options) -> int:
    """Runs the check under both launchers, prints and appends to results.jsonl; gives the exit code."""
    start, results = time.monotonic(), dict[str, bool]()
    for launcher in launchers():
        with tempfile.TemporaryDirectory() as root:
            code, differing = check(Path(root), options, launcher)
        results[launcher] = code == 0 and not differing
        print(f"{launcher}: exit code {code}, {options.kills} restarts, differing: {differing[:20] or 'nothing'}")
    numbers = {"kills": options.kills, "identical": results, "seconds": round(time.monotonic() - start)}
    append_result("restarts", numbers, torch.device("cpu"), f"{options.epochs} epochs of 10 steps, 2 processes")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
