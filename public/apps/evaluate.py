"""What a network is worth on a split: of weights, of files of detections that anyone wrote, of runs side by side.

    python -m public.apps.evaluate --weights best.pth [--data.folder FOLDER]
    python -m public.apps.evaluate --results predictions.json --data.folder FOLDER [--output FOLDER]
    python -m public.apps.evaluate --results comp4_det_test_*.txt --data.folder FOLDER --data.val-splits VOC2007/test
    python -m public.apps.evaluate --compare RUN RUN ...
    ... EXPERIMENT [ROW] --weights/--results ...        with the data of an experiment's row

--weights: as test.sh does, for either task; also what public.apps.export wrote, see `evaluate_exported.py`. --results:
.json is COCO's results format, .txt that of VOC's devkit, of which each class has a file; in the float64 numbers in
which they are written. The data set may be of any format, which is found out unless `--data.dataset` names it, and its
images need not be there. By COCO's rules or VOC's, as `--data.metrics` says, by default those of the results' format or
of the one that `--data.dataset` names. --compare: see `evaluate_compare.py`. Add --help to any of the three for its
options.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from public.apps import evaluate_compare, evaluate_exported
from public.apps.evaluate_compare import is_recognized
from public.apps.exported import is_exported
from public.config.classification import ClassificationConfig
from public.config.command_line import choose_row, fail, given, in_present_folder, with_kinds
from public.config.detection import DetectionConfig, DetectionData
from public.config.experiment import Experiment, load_configs
from public.config.record import class_summary
from public.datasets.format import DetectionFormat
from public.datasets.formats import DATA_KIND, FORMATS, resolved
from public.datasets.splits import read_truth
from public.detectors.catalog import DETECTOR_KIND
from public.evaluation.detection import evaluator_of, format_table
from public.evaluation.evaluator import DetectionResult
from public.evaluation.report import write_report
from public.runtime.launch import raised_by_us
from public.runtime.output import make_folder
from public.runtime.run_folder import all_written
from public.test_scripts import classification, detection
from public.test_scripts.detection import of_network
from public.test_scripts.request import open_ours, parse_options
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_imagenet import IMAGENET
from public.test_scripts.test_on_voc import VOC
from public.weights.trained import Trained


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Evaluates files of detections."""

    results: tuple[str, ...]
    """One file of COCO's results format (.json), or those of VOC's devkit, one for each class (comp4_*.txt)."""
    output: str | None = None
    """Folder for the report (report.html, metrics.json, per_class.csv, pictures); None: none is written."""
    data: DetectionData
    """The data set, whose validation splits the results are of."""


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line, evaluates and prints; None takes the program's arguments."""
    args = list(sys.argv[1:] if argv is None else argv)
    if has("compare", args):
        evaluate_compare.main(args)
    elif has("results", args) and has("weights", args):
        fail("--weights (of a network) and --results (files of detections) are both given; expected one of the two.")
    elif has("results", args):
        evaluate_results(args)
    elif has("weights", args) or (args and not args[0].startswith("-")):
        evaluate_weights(args)
    elif not {"-h", "--help"}.isdisjoint(args):
        print(__doc__)
    else:
        fail("nothing to evaluate is given: --weights FILE, --results FILE ... or --compare RUN RUN ...; see --help.")


def has(option: str, args: Sequence[str]) -> bool:
    """Whether an option is on a command line, with a value or without."""
    return any(arg.partition("=")[0] == f"--{option}" for arg in args)


def evaluate_weights(args: list[str]) -> None:
    """What test.sh does, for the task that the weights, the experiment or --network are of."""
    if is_exported(given("weights", args) or ""):
        evaluate_exported.main(args)
        return
    try:
        is_detector, trained = _is_detector(args)
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))
    if is_detector:
        detection.main(COCO, args, trained)
    else:
        classification.main(IMAGENET, args, trained)


def _is_detector(args: list[str]) -> tuple[bool, Trained | None]:
    """Whether a command line asks for a detector, and the checkpoint of ours that had to be opened to know it."""
    if not args[0].startswith("-"):
        return isinstance(choose_row(load_configs(Path(args[0])), args[1:])[0], DetectionConfig), None
    weights, folder, network = (given(name, args) for name in ("weights", "experiment", "network"))
    trained = None if weights is None else open_ours(weights, None if folder is None else Experiment(Path(folder)))
    if trained is not None:
        return not isinstance(trained.config, ClassificationConfig), trained
    return network in DETECTOR_KIND.names, None


def evaluate_results(args: list[str]) -> None:
    """Evaluates files of detections; a user's mistake ends with code 2."""
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
        own = COCO if results is None else format_of_files([Path(results)]).options
        kind = given("data.dataset", args) or own.kind
        config = of_network(None, next((one for one in (COCO, VOC) if one.kind == kind), COCO))
        if given("data.dataset", args) is None and is_recognized(given("data.folder", args)):
            data = replace(config.data, metrics=own.default_metrics)
            config, args = replace(config, data=data), [*args, "--data.dataset", "auto"]
    config = with_kinds(config, (DATA_KIND,), args)
    return parse_options(args, EvaluateOptions(results=tyro.MISSING, data=config.data), DATA_KIND)


def run(options: EvaluateOptions) -> DetectionResult:
    """Evaluates, prints and writes.

    Raises:
        ValueError: the results or the data cannot be read or do not fit each other, or the output cannot be written.
    """
    paths = [Path(name) for name in options.results]
    results = format_of_files(paths).results
    assert results is not None
    data = resolved(options.data, trains=False)
    rules = evaluator_of(data.rules)
    if options.output is not None:
        make_folder(Path(options.output))
    annotations, missing = read_truth(data)
    written = results.read(paths, annotations)
    evaluator = rules(annotations)
    result = evaluator.evaluate_written(written)
    num_found = len(np.unique(written.predictions.image_ids))
    print(f"results    {len(written.sides)} detections in {num_found} of {annotations.num_images} images")
    if not num_found:
        print("           the files hold no detection at all, which counts as having found nothing")
    print(f"data       {class_summary(annotations.class_names)} of {annotations.source}")
    print(format_table(result), end="")
    if options.output is not None:
        with all_written(Path(options.output)):
            write_report(
                Path(options.output),
                result,
                written.predictions,
                annotations,
                data=None,
                evaluator=evaluator,
                title=f"{', '.join(path.name for path in paths[:3])} on {annotations.source}",
                picture=None if missing else "pictures.jpg",
            )
        pictures = f"numbers, but no pictures: {missing} is missing" if missing else "numbers and pictures"
        print(f"written    {options.output}: report.html and its {pictures}")
    return result


def format_of_files(paths: Sequence[Path]) -> DetectionFormat:
    """The format that reads these files.

    Raises:
        ValueError: there is none.
    """
    if not paths:
        raise ValueError("--results names no file; expected one of COCO's results format (.json) or comp4_*.txt.")
    readers = {row.results.suffix: row for row in FORMATS.values() if row.results is not None}
    others = [path for path in paths if path.suffix not in readers]
    if others:
        raise ValueError(f"--results {others[0]}: files of results are called *{' or *'.join(readers)}.")
    if len({path.suffix for path in paths}) > 1:
        raise ValueError(f"--results takes files of one format, got {paths[0]} and others.")
    return readers[paths[0].suffix]


if __name__ == "__main__":
    main()
