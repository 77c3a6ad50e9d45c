"""Evaluates files of detections that anyone wrote, in the float64 numbers in which they are written.

    python -m public.apps.evaluate --results predictions.json --data.folder FOLDER
    python -m public.apps.evaluate --results comp4_det_test_*.txt --data.folder FOLDER --data.val-splits VOC2007/test
    python -m public.apps.evaluate EXPERIMENT [ROW] --results predictions.json

.json: COCO's results format; .txt: that of VOC's devkit, a file for each class. The data set may be of any format and
is that of an experiment's row, or what the command line says of it; its images need not be there. Numbers are by COCO's
rules or VOC's, as `--data.metrics` says, by default those of the data set's format (`--data.dataset auto`: as found).
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from public.config.command_line import choose_row, fail, given, in_present_folder, with_kinds
from public.config.detection import DetectionConfig, DetectionData
from public.config.experiment import load_configs
from public.config.record import class_summary
from public.datasets.annotations import DetectionAnnotations
from public.datasets.format import DetectionFormat
from public.datasets.formats import DATA_KIND, FORMATS, resolved
from public.datasets.scan import Kind, clean
from public.datasets.splits import scan_split
from public.evaluation.detection import evaluator_of, format_table
from public.evaluation.evaluator import DetectionResult, Evaluator
from public.evaluation.pictures import draw_precision_recall
from public.runtime.launch import raised_by_us
from public.runtime.run_folder import replace_text
from public.test_scripts.detection import of_network
from public.test_scripts.output import make_folder, writing_to
from public.test_scripts.request import parse_options
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_voc import VOC


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Evaluates files of detections."""

    results: tuple[str, ...]
    """One file of COCO's results format (.json), or those of VOC's devkit, one for each class (comp4_*.txt)."""
    output: str | None = None
    """Folder for metrics.json (every digit), table.txt and precision_recall.png; None: none are written."""
    data: DetectionData
    """The data set, whose validation splits the results are of."""


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line, evaluates and prints; None takes the program's arguments."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        options = read_options(args)
        run(replace(options, data=in_present_folder(options.data, args)))
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))


def read_options(args: list[str]) -> EvaluateOptions:
    """What a command line asks for: the data of an experiment's row, or those of the results' own format.

    Raises:
        ValueError: the experiment is of no detection, or there is no such kind of data.
    """
    if args and not args[0].startswith("-"):
        config, args = choose_row(load_configs(Path(args[0])), args[1:])
        if not isinstance(config, DetectionConfig):
            raise ValueError(
                f"{config.name} is a {type(config).__name__}; files of detections are of a DetectionConfig."
            )
    else:
        results = given("results", args)
        kind = given("data.dataset", args) or (results and _format_of([Path(results)]).options.kind)
        config = of_network(None, next((one for one in (COCO, VOC) if one.kind == kind), COCO))
    config = with_kinds(config, (DATA_KIND,), args)
    return parse_options(args, EvaluateOptions(results=tyro.MISSING, data=config.data), DATA_KIND)


def run(options: EvaluateOptions) -> DetectionResult:
    """Evaluates, prints and writes.

    Raises:
        ValueError: the results or the data cannot be read or do not fit each other, or the output cannot be written.
    """
    paths = [Path(name) for name in options.results]
    results = _format_of(paths).results
    assert results is not None
    data = resolved(options.data)
    rules = evaluator_of(data.rules)
    if options.output is not None:
        make_folder(Path(options.output))
    annotations = read_annotations(data)
    written = results.read(paths, annotations)
    evaluator = rules(annotations)
    result = evaluator.evaluate_written(written)
    num_found = len(np.unique(written.predictions.image_ids))
    print(f"results    {len(written.sides)} detections in {num_found} of {annotations.num_images} images")
    print(f"data       {class_summary(annotations.class_names)} of {annotations.source}")
    print(format_table(result), end="")
    if options.output is not None:
        write(Path(options.output), result, evaluator)
    return result


def read_annotations(data: DetectionData) -> DetectionAnnotations:
    """The validation splits, whether their images are there or not.

    Raises:
        DataError: they are missing or damaged.
    """
    raw = scan_split(data, "val")
    return clean(replace(raw, problems=[one for one in raw.problems if one.kind != Kind.MISSING_IMAGE]))


def write(folder: Path, result: DetectionResult, evaluator: Evaluator) -> None:
    """The numbers, every digit of them, the table and the curves.

    Raises:
        ValueError: the folder cannot be written to.
    """
    numbers = {"metrics": result.metrics, "per_class": result.per_class}
    texts = {"metrics.json": json.dumps(numbers, indent=1) + "\n", "table.txt": format_table(result)}
    with writing_to(folder):
        for name, text in (texts | evaluator.reports(result)).items():
            replace_text(folder / name, text)
    draw_precision_recall(folder / "precision_recall.png", result)
    print(f"written    {folder}: metrics.json, table.txt, precision_recall.png")


def _format_of(paths: Sequence[Path]) -> DetectionFormat:
    """The format that reads these files.

    Raises:
        ValueError: there is none.
    """
    readers = {row.results.suffix: row for row in FORMATS.values() if row.results is not None}
    others = [path for path in paths if path.suffix not in readers]
    if others:
        raise ValueError(f"--results {others[0]}: files of results are called *{' or *'.join(readers)}.")
    if len({path.suffix for path in paths}) > 1:
        raise ValueError(f"--results takes files of one format, got {paths[0]} and others.")
    return readers[paths[0].suffix]


if __name__ == "__main__":
    main()
