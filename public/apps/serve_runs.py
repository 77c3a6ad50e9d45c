"""Run folders for the page: their state, curves, settings, reports and pictures, from their files alone."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, Response

from public.apps.serve_api import STYLED, Endpoint, Parameter
from public.config.names import first_line, nearest_names
from public.config.record import differing, from_record, to_record
from public.config.upgrade import upgraded
from public.datasets.locations import REPOSITORY
from public.evaluation.evaluator import existing
from public.runtime.folder_lock import is_held

SHOWN = (".html", ".png", ".jpg", ".jpeg", ".txt", ".csv", ".json", ".jsonl", ".log")
"""Endings of the files that are given out."""
DEEPEST = 6
"""Folders below a root in which runs are looked for."""
UNUSABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What a record raises that is damaged, newer, or has classes of the experiment's own, whose code is not run here."""
TAIL = 20
"""Lines of the log."""


def usual_roots() -> list[Path]:
    """The folders of runs of the experiments beside this package."""
    return sorted(path for path in REPOSITORY.glob("*_experiments/*/runs") if path.is_dir())


class Runs:
    """The run folders below some roots.

    Args:
        roots: folders of any depth above run folders, or run folders themselves. Nothing outside of them is shown,
            wherever a link leads.

    Raises:
        FileNotFoundError: one is not there.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        for root in roots:
            if not root.is_dir():
                raise FileNotFoundError(f"runs={str(root)!r}: there is no such folder.")
        self.roots = [root.resolve() for root in roots]
        base = Path(os.path.commonpath(self.roots)) if self.roots else REPOSITORY
        self._base = base.parent if (base / "config.json").is_file() else base

    def folders(self) -> dict[str, Path]:
        """Every run folder by its name, the path below what all roots lie in."""
        found = sorted({path for root in self.roots for path in _run_folders(root)})
        return {path.relative_to(self._base).as_posix(): path for path in found}

    def listed(self) -> list[dict[str, Any]]:
        """A line for each run."""
        return [summary(name, path) for name, path in self.folders().items()]

    def folder(self, name: str | None) -> Path:
        """Of one run; raises FileNotFoundError."""
        folders = self.folders()
        if name not in folders:
            hint = f"; {nearest_names(str(name), folders)}" if folders else ""
            raise FileNotFoundError(f"there is no run {name!r}{hint}.")
        return folders[name]

    def run(self, run: str | None) -> dict[str, Any]:
        """All that the page shows of one run."""
        folder = self.folder(run)
        files = [path for path in sorted(folder.glob("**/*")) if path.suffix in SHOWN and path.is_file()]
        names = [path.relative_to(folder).as_posix() for path in files]
        log = _text(folder / "train.log").splitlines()
        return summary(str(run), folder) | {
            "rows": rows_of(folder),
            "reports": [name for name in names if name.endswith(".html")],
            "pictures": [{"path": name, "epoch": _epoch_of(name)} for name in names if name.endswith(SHOWN[1:4])],
            "log": log[-TAIL:],
        }

    def differences(self, first: str | None, second: str | None) -> list[dict[str, str]]:
        """The settings that differ between two runs."""
        rows = differing(whole_record_of(self.folder(first)), whole_record_of(self.folder(second)))
        return [{"setting": name, "first": before, "second": now} for name, before, now in rows]

    def file(self, run: str | None, path: str | None) -> Response:
        """One file of a run, pages without the right to run scripts."""
        folder, name = self.folder(run), str(path)
        try:
            found = (folder / name).resolve()
            if found.suffix not in SHOWN or not found.is_relative_to(folder) or not found.is_file():
                raise FileNotFoundError
        except (OSError, ValueError):  # a name that no file can have
            raise FileNotFoundError(f"{run} has no file {name!r} to show.") from None
        return FileResponse(found, headers={"Content-Security-Policy": f"{STYLED}; sandbox"})

    def endpoints(self) -> list[Endpoint]:
        """Of the tab Runs."""
        run = Parameter("run", "name of the run, see /api/runs")
        return [
            Endpoint(
                method="GET",
                path="/api/runs",
                says="The run folders: a list.",
                example="ADDRESS/api/runs",
                answer=SUMMARY,
                handle=self.listed,
            ),
            Endpoint(
                method="GET",
                path="/api/run",
                says="One run.",
                example="'ADDRESS/api/run?run=resnet18'",
                parameters=(run,),
                answer=SUMMARY | RUN,
                handle=self.run,
            ),
            Endpoint(
                method="GET",
                path="/api/differences",
                says="The settings that differ between two runs: a list.",
                example="'ADDRESS/api/differences?first=resnet18&second=resnet50'",
                parameters=(Parameter("first", "name of a run"), Parameter("second", "name of another")),
                answer={"setting": "its name", "first": "its value in the first run", "second": "in the second"},
                handle=self.differences,
            ),
            Endpoint(
                method="GET",
                path="/api/file",
                says="A file of a run, as it is; checkpoints are not given out.",
                example="'ADDRESS/api/file?run=resnet18&path=curves.png'",
                parameters=(run, Parameter("path", "below the run's folder")),
                answer={},
                handle=self.file,
            ),
        ]


SUMMARY = {
    "run": "its name",
    "state": "running (a process holds the folder), finished (its last epoch is done), or stopped",
    "epoch": "the last one that is done",
    "epochs": "how many it is to have; null where config.json cannot be read without the experiment's own code",
    "network": "likewise",
    "best_metric": "the metric that best.pth is chosen by; likewise",
    "metrics": "of the last epoch that has each of them",
    "changed": "when the newest of its files was written, seconds since 1970",
}
RUN = {
    "rows": "a list of what metrics.jsonl says of each epoch",
    "reports": "paths of pages",
    "pictures": "a list of path and epoch, null where the name has none",
    "log": f"the last {TAIL} lines of train.log",
}


def _run_folders(root: Path) -> list[Path]:
    """Those at or below a root; links are not followed."""
    found = []
    for base, folders, names in os.walk(root):
        path = Path(base)
        is_run = "config.json" in names and not {"lock", "train.log", "metrics.jsonl"}.isdisjoint(names)
        if is_run:
            found.append(path)
        is_deep = len(path.relative_to(root).parts) >= DEEPEST
        folders[:] = [] if is_run or is_deep else sorted(name for name in folders if not name.startswith("."))
    return found


def summary(name: str, folder: Path) -> dict[str, Any]:
    """The line of one run; a setting that nothing tells is None."""
    rows, epochs = rows_of(folder), None
    settings: dict[str, Any] = dict.fromkeys(("network", "best_metric"))
    try:
        config = from_record(record_of(folder))
        epochs = config.epochs
        settings = {key: getattr(config, key) for key in settings}
    except UNUSABLE:
        pass
    epoch = rows[-1].get("epoch", 0) if rows else 0
    is_done = epoch == epochs or (epochs is None and " INFO done: " in _text(folder / "train.log")[-2000:])
    metrics = {key: value for row in rows for key, value in row.items() if key != "epoch"}
    times = [path.stat().st_mtime for path in map(folder.joinpath, ("train.log", "metrics.jsonl")) if path.is_file()]
    return {
        "run": name,
        "state": "running" if is_held(folder) else "finished" if is_done else "stopped",
        "epoch": epoch,
        "epochs": epochs,
        **settings,
        "metrics": metrics,
        "changed": max(times, default=0.0),
    }


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl with the numbers that there are; a line that is just being written is left out."""
    rows = []
    for line in _text(folder / "metrics.jsonl").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(existing({key: value for key, value in row.items() if isinstance(value, int | float)}))
    return rows


def record_of(folder: Path) -> Mapping[str, Any]:
    """The run's config as data, in the present format; raises ValueError."""
    path = folder / "config.json"
    try:
        record = json.loads(_text(path))
        return upgraded(record if isinstance(record, Mapping) else {})
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {first_line(error)}.") from error


def whole_record_of(folder: Path) -> Mapping[str, Any]:
    """The same with the defaults of settings that were not there yet when the run began; raises ValueError."""
    record = record_of(folder)
    try:
        return to_record(from_record(record))
    except UNUSABLE:
        return record


def _text(path: Path) -> str:
    """A file's text; none where it is gone, or just being moved aside."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _epoch_of(name: str) -> int | None:
    """The number in report/epoch_012.jpg."""
    found = re.search(r"epoch_(\d+)", name)
    return int(found[1]) if found else None
