"""The day a GPU is there: what we do on it checked, and timed against others on the same card, in at most 9 minutes.

    python -m benchmarks.gpu                                 everything; a line of results.jsonl for each row
    python -m benchmarks.gpu --only cifar100 --cifar data/CIFAR100
                                                             a CIFAR-100 run that has all the time
    python -m benchmarks.gpu --only resnet50 retinanet       the rows whose names have one of these words
    python -m benchmarks.gpu --device cpu --quick --minutes 60 --cifar data/sample/CIFAR100
                                                             every row with tiny sizes, to try the code without a card

It needs torch >= 2.11 with its torchvision and nothing else, because a card is often lent where nothing can be
installed; timm takes part where it is there, and the CIFAR row wants what a run wants. A row that raises, takes longer
than it may or has no time left is named, and the others go on; the exit code is 1 where one failed. The rows that
matter most come first: all up to "resumed" have their turn even if each takes as long as it may.

"passed" and "failed" are said of what has a bound. Speeds have none and are "measured"; "not shown" is what this
machine or the time is too small for: a network on several GPUs on one, CIFAR-100's accuracy in some of its epochs.

Checks: float32 against the CPU, three precisions, resuming bit for bit, DDP with SyncBN and nn.DataParallel, host waits
as torch sees them, a step as one CUDA graph. Speeds: training steps of ResNet-50, RetinaNet, FCOS and Faster R-CNN on
noise, forward, targets, losses, backward and SGD, both sides in the same precision; peak memory beside them.
"""

import argparse
import gc
import json
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks import gpu_checks as checks
from benchmarks.compare import RESULTS, append_result
from benchmarks.gpu_speed import PEERS, classification_speed, detection_speed
from benchmarks.gpu_steps import CLASSIFICATION, Setting, Skipped
from public.datasets.locations import REPOSITORY
from public.detectors.catalog import list_detectors
from public.runtime.device import device_name
from public.runtime.distributed import DistributedContext

CIFAR_EXPERIMENT = REPOSITORY / "cifar100_experiments" / "resnet50cifar" / "config.py"
CIFAR_ROW, CIFAR_TOP1 = "resnet18cifar", 0.784
"""Its top-1 after the row's 200 epochs: the 2020 monorepo's."""
CIFAR_SECONDS = 60.0
"""Below which a CIFAR run shows nothing."""
MINUTES, GRACE = 8.5, 20.0
"""For the rows, and the seconds that one may take to come back: with the imports before them at most 9 minutes."""


class OverTime(BaseException):
    """A row that takes longer than it may; as Ctrl-C, no Exception, of which code may let some pass."""


class Row(NamedTuple):
    """One line of the results."""

    name: str
    seconds: float
    """That it may take on a GPU, and without which it is not begun."""
    run: Callable[[Setting], dict[str, Any]]
    """Its numbers, and whether they are right, "passed", or its "outcome". Raises Skipped where it cannot be had."""
    takes_the_rest: bool = False
    """Of the time, however much that is."""


# ---- CIFAR-100 ------------------------------------------------------------------------------------------------------


def cifar(setting: Setting, folder: Path | None, deadline: float) -> dict[str, Any]:
    """Our recipe for resnet18cifar, its schedule stretched over as many of its 200 epochs as there is time for."""
    if folder is None:
        raise Skipped("no data: --cifar FOLDER names one that holds cifar-100-python/")
    try:
        from public.recipes.classification import train
    except ImportError as error:
        raise Skipped(f"a run needs {error.name}, which is not installed") from error
    row = runpy.run_path(str(CIFAR_EXPERIMENT))["CONFIGS"][CIFAR_ROW]
    row = replace(row, data=replace(row.data, folder=str(folder.resolve()), published_archive=False))
    context = DistributedContext(rank=0, size=1, device=setting.device)
    with tempfile.TemporaryDirectory() as out:
        train(row.with_epochs(2), Path(out) / "first", context)  # kernels are chosen in the first of its epochs
        seconds = metrics_of(Path(out) / "first")[-1]["train_seconds"]
        epochs = max(1, min(row.epochs, int(0.85 * (deadline - time.monotonic()) / seconds)))
        train(replace(row.with_epochs(epochs), evaluate_every=max(1, epochs // 10)), Path(out) / "run", context)
        rows = metrics_of(Path(out) / "run")
    top1 = {one["epoch"]: one["top1"] for one in rows if "top1" in one}
    spent = sum(one["train_seconds"] for one in rows)
    rate = round(median(one["images_per_second"] for one in rows))
    numbers = {"epochs": epochs, "top1": top1, "seconds": round(spent), "images_per_second": rate}
    return numbers | cifar_outcome(epochs, row.epochs, max(top1.values()))


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """What a run wrote of its epochs."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def cifar_outcome(epochs: int, whole: int, top1: float) -> dict[str, Any]:
    """Whether the accuracy of the row is reached, which only all of its epochs can show."""
    if epochs < whole:
        return {"outcome": "not shown", "why": f"there was time for {epochs} of {whole} epochs"}
    return {"passed": top1 >= CIFAR_TOP1}


# ---- all rows -------------------------------------------------------------------------------------------------------


def rows(cifar_folder: Path | None, deadline: float) -> Iterator[Row]:
    """In the order in which they are wanted."""
    everything = (*list_detectors(), CLASSIFICATION)
    for name in everything:
        yield Row(f"{name} against the CPU", 20, partial(checks.against_cpu, name))
    for name in everything:
        yield Row(f"{name} and its host waits", 15, partial(checks.host_waits, name))
    for name in ("retinanet", CLASSIFICATION):
        yield Row(f"{name} in three precisions", 20, partial(checks.precisions, name))
    speeds = list(speed_rows())
    yield from speeds[: 1 + len(PEERS)]
    for name in ("fcos", "faster_rcnn", CLASSIFICATION):
        yield Row(f"{name} resumed", 20, partial(checks.resume, name))
    for name in ("retinanet", CLASSIFICATION):
        yield Row(f"{name} in DDP and others", 20, partial(checks.wrappers, name))
    for name in ("retinanet", "fcos", "centernet", CLASSIFICATION):
        yield Row(f"{name} as a CUDA graph", 20, partial(checks.cuda_graph, name))
    yield from speeds[1 + len(PEERS) :]
    run = partial(cifar, folder=cifar_folder, deadline=deadline)
    yield Row("cifar100", CIFAR_SECONDS, run, takes_the_rest=True)


def speed_rows() -> Iterator[Row]:
    """A classifier and the detectors as they are trained on a GPU; then other layouts, sizes and precisions."""
    kinds = {"bf16, channels_last": ("bf16", True), "bf16": ("bf16", False), "tf32, channels_last": ("tf32", True)}
    of_resnet = [
        Row(f"resnet50 {words}", 40, partial(classification_speed, precision=precision, channels_last=channels_last))
        for words, (precision, channels_last) in (kinds | {"fp32": ("fp32", False)}).items()
    ]
    of_detectors = [
        Row(f"{name} {precision} at {canvas}", 40, partial(detection_speed, name, canvas=canvas, precision=precision))
        for precision, canvas in (("bf16", 800), ("bf16", 640), ("tf32", 640))
        for name in PEERS
    ]
    return iter([of_resnet[0], *of_detectors[: len(PEERS)], *of_resnet[1:], *of_detectors[len(PEERS) :]])


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises OverTime within what takes longer."""

    def interrupt(*_: Any) -> None:
        raise OverTime

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def result_of(row: Row, setting: Setting, deadline: float) -> dict[str, Any]:
    """A row's numbers with its "outcome": passed, failed, measured, not shown, skipped, not run, and why."""
    left = deadline - time.monotonic()
    limit = left if row.takes_the_rest or setting.device.type == "cpu" else row.seconds
    if left < row.seconds:
        return {"outcome": "not run", "why": f"no time left: {left:.0f} s, and it may take {row.seconds:.0f} s"}
    try:
        with at_most(limit):
            numbers = row.run(setting)
    except Skipped as error:
        return {"outcome": "skipped", "why": str(error)}
    except OverTime:
        # Time that was short from the start is no fault of a row that takes what there is.
        outcome = "not shown" if row.takes_the_rest else "failed"
        return {"outcome": outcome, "why": f"it took longer than {limit:.0f} s"}
    except Exception as error:  # whatever a card, a driver or a library says: the other rows are still wanted
        traceback.print_exc()
        return {"outcome": "failed", "why": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    if "passed" in numbers:
        numbers["outcome"] = "passed" if numbers.pop("passed") else "failed"
    return {"outcome": numbers.pop("outcome"), **numbers}


@contextmanager
def ended_at(deadline: float, names: Sequence[str]) -> Iterator[None]:
    """Ends the process at a time, whatever it does, and says of which of its rows nothing will be heard."""

    def end() -> None:
        print(f"ended: {names[0]} does not come back. Not run: {', '.join(names[1:]) or 'none'}", flush=True)
        os._exit(1)

    timer = threading.Timer(deadline - time.monotonic(), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def run_rows(wanted: Sequence[Row], setting: Setting, deadline: float, results: Path | None) -> dict[str, list[str]]:
    """One row after another; their names by outcome."""
    outcomes: dict[str, list[str]] = {}
    names = [row.name for row in wanted]
    # A signal interrupts Python alone, and not a call that a driver does not answer.
    with ended_at(deadline + GRACE, names):
        for row in wanted:
            outcomes.setdefault(run_row(row, setting, deadline, results), []).append(names.pop(0))
    return outcomes


def run_row(row: Row, setting: Setting, deadline: float, results: Path | None) -> str:
    """Runs, prints and writes down one row; its outcome."""
    start = time.monotonic()
    numbers = result_of(row, setting, deadline)
    numbers["row_seconds"] = round(time.monotonic() - start, 1)
    print(row.name, *(f"{key} {value}" for key, value in numbers.items()), sep="  ", flush=True)
    if results is not None and numbers["outcome"] not in ("skipped", "not run"):
        append_result("gpu", {"row": row.name, **numbers}, setting.device, "noise", results)
    gc.collect()
    torch.cuda.empty_cache()
    return numbers["outcome"]


QUICK: dict[str, Any] = {
    **{"backbone": "resnet18", "canvas": 96, "batch_size": 2, "image_batch": 2, "image_size": 64},
    **{"detection_batch": 1, "turn_seconds": 0.01, "rounds": 1},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the rows that are asked for; gives the exit code."""
    # argparse and not tyro, which may be missing where a card is lent.
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all rows together")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="of the names of rows")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: for trying the code")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the numbers mean nothing")
    parser.add_argument("--cifar", type=Path, metavar="FOLDER", help="that holds cifar-100-python/")
    said = "to which a line is added for each row; without it results.jsonl, and none where --quick is given"
    parser.add_argument("--out", type=Path, metavar="FILE", help=said)
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu --quick tries the code without one.")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # is read once, before rows that need it
    setting = Setting(device=torch.device(args.device), **(QUICK if args.quick else {}))
    deadline = time.monotonic() + 60 * args.minutes
    wanted = [row for row in rows(args.cifar, deadline) if not args.only or any(word in row.name for word in args.only)]
    print(f"{len(wanted)} rows on {device_name(setting.device)}, torch {torch.__version__}", flush=True)
    outcomes = run_rows(wanted, setting, deadline, args.out or (None if args.quick else RESULTS))
    for outcome, names in outcomes.items():
        print(f"{outcome}: {len(names)}{'' if outcome in ('passed', 'measured') else ': ' + ', '.join(names)}")
    return 1 if "failed" in outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
