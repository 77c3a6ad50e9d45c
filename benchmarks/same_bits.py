"""An older commit of this repository against the present tree: the same runs must end with the same bits.

    python -m benchmarks.same_bits 20741d7                        all cases, in five to six minutes on two cores
    python -m benchmarks.same_bits 20741d7 --only fcos_coco       some of them
    python -m benchmarks.same_bits 20741d7 --tree FOLDER          another tree than this one
    python -m benchmarks.same_bits 20741d7 --keep FOLDER          leaves the run folders there

For changes that must change no result. Each case of `same_bits_cases` (CIFAR, image folders, every detector, with and
without accumulation, averaged weights and a second process) takes 20 optimizer steps by the recipe of the older commit,
which a temporary git worktree holds, and by that of the present tree, on the same generated images. Compared are the
losses of every step, the rows of metrics.jsonl, weights, averaged weights, optimizer and random generators of the last
checkpoint, the logits or detections of each evaluated image, and the files of detections. One line is printed for each
case; the exit code is 1 where anything differs.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks import same_bits_cases
from benchmarks.exact_resume import bits
from benchmarks.same_bits_cases import CASES
from public.datasets.locations import REPOSITORY

SIZES = {"imagenet-train-per-class": 8, "imagenet-val-per-class": 2, "cifar100-train": 20, "cifar100-test": 10}
SIZES |= {"coco-train": 20, "coco-val": 6, "voc-per-year": 20}
"""Of the generated data sets: images for five steps of every case, and those that are left over."""
NUM_STEPS = 20
CLOCKED = ("images_per_second", "data_wait_share", "train_seconds")
"""Columns of metrics.jsonl that a clock fills."""
SECONDS = 300
"""After which a run is given up."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    commit: Annotated[str, tyro.conf.Positional]
    """The older commit."""
    only: tuple[str, ...] = tuple(CASES)
    """The cases to run."""
    tree: Path = REPOSITORY
    """The present tree."""
    keep: Path | None = None
    """Folder for the run folders, which must not exist yet; None: none is left."""


@contextlib.contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """A commit's files in a folder, as long as the block lasts."""
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def environment(tree: Path, root: Path) -> dict[str, str]:
    """The variables of a tree's processes: one thread each, its own library first, the common data.

    The older tree may need a package that counted its multiply-adds and is no longer installed: they are in no result.
    Another that only it needs can be installed beside (`pip install --target FOLDER`) and named in PYTHONPATH.
    """
    path = [str(tree)]
    if find_spec("thop") is None:
        stub = root / "stubs" / "thop.py"
        stub.parent.mkdir(exist_ok=True)
        stub.write_text("def profile(*_args, **_options):\n    return 0, 0\n")
        path.append(str(stub.parent))
    path += filter(None, [os.environ.get("PYTHONPATH")])
    fixed = {"PYTHONPATH": os.pathsep.join(path), "DATA_ROOT": str(root / "data"), "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | fixed | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONDONTWRITEBYTECODE": "1"}


def generate_data(tree: Path, root: Path) -> None:
    """Writes the images of all cases, by the older tree."""
    command = [sys.executable, "-m", "public.datasets.sample", "--root", str(root / "data")]
    command += [text for name, size in SIZES.items() for text in (f"--{name}", str(size))]
    subprocess.run(command, cwd=root, env=environment(tree, root), check=True, stdout=subprocess.DEVNULL)


def run_case(name: str, trees: Mapping[str, Path], root: Path) -> dict[str, Path]:
    """Runs a case by all trees at the same time, and gives the folder in which each has run.

    Raises:
        RuntimeError: one failed; with the end of what it said.
    """
    folders = {key: root / key / name for key in trees}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for key, folder in folders.items():
            folder.mkdir(parents=True)
            shutil.copy(str(same_bits_cases.__file__), folder / "train.py")
            with (folder / "log.txt").open("wb") as log:
                command, variables = [sys.executable, "train.py", name], environment(trees[key], root)
                processes[key] = subprocess.Popen(
                    command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True
                )
        for key, process in processes.items():
            if process.wait(SECONDS):
                text = (folders[key] / "log.txt").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"{name} by the {key} tree ended with code {process.returncode}:\n{text[-3000:]}")
    finally:
        for process in processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return folders


def result_of(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """What a case has come to, by kind and by name, in the order in which a difference would come about."""
    run = folder / "runs" / name
    checkpoint = torch.load(run / "checkpoints" / "latest.pth", weights_only=True)
    rows = [{k: v for k, v in row.items() if k not in CLOCKED} for row in checkpoint["metrics"]["history"]]
    optimizer = {key: checkpoint[key] for key in ("optimizer", "schedule", "ema_num_averaged", "epoch", "step")}
    outputs = {path.stem: torch.load(path, weights_only=True) for path in sorted(folder.glob("outputs_*.pth"))}
    files = [*run.glob("evaluation/predictions.json"), *run.glob("evaluation/comp4_*.txt")]
    return {
        "step losses": step_scalars(run),
        "rows of epochs": flat(rows),
        "weights": flat(checkpoint["model"]),
        "averaged weights": flat(checkpoint["ema"] or {}),
        "optimizer numbers": flat(optimizer),
        "generator states": flat(checkpoint["rng"]),
        "outputs": flat(outputs),
        "files of detections": {path.name: path.read_bytes() for path in sorted(files)},
    }


def step_scalars(run: Path) -> dict[str, Any]:
    """What TensorBoard was told of each step: losses and learning rate, float32, in the order of the steps."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("step/")]
    found = {(event.step, tag): event.value for tag in tags for event in events.Scalars(tag)}
    return {f"{tag} of step {step}": found[step, tag] for step, tag in sorted(found)}


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every tensor and number of a nested structure, by its place in it."""
    if isinstance(value, Mapping):
        value = {str(key): item for key, item in value.items()}
    elif isinstance(value, list | tuple):
        value = {str(number): item for number, item in enumerate(value)}
    else:
        return {name: value}
    return {k: v for key, item in value.items() for k, v in flat(item, f"{name}.{key}" if name else key).items()}


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Where two flat results of one kind differ first, and by how much; None: they are equal to the last bit."""
    if old.keys() != new.keys():
        names = [key for key in [*old, *new] if (key in old) != (key in new)]
        return f"{names[0]} is only in the {'old' if names[0] in old else 'new'} one ({len(names)} such)"
    differing = [key for key in old if not same(old[key], new[key])]
    if not differing:
        return None
    return f"{differing[0]}: {amount(old[differing[0]], new[differing[0]])} ({len(differing)} of {len(old)} differ)"


def same(old: Any, new: Any) -> bool:
    """Whether two values have the same type, shape and bits."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        return old.dtype == new.dtype and old.shape == new.shape and torch.equal(bits(old), bits(new))
    return type(old) is type(new) and repr(old) == repr(new)  # of floats every bit but a NaN's


def amount(old: Any, new: Any) -> str:
    """By how much two values differ."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            return f"{old.dtype} {list(old.shape)} is now {new.dtype} {list(new.shape)}"
        return f"by at most {(old.double() - new.double()).abs().max().item():.3g}"
    if isinstance(old, bytes) and isinstance(new, bytes):
        place = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        return f"{len(old)} and {len(new)} bytes, alike up to byte {place}"
    by = f", by {abs(old - new):.3g}" if isinstance(old, float) and isinstance(new, float) else ""
    return f"{old!r} is now {new!r}{by}"


def compare(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> tuple[bool, str]:
    """Whether two results are equal, and the rest of the line that says so."""
    found = {kind: first_difference(old[kind], new[kind]) for kind in old}
    differing = [f"{kind}: {text}" for kind, text in found.items() if text is not None]
    if differing:
        others = f"; also {', '.join(text.split(':')[0] for text in differing[1:])}" if differing[1:] else ""
        return False, f"DIFFERS in {differing[0]}{others}"
    missing = what_is_missing(old)
    if missing:  # nothing compared is nothing shown
        return False, f"EMPTY: equal, but there {missing}"
    return True, f"equal: {', '.join(f'{len(values)} {kind}' for kind, values in old.items() if values)}"


def what_is_missing(result: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What a result needs if its comparison shall mean anything."""
    num_steps = len({key.rpartition(" ")[2] for key in result["step losses"]})
    if num_steps != NUM_STEPS:
        return f"were {num_steps} steps and not {NUM_STEPS}"
    if not result["outputs"]:
        return "were no outputs of evaluated images"
    files = result["files of detections"].values()
    return "were no detections" if files and sum(map(len, files)) < 100 else None


def main(options: Options) -> int:
    """Runs and compares the cases; gives the exit code."""
    unknown = [name for name in options.only if name not in CASES]
    if unknown:
        print(f"error: no case {', '.join(unknown)}; there are {', '.join(CASES)}.", file=sys.stderr)
        return 2
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        with worktree(options.commit, root / "tree") as old_tree:
            trees = {"old": old_tree, "new": options.tree.resolve()}
            generate_data(old_tree, root)
            num_differing = sum(not checked(name, trees, root) for name in options.only)
        if options.keep is not None:
            shutil.copytree(root, options.keep)
    seconds = time.monotonic() - start
    print(f"{len(options.only) - num_differing} of {len(options.only)} cases equal, {seconds:.0f} s")
    return 1 if num_differing else 0


def checked(name: str, trees: Mapping[str, Path], root: Path) -> bool:
    """Runs a case and prints its line; whether its results are equal."""
    start = time.monotonic()
    try:
        folders = run_case(name, trees, root)
        is_equal, line = compare(*(result_of(folders[key], name) for key in ("old", "new")))
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        is_equal, line = False, f"FAILED: {error}"
    print(f"{name:<{max(map(len, CASES))}}  {time.monotonic() - start:3.0f} s  {line}", flush=True)
    return is_equal


def parsed(arguments: Sequence[str] | None = None) -> Options:
    """The command line."""
    return tyro.cli(Options, args=arguments, description=__doc__)


if __name__ == "__main__":
    sys.exit(main(parsed()))
