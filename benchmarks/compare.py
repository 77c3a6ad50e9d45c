"""Two ways of doing the same work, timed in turn in one process, and written down with the machine they ran on.

Absolute speeds of a shared machine mean little, and those of two runs cannot be compared. So every claim here is a
ratio: in each round each way has its turn (the order reversed every other round), a round gives one ratio, and the
median over the rounds is the result.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from public.datasets.batches import DataError
from public.datasets.locations import REPOSITORY, dataset_folder
from public.runtime.device import device_name, num_cores
from public.runtime.environment import environment_record

RESULTS = REPOSITORY / "benchmarks" / "results.jsonl"
GENERATED_ROOT = REPOSITORY / "data" / "sample"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The speeds of several ways of doing the same work, round by round."""

    unit: str
    """What the speeds count, "images/s" for instance; more is better."""
    speeds: dict[str, list[float]]
    """The speed of each way in each round; the first way is ours."""

    @property
    def ours(self) -> str:
        """The name of our way."""
        return next(iter(self.speeds))

    @property
    def best_peer(self) -> str:
        """The peer with the highest median speed: the one that ours is held against."""
        return max((name for name in self.speeds if name != self.ours), key=lambda name: median(self.speeds[name]))

    @property
    def ratios(self) -> list[float]:
        """Our speed as a multiple of the best peer's, in each round."""
        return [a / b for a, b in zip(self.speeds[self.ours], self.speeds[self.best_peer], strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.ratios)

    def record(self) -> dict[str, Any]:
        """The numbers that go into results.jsonl."""
        return {
            "unit": self.unit,
            "rounds": len(self.ratios),
            "medians": {name: round(median(values), 1) for name, values in self.speeds.items()},
            "compared_with": self.best_peer,
            "ratio": round(self.ratio, 3),
            "ratio_lowest": round(min(self.ratios), 3),
            "ratio_highest": round(max(self.ratios), 3),
        }

    def table(self) -> str:
        """The numbers for a person: one line a way, then the ratio."""
        width = max(map(len, self.speeds))
        lines = [
            f"{name:<{width}}  median {median(values):>10.1f} {self.unit}  (of {len(values)}: {min(values):.1f} to "
            f"{max(values):.1f})"
            for name, values in self.speeds.items()
        ]
        span = f"rounds {min(self.ratios):.2f} to {max(self.ratios):.2f}"
        return "\n".join([*lines, f"ratio to {self.best_peer}: {self.ratio:.2f}  ({span})"])


def alternate(ways: Mapping[str, Callable[[], float]], rounds: int, unit: str, *, is_warm: bool = False) -> Comparison:
    """Lets every way have its turn in every round, after one round that is not counted.

    Args:
        ways: each takes one turn and gives its speed; ours first.
        rounds: counted rounds.
        unit: of the speeds.
        is_warm: whether all turns are alike from the first on, which is counted then.
    """
    for take_turn in () if is_warm else ways.values():  # caches, worker processes, choice of kernels
        take_turn()
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            speeds[name].append(ways[name]())
    return Comparison(unit=unit, speeds=speeds)


def append_result(
    claim: str, numbers: Mapping[str, Any], device: torch.device, data: str, results: Path = RESULTS
) -> None:
    """Adds one line to results.jsonl.

    Args:
        claim: the script's name.
        numbers: what was measured.
        device: that it was measured on.
        data: which data it was measured with.
        results: the file.
    """
    # The kernel's release says nothing about the numbers, and much about whose machine it is.
    system = {"machine": f"{platform.system()} {platform.machine()}", "cores": num_cores()}
    row = {
        "claim": claim,
        **numbers,
        "data": data,
        "load_average": round(os.getloadavg()[0], 1),
        "machine": environment_record(device_name(device), 1) | system,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def report(claim: str, comparison: Comparison, expected: float, device: torch.device, data: str) -> None:
    """Prints a comparison beside the ratio that is claimed, and appends it to results.jsonl."""
    print(f"{claim} on {device_name(device)}, {data}")
    print(comparison.table())
    print(f"claimed: at least {expected:.2f}, {'shown' if comparison.ratio >= expected else 'NOT shown'} here")
    append_result(claim, comparison.record() | {"claimed": expected}, device, data)


def benchmark_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def real_data_folder() -> Path:
    """Where the small real data sets lie, if there are any: REAL_DATA, by default beside the repository."""
    return Path(os.environ.get("REAL_DATA") or REPOSITORY / "../shared/data")


def find_data(real: str, generated: str, given: Path | None = None) -> tuple[Path, str]:
    """The data to measure with, and a few words that say which it is.

    Args:
        real: folder below REAL_DATA (default ../shared/data from the repository), taken if it is there.
        generated: folder below DATA_ROOT, or below data/sample where that has none.
        given: the command line's choice, taken before all others.

    Raises:
        DataError: there is none of them.
    """
    choices = {real_data_folder() / real: f"{real} (REAL_DATA)"}
    choices |= {root: f"{generated} ({name})" for root, name in _generated(generated)}
    if given is not None:
        choices = {given: given.name}
    for folder, words in choices.items():
        if folder.is_dir():
            return folder.resolve(), words
    raise DataError(
        f"no data to measure with: none of {', '.join(map(str, choices))} exists. Generate some with "
        "`python -m public.datasets.sample --root data/sample`, or set REAL_DATA or DATA_ROOT."
    )


def _generated(folder: str) -> list[tuple[Path, str]]:
    """Where a data set of ours may lie, and what to call it."""
    return [(dataset_folder(folder), "DATA_ROOT"), (GENERATED_ROOT / folder, "data/sample")]
