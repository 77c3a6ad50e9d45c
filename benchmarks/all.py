"""Every claim of speed, one script after the other, and at the end what holds on this machine and what does not.

    python -m benchmarks.all                            20 minutes on two idle cores; slower ones go on the next time
    python -m benchmarks.all --only fcos_step listing

Each script appends its records to results.jsonl. What the same commit has measured on the same processor is not
measured again, so the command can be stopped at any time and goes on when it is given again. README.md and docs/ state
of each claim the lowest of the machines (`lowest`), rounded down; a test holds them to it.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
import tyro

from benchmarks.compare import RESULTS, benchmark_device
from benchmarks.convolution import SHAPES, words_of
from benchmarks.training_steps import CLAIMED, DEFAULT, FP32
from public.datasets.locations import REPOSITORY
from public.runtime.device import choose_precision, device_name
from public.runtime.environment import environment_record

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A script, and what it claims."""

    script: str
    """Of benchmarks/."""
    arguments: tuple[str, ...] = ()
    """Short rounds, few things."""
    claims: tuple[str, ...]
    """The names of its records, each with words of its data where there are several: "name | batch 8"."""
    limit: int = 600
    """Seconds, after which it is stopped; some processors take four times as long as others."""


NETWORKS = ("resnet50", "efficientnet_b0", "mobilenet_v2")
CONVOLUTIONS = tuple(f"convolution | {words_of(*shape)}" for shape in SHAPES)
ROWS = (
    Row(script="precision", arguments=("--rounds", "2"), claims=("precision",)),
    Row(script="listing", arguments=("--rounds", "7"), claims=("listing",)),
    Row(script="cifar_pipeline", arguments=("--rounds", "2"), claims=("cifar_pipeline",)),
    Row(script="imagenet_pipeline", arguments=("--rounds", "3"), claims=("imagenet_pipeline | ours uint8",)),
    Row(
        script="packed_data",
        arguments=("--rounds", "3"),
        claims=("packed_data, packed and shrunk", "packed_data, packed", "packed_data, folder"),
    ),
    Row(script="check_images", arguments=("--rounds", "3"), claims=("check_images",)),
    Row(script="deform_conv", arguments=("--rounds", "3"), claims=("deform_conv",)),
    Row(script="roi_align", arguments=("--rounds", "3"), claims=("roi_align | 2 x 2 points",)),
    Row(script="convolution", arguments=("--rounds", "3", "--repeats", "1"), claims=CONVOLUTIONS),
    Row(
        script="start",
        arguments=("--rounds", "2"),
        claims=(
            "start | cifar100_experiments/resnet50cifar",
            "start | detection_experiments/own_data_finetune",
        ),
    ),
    Row(
        script="detection_losses",
        arguments=("--rounds", "3"),
        claims=("detection_losses_retinanet", "detection_losses_fcos"),
    ),
    Row(script="fcos_step", arguments=("--rounds", "3", "--steps", "2"), claims=("fcos_step",)),
    Row(
        script="training_steps",
        arguments=("--rounds", "2"),
        claims=tuple(f"training_steps_{name}: {way}" for way in (DEFAULT, FP32) for name in CLAIMED),
        limit=900,
    ),
    Row(
        script="predict_photos",
        arguments=("--rounds", "2", "--photos", "500"),
        claims=("predict_photos_mobilenet_v2",),
    ),
    Row(
        script="faster_rcnn",
        arguments=("--rounds", "2"),
        claims=("faster_rcnn_inference",),
    ),
    Row(
        script="retinanet",
        arguments=("--rounds", "2"),
        claims=("retinanet_inference | batch 1", "retinanet_inference | batch 8"),
    ),
    Row(script="cifar_training", arguments=("--rounds", "3", "--steps", "2"), claims=("cifar_training",)),
    Row(script="coco_evaluation", arguments=("--rounds", "1", "--images", "1000"), claims=("coco_evaluation",)),
    Row(
        script="coco_reading",
        arguments=("--rounds", "1", "--images", "40000", "--objects", "290000"),
        claims=("coco_reading",),
    ),
    Row(script="exact_resume", arguments=("--kills", "1"), claims=("exact_resume",)),
    Row(
        script="network_steps",
        arguments=("--rounds", "2", "--only", *NETWORKS),
        claims=tuple(f"network_steps_{name}" for name in NETWORKS),
    ),
    Row(
        script="network_steps",
        arguments=("--rounds", "1", "--only", *NETWORKS, "--part", "inference", "--batch-size", "64"),
        claims=tuple(f"network_inferences_{name}" for name in NETWORKS),
    ),
)
"""The quick ones first. What takes longer is left to whoever asks for it: overfit, restarts, inference, exports and
other networks."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    only: tuple[str, ...] = tuple(dict.fromkeys(row.script for row in ROWS))
    """Scripts."""
    minutes: float = 20.0
    """No script begins later."""
    again: bool = False
    """Measure again what this commit has measured here."""


def read_records(path: Path = RESULTS) -> list[Record]:
    """All lines of results.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def of_claim(records: Iterable[Record], claim: str) -> list[Record]:
    """Those of a claim; `name | words` are those that have the words between two commas of their data."""
    name, _, words = claim.partition(" | ")
    return [record for record in records if record["claim"] == name and f"{words}," in f", {record['data']},"]


def lowest(records: Iterable[Record], claim: str) -> float:
    """The lowest of the machines' newest ratios, on CPUs; of records that claim what the newest does.

    Raises:
        ValueError: nobody has measured it.
    """
    own = [one for one in of_claim(records, claim) if one["machine"]["device"].startswith("CPU")]
    if not own:
        raise ValueError(f"results.jsonl has no record of {claim!r} on a CPU.")
    newest = {_processor(one["machine"]): one["ratio"] for one in own if one["claimed"] == own[-1]["claimed"]}
    return min(newest.values())


def _processor(machine: Record) -> tuple[str, str | None]:
    """Its name and its generation, of which older records say nothing."""
    return machine["processor"], machine.get("generation")


def stated(ratio: float) -> str:
    """As the pages say it, never more than was measured: 31.99 -> 31, 3.6 -> 3.6, 1.097 -> 1.09."""
    digits = 0 if ratio >= 10 else 1 if ratio >= 2 else 2
    return f"{math.floor(ratio * 10**digits + 1e-9) / 10**digits:.{digits}f}"


def claims_here(row: Row) -> list[str]:
    """Without those of training in bf16 by default, where the processor is no faster in it."""
    trains_in_bf16 = choose_precision("auto", benchmark_device()) == torch.bfloat16
    return [claim for claim in row.claims if trains_in_bf16 or not claim.endswith(DEFAULT)]


def verdict(record: Record) -> tuple[bool, str]:
    """Whether a record shows its claim, and its numbers."""
    if "ratio" in record:
        rounds = f"rounds {record['ratio_lowest']:.2f} to {record['ratio_highest']:.2f}"
        words = f"{record['ratio']:.2f}, claimed {record['claimed']:g} ({rounds})"
        return record["ratio"] >= record["claimed"], words
    return record["identical"], "identical" if record["identical"] else "not identical"


def from_here(records: Iterable[Record]) -> list[Record]:
    """Those of this commit, this processor and this device. What the records themselves change is no change."""
    here = environment_record(device_name(benchmark_device()), 1)

    def place(machine: Record) -> tuple[str | None, ...]:
        return *_processor(machine), machine["device"], (machine["commit"] or "").rstrip("+")

    return [record for record in records if place(record["machine"]) == place(here)]


def measure(row: Row) -> str:
    """Runs a script; what is wrong with it, or nothing."""
    command = [sys.executable, "-m", f"benchmarks.{row.script}", *row.arguments]
    print(f"\n$ python {' '.join(command[1:])}", flush=True)
    process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
    try:
        code = process.wait(row.limit)
    except subprocess.TimeoutExpired:
        return f"stopped after {row.limit} s"
    finally:  # with what it started itself, whatever ended it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return "" if code == 0 else f"ended with {code}"


def table(rows: Iterable[Row], trouble: dict[str, str]) -> tuple[list[str], bool]:
    """A line for each claim, and whether all are shown."""
    records = from_here(read_records())
    lines, all_hold = [], True
    for row in rows:
        for claim in claims_here(row):
            own = of_claim(records, claim)
            holds, words = verdict(own[-1]) if own else (False, trouble.get(row.script) or "not measured")
            lines.append(f"{'holds' if holds else 'NOT SHOWN' if own else '-':<10} {claim:<36} {words}")
            all_hold &= holds
    return lines, all_hold


def main(options: Options) -> int:
    """Measures what is missing, prints the table, and gives 0 if every claim holds here, else 1."""
    unknown = set(options.only) - {row.script for row in ROWS}
    if unknown:
        raise SystemExit(f"--only {' '.join(sorted(unknown))}: not among {', '.join(Options.only)}.")
    rows = [row for row in ROWS if row.script in options.only]
    trouble: dict[str, str] = {}
    signal.signal(signal.SIGTERM, _stop)
    begin = time.monotonic()
    try:
        for row in rows:
            measured = from_here(read_records())
            if not options.again and all(of_claim(measured, claim) for claim in claims_here(row)):
                continue
            if time.monotonic() - begin > 60 * options.minutes:
                trouble[row.script] = f"not begun within {options.minutes:g} minutes"
                continue
            trouble[row.script] = measure(row)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on")
    lines, all_hold = table(rows, trouble)
    print(
        f"\n{device_name(benchmark_device())}, torch {torch.__version__}, {(time.monotonic() - begin) / 60:.1f} minutes"
    )
    print("\n".join(lines))
    return 0 if all_hold else 1


def _stop(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
