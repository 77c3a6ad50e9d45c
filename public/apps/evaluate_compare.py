"""Trained runs side by side: means and deviations over seeds, and how much of a difference other images would leave.

    python -m public.apps.evaluate --compare runs/a runs/b
    python -m public.apps.evaluate --compare runs/a-seed0 runs/a-seed1 runs/b-seed0 runs/b-seed1
    python -m public.apps.evaluate --compare runs/a/test runs/b/test                what test.sh has written
    python -m public.apps.evaluate --compare a.json b.json --data.folder FOLDER     detections that anyone wrote

Runs whose settings differ in nothing but the seed are one group, which has its first run's name. Each group is compared
with the first: [low, high] is the 95 % interval of the difference when the images of the split are drawn anew, the same
for all (`public/evaluation/resampling.py`). How other seeds would come out it does not say: the deviation does.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from public.config.command_line import fail, given, in_present, in_present_folder, with_kinds
from public.config.detection import DetectionConfig, DetectionData
from public.config.experiment import Experiment
from public.config.names import first_line
from public.config.record import class_summary, read_config, to_record, without_seed
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.formats import DATA_KIND, NoFormatError, recognize, resolved
from public.datasets.locations import dataset_folder
from public.datasets.results import read_coco_results
from public.datasets.splits import read_truth
from public.evaluation.classification_report import OUTCOME_COLUMNS
from public.evaluation.detection import evaluator_of
from public.evaluation.evaluator import existing
from public.evaluation.resampling import Resampled, intervals, shares
from public.runtime.launch import raised_by_us
from public.runtime.output import make_folder_of, writing_to
from public.runtime.run_folder import replace_text
from public.test_scripts.detection import of_network
from public.test_scripts.request import parse_options
from public.test_scripts.test_on_coco import COCO


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Compares trained runs."""

    compare: tuple[str, ...]
    """Two or more run folders, of which the last evaluation is compared (report/); or folders with such a report, as
    test.sh writes; or files of detections (.json)."""
    resamples: int = 1000
    """How often the images of the split are drawn anew."""
    seed: int = 0
    """Of those draws."""
    output: str | None = None
    """A .json file for the same numbers with every digit; None: they are only printed."""


@dataclass(frozen=True, kw_only=True)
class CompareDetectionsOptions(CompareOptions):
    """Compares trained detectors, or files of detections."""

    data: DetectionData
    """The data set, whose validation splits the detections are of; by default that of the first run."""


class Run(NamedTuple):
    """One of what is compared."""

    name: str
    path: Path
    """outcomes.csv or predictions.json of a report, or a file of detections."""
    config: Any
    """Of the run; None for a report that lies in no run folder, and for a file of detections."""
    record: dict[str, Any]
    """Of the config; empty for none."""


class Evaluation(NamedTuple):
    """What one run is worth on the split."""

    metrics: dict[str, float]
    resampled: Resampled | None


class Split(NamedTuple):
    """What all runs are worth on one."""

    num_images: int
    evaluations: list[Evaluation]
    resampled: tuple[str, ...]
    """The metrics that have an interval, in the order of `Evaluation.resampled`."""


def main(args: list[str]) -> None:
    """Reads a command line, compares and prints; a user's mistake ends with code 2."""
    try:
        runs = open_runs(given_runs(args))
        compare(runs, read_options(args, runs), args)
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))


def given_runs(args: Sequence[str]) -> list[str]:
    """The values of --compare."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--compare", nargs="*", default=[])
    return parser.parse_known_args(args)[0].compare


def open_runs(names: Sequence[str]) -> list[Run]:
    """What is compared.

    Raises:
        DataError: it is of two tasks, or one of it is there twice or holds no evaluation.
    """
    runs = [open_run(Path(name)) for name in names]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise DataError(f"--compare {' '.join(names)}: one of them is named twice.")
    if len({run.path.suffix for run in runs}) > 1:
        paths = {run.path.suffix: run.path for run in runs}
        raise DataError(f"{paths['.csv']} is of a classifier and {paths['.json']} is of a detector: compare one task.")
    return runs


def open_run(path: Path) -> Run:
    """A run folder, the folder of a report, or a file of detections.

    Raises:
        DataError: there is no such one, it holds no evaluation, or its config cannot be made again.
    """
    if path.suffix == ".json":
        return Run(str(path), path, None, {})
    is_run = (path / "config.json").is_file()
    report, folder = (path / "report", path) if is_run else (path, path.absolute().parent)
    files = [report / "outcomes.csv", report / "predictions.json"]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise DataError(
            f"{path} holds no evaluation to compare: there is neither {files[0]} (of a classifier) nor {files[1]} (of "
            "a detector), which each evaluation of a run writes, and test.sh into the folder test."
        )
    name = folder.name if is_run else f"{folder.name}/{path.name}"
    if not (folder / "config.json").is_file():
        return Run(name, found, None, {})
    above = folder.absolute().parents
    experiment = Experiment(above[1]) if len(above) > 1 and (above[1] / "config.py").is_file() else None
    try:
        config = read_config(folder, experiment)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / 'config.json'}: {first_line(error)}.") from error
    return Run(name, found, config, to_record(config, experiment))


def read_options(args: Sequence[str], runs: list[Run]) -> CompareOptions:
    """What a command line asks for; a mistake ends the program with code 2."""
    if runs and runs[0].path.suffix == ".csv":
        options = tyro.cli(CompareOptions, args=args)
    else:
        config = next((run.config for run in runs if isinstance(run.config, DetectionConfig)), None)
        if config is None:
            config = of_network(None, COCO)
            if given("data.dataset", args) is None and is_recognized(given("data.folder", args)):
                args = [*args, "--data.dataset", "auto"]
        config = with_kinds(config, (DATA_KIND,), args)
        default = CompareDetectionsOptions(compare=tyro.MISSING, data=config.data)
        options = parse_options(args, default, DATA_KIND)
    if len(runs) < 2:
        raise ValueError(f"--compare takes two runs or more, got {len(runs)}.")
    if options.resamples < 1:
        raise ValueError(f"resamples={options.resamples} must be 1 or more.")
    if options.output is not None:
        make_folder_of(Path(options.output), "output", "compare.json")
    return options


def is_recognized(folder: str | None) -> bool:
    """Whether a folder that was typed holds data of a format, as training finds it out; what it lacks is said later.

    Raises:
        DataError: there is no such folder, or more than one of the formats fits it.
    """
    if folder is None:
        return False
    try:
        recognize(dataset_folder(in_present(folder)))
    except NoFormatError:
        return False
    return True


def compare(runs: list[Run], options: CompareOptions, args: Sequence[str]) -> None:
    """Evaluates, prints and writes.

    Raises:
        DataError: the runs were not evaluated on the same images.
        ValueError: the output cannot be written.
    """
    if isinstance(options, CompareDetectionsOptions):
        split = evaluate_detections(runs, options.data, args)
    else:
        split = evaluate_outcomes(runs)
    groups = grouped(runs)
    ends = None
    if len(groups) > 1 and split.resampled:
        evaluations = [[split.evaluations[place].resampled for place in group] for group in groups]
        ends = intervals(evaluations, split.num_images, options.resamples, options.seed)  # pyright: ignore
    rows = [describe(group, runs, split) for group in groups]
    for place, row in enumerate(rows[1:]):
        row["difference"] = {name: value[0] - rows[0]["metrics"][name][0] for name, value in row["metrics"].items()}
        pairs = [] if ends is None else zip(split.resampled, *(end[place].tolist() for end in ends), strict=True)
        row["interval"] = {name: limits for name, *limits in pairs}
    print_table(rows, split.num_images, options.resamples)
    if options.output is not None:
        output = Path(options.output)
        with writing_to(output.parent):
            replace_text(output, json.dumps({"num_images": split.num_images, "groups": rows}, indent=1) + "\n")


def grouped(runs: Sequence[Run]) -> list[list[int]]:
    """The places of the runs that differ in the seed alone, the groups in the order of their first runs."""
    groups: list[list[int]] = []
    for place, run in enumerate(runs):
        own = next((group for group in groups if run.record and _is_same(runs[group[0]].record, run.record)), None)
        if own is None:
            groups.append([place])
        else:
            own.append(place)
    return groups


def _is_same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return bool(old) and without_seed(old) == without_seed(new)


def describe(group: Sequence[int], runs: Sequence[Run], split: Split) -> dict[str, Any]:
    """A group's runs, and of each metric that all runs have the mean and the deviation (None for one run)."""
    common = [name for name in split.evaluations[0].metrics if all(name in one.metrics for one in split.evaluations)]
    metrics: dict[str, tuple[float, float | None]] = {}
    for name in common:
        values = [split.evaluations[place].metrics[name] for place in group]
        metrics[name] = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    return {"name": runs[group[0]].name, "runs": [str(runs[place].path) for place in group], "metrics": metrics}


def print_table(rows: Sequence[dict[str, Any]], num_images: int, resamples: int) -> None:
    """The groups with their runs, then a block of lines a metric."""
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {len(row['runs'])} x {', '.join(row['runs'])}")
    print(f"{num_images} images; ±: deviation over runs; [ ]: 95 % of {resamples} differences on images drawn anew")
    for metric in rows[0]["metrics"]:
        for row in rows:
            mean, deviation = row["metrics"][metric]
            line = f"{metric:<10} {row['name']:<{width}}  {mean:.4f}"
            line += " " * 9 if deviation is None else f" ± {deviation:.4f}"
            if row is not rows[0]:
                limits = row["interval"].get(metric)
                line += f"  {row['difference'][metric]:+.4f}"
                line += "" if limits is None else f" [{limits[0]:+.4f}, {limits[1]:+.4f}]"
            print(line.rstrip())


# ---- classification --------------------------------------------------------------------------------------------------


def evaluate_outcomes(runs: Sequence[Run]) -> Split:
    """Classifiers, by what they said of each image.

    Raises:
        DataError: a file cannot be read, or is of other images.
    """
    tables = [read_outcomes(run.path) for run in runs]
    first = tables[0][:, :2]
    for run, table in zip(runs, tables, strict=True):
        if not np.array_equal(table[:, :2], first):
            raise DataError(
                f"{run.path} is of {len(table)} images and {runs[0].path} of {len(first)}, and they are not the same "
                "images of the same classes in the same order."
            )
    rights = [table[:, 1] == table[:, 2] for table in tables]
    metrics = [
        {"top1": float(right.mean())} | _metrics_beside(run.path) for run, right in zip(runs, rights, strict=True)
    ]
    evaluations = [Evaluation(one, shares(right)) for one, right in zip(metrics, rights, strict=True)]
    return Split(len(first), evaluations, ("top1",))


def read_outcomes(path: Path) -> np.ndarray:
    """Image, truth and what was said, str [N, 3].

    Raises:
        DataError: it is no such file.
    """
    try:
        header, *lines = csv.reader(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}.") from error
    if tuple(header) != OUTCOME_COLUMNS or not lines or any(len(line) != len(header) for line in lines):
        raise DataError(
            f"{path} is no table of outcomes: expected the columns {', '.join(OUTCOME_COLUMNS)} and a line an image."
        )
    return np.array(lines)[:, :3]


def _metrics_beside(path: Path) -> dict[str, float]:
    """The other numbers of a report; none where they cannot be read."""
    try:
        metrics = json.loads((path.parent / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in metrics.items() if name != "num_images"}


# ---- detection -------------------------------------------------------------------------------------------------------


def evaluate_detections(runs: Sequence[Run], data: DetectionData, args: Sequence[str]) -> Split:
    """Detectors, by their detections and the truth.

    Raises:
        DataError: a file or the data set cannot be read, or a run was evaluated on other images.
    """
    data = resolved(in_present_folder(data, args), trains=False)
    annotations, _ = read_truth(data)
    if not any(arg.startswith("--data.") for arg in args):
        for run in runs:
            if run.config is not None and run.config.data != data:
                _check_same(annotations, read_truth(resolved(run.config.data))[0], run)
    evaluator = evaluator_of(data.rules)(annotations)
    evaluations = []
    for run in runs:
        written = read_coco_results([run.path], annotations, whole=True)
        metrics = existing(evaluator.evaluate_written(written).metrics)
        evaluations.append(Evaluation(metrics, evaluator.resampled(written) if evaluator.resampled_metrics else None))
    return Split(annotations.num_images, evaluations, evaluator.resampled_metrics)


def _check_same(first: DetectionAnnotations, own: DetectionAnnotations, run: Run) -> None:
    if first.class_names != own.class_names or not np.array_equal(first.image_ids, own.image_ids):
        raise DataError(
            f"{run.path} is of {own.num_images} images and {class_summary(own.class_names)} of {own.source}, and the "
            f"first run of {first.num_images} images and {class_summary(first.class_names)} of {first.source}: compare "
            "runs on the same images."
        )
