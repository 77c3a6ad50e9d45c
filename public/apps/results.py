"""Keeps the records of finished runs in results/, and the tables of docs/results.md that are made of them.

    python -m public.apps.results --add RUN ...    copies config.json, metrics.jsonl and environment.json of run folders
    python -m public.apps.results                  writes the tables from all records

A record is results/<experiment>/<run>/. Runs whose configs differ in the seed alone, and whose folders' names in
`_seed<n>` alone, are one line of a table, with the mean and the standard deviation (of a sample, n - 1). A record with
a file peer.txt is of a network or loop of another project, which that file names, trained on the data and with the
settings of its config.json. One with metrics.json instead of metrics.jsonl is of an evaluation alone
(`benchmarks/engine_accuracy.py`).
"""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import tyro

from public.config.command_line import fail
from public.config.record import read_config, to_record, without_seed
from public.config.run import RunConfig
from public.runtime.run_folder import replace_text

FILES = ("config.json", "metrics.jsonl", "environment.json")
EVALUATION_FILES = ("config.json", "metrics.json", "environment.json")
PEER = "peer.txt"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keeps the records of finished runs and makes tables of them."""

    add: tuple[Path, ...] = ()
    """Run folders whose records are copied before the tables are written."""
    results: Path = REPOSITORY / "results"
    """Folder of the records."""
    page: Path = REPOSITORY / "docs" / "results.md"
    """The page that holds the tables, between two comments of its own."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished run."""

    folder: Path
    config: RunConfig
    metric: str
    """That chooses best.pth."""
    epochs: list[dict[str, Any]]
    """A row of metrics.jsonl for each epoch."""
    device: str
    """The processor's or the GPU's name, from environment.json."""
    peer: str | None
    """What was trained in the place of ours; None: ours."""

    @property
    def values(self) -> list[float]:
        """The metric of each evaluation."""
        return [row[self.metric] for row in self.epochs if row.get(self.metric) is not None]

    @property
    def row(self) -> tuple[Any, ...]:
        """What two runs of one line share."""
        return json.dumps(without_seed(to_record(self.config))), self.peer, _stem(self.folder.name)


def read_record(folder: Path) -> Record:
    """Reads a run folder or a record.

    Raises:
        ValueError: a file is missing or damaged, or the run did not end or was not evaluated at its end.
    """
    try:
        config = read_config(folder)
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line) for line in lines]
        peer = (folder / PEER).read_text(encoding="utf-8").strip() if (folder / PEER).exists() else None
        device = _device(folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{folder} holds no record of a run ({' '.join(FILES)}): {error}.") from error
    done = epochs[-1]["epoch"] if epochs else 0
    if done != config.epochs:
        raise ValueError(f"{folder}: the run ended after epoch {done} of {config.epochs}; records are of whole runs.")
    metric = config.best_metric
    if epochs[-1].get(metric) is None:
        raise ValueError(f"{folder}: metrics.jsonl has no {metric} of the last epoch.")
    return Record(folder=folder, config=config, metric=metric, epochs=epochs, device=device, peer=peer)


def add(run: Path, results: Path) -> Path:
    """Copies a run's record and gives its folder.

    Raises:
        ValueError: it is no finished run, its config names files by absolute paths, or the record exists and differs.
    """
    run = run.resolve()
    read_record(run)
    absolute = re.findall(r'"((?:/|~|[A-Za-z]:\\)[^"]*)"', (run / "config.json").read_text(encoding="utf-8"))
    if absolute:
        raise ValueError(
            f"{run}: its config names {absolute[0]}, a path of this machine; a record that others can repeat has paths "
            "relative to DATA_ROOT or to the experiment's folder."
        )
    folder = results / run.parents[1].name / run.name
    names = [name for name in (*FILES, PEER) if (run / name).exists()]
    if folder.exists() and any(_bytes(folder / name) != _bytes(run / name) for name in names):
        raise ValueError(f"{folder} holds the record of another run; remove it, or name the new run by --name.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(run / name, folder / name)
    return folder


def tables(results: Path) -> str:
    """A table in Markdown for each experiment that has records."""
    parts = []
    for experiment in sorted(path for path in results.glob("*") if path.is_dir()):
        folders = sorted(path.parent for path in experiment.glob("*/config.json"))
        evaluated = [folder for folder in folders if (folder / "metrics.json").exists()]
        lines: dict[tuple[Any, ...], list[Record]] = {}
        for record in (read_record(folder) for folder in folders if folder not in evaluated):
            lines.setdefault(record.row, []).append(record)
        head = f"### {experiment.name}\n\nRecords: `results/{experiment.name}/`.\n\n"
        found = [_table(lines.values())] if lines else []
        found += [_evaluations(evaluated)] if evaluated else []
        parts.append(head + "\n".join(found))
    return "\n".join(parts)


def write_page(results: Path, page: Path) -> None:
    """Puts the tables in their place of the page.

    Raises:
        ValueError: a record is damaged, or the page has no such place.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the tables: the lines {BEGIN!r} and {END!r}.")
    replace_text(page, f"{before}{BEGIN}\n\n{tables(results)}\n{END}{after}")


def _table(lines: Iterable[list[Record]]) -> str:
    head = (
        "| row | metric | after the last epoch | best | epochs | seeds | processor | records |\n" + "|---" * 8 + "|\n"
    )
    return head + "".join(_line(records) for records in lines)


def _line(records: Sequence[Record]) -> str:
    first = records[0]
    row = _stem(first.folder.name) + (f" ({first.peer})" if first.peer else "")
    last, best = ([pick(record) for record in records] for pick in (lambda one: one.values[-1], _best))
    names = ", ".join(f"`{one.folder.name}`" for one in records)
    devices = ", ".join(sorted({record.device for record in records}))
    cells = (row, first.metric, _spread(last), _spread(best), first.config.epochs, len(records), devices)
    return "| " + " | ".join(map(str, cells)) + f" | {names} |\n"


def _evaluations(folders: Sequence[Path]) -> str:
    """A table of records of evaluations, a line each with its metrics, of which all have the same.

    Raises:
        ValueError: a record is damaged, or has other metrics than the first.
    """
    metrics, devices = zip(*(_read_evaluation(folder) for folder in folders), strict=True)
    names = list(metrics[0])
    rows = [["row", *names, "processor"], ["---"] * (len(names) + 2)]
    for folder, values, device in zip(folders, metrics, devices, strict=True):
        if list(values) != names:
            raise ValueError(
                f"{folder}: metrics.json has {', '.join(values)}, and {folders[0].name} {', '.join(names)}."
            )
        cells = [f"{value:.0f}" if name == "num_images" else f"{value:.4g}" for name, value in values.items()]
        rows.append([folder.name, *cells, device])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _read_evaluation(folder: Path) -> tuple[dict[str, float], str]:
    """The metrics and the processor's name."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return {name: float(value) for name, value in metrics.items()}, _device(folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        files = " ".join(EVALUATION_FILES)
        raise ValueError(f"{folder} holds no record of an evaluation ({files}): {error}.") from error


def _device(folder: Path) -> str:
    """The processor's or the GPU's name."""
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    return environment["processor"] if environment["device"].startswith("CPU") else environment["device"]


def _best(record: Record) -> float:
    return min(record.values) if record.metric == "loss" else max(record.values)


def _spread(values: Sequence[float]) -> str:
    """The mean, and behind it the deviation where there are several."""
    return f"{mean(values):.3f}" + (f"&nbsp;±&nbsp;{stdev(values):.3f}" if len(values) > 1 else "")


def _stem(name: str) -> str:
    """The name of a run without its seed."""
    return re.sub(r"_seed\d+$", "", name)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line; None takes the program's arguments."""
    options = tyro.cli(Options, args=list(sys.argv[1:] if argv is None else argv), description=__doc__)
    try:
        for run in options.add:
            print(f"recorded  {add(run, options.results)}")
        write_page(options.results, options.page)
    except (ValueError, OSError) as error:
        fail(str(error))
    print(f"written   {options.page}")


if __name__ == "__main__":
    main()
