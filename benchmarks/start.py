"""How long `python train.py --help` takes, which is the start of every run, against `import torch, torchvision` alone.

    python -m benchmarks.start

Both are programs of their own, in turn; what counts is their processor time, which a busy machine changes least.
"""

import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import tyro

from benchmarks.compare import Comparison, alternate, report
from public.datasets.locations import REPOSITORY

CLAIMED = 1 / 1.15
"""Starts in a minute of processor time, as a share of those of torch and torchvision alone."""
ALONE = "torch alone"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    experiments: tuple[str, ...] = ("cifar100_experiments/resnet50cifar", "detection_experiments/own_data_finetune")
    """Folders with a train.py."""
    rounds: int = 7
    """Counted rounds."""


def starts_per_minute(arguments: Sequence[str], folder: str) -> float:
    """Starts of a program in a minute of processor time, in a folder of the repository."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=REPOSITORY / folder, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 60 / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    ways = {one: partial(starts_per_minute, ("train.py", "--help"), one) for one in options.experiments}
    ways[ALONE] = partial(starts_per_minute, ("-c", "import torch, torchvision"), ".")
    speeds = alternate(ways, options.rounds, "starts/min").speeds
    for experiment in options.experiments:
        pair = {"train.py --help": speeds[experiment], ALONE: speeds[ALONE]}
        comparison = Comparison(unit="starts/min", speeds=pair)
        report("start", comparison, CLAIMED, torch.device("cpu"), experiment)
        print(f"it takes {1 / comparison.ratio:.2f} times as long\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
