"""What a file of public.apps.export is worth on a split: the numbers and the report of the checkpoint it was made of.

    python -m public.apps.evaluate --weights best.onnx [--data.folder FOLDER] [--output FOLDER]

The data set, where the command line does not state another, is the one that the file's config records. It computes on
the CPU in the file's own precision; a detector's pictures all lie on the file's canvas.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import nn

from public.apps.exported import About, ExportedClassifier, ExportedDetector, Run, engine_of, read_exported
from public.config.checks import require, require_at_least
from public.config.classification import ClassificationConfig, ClassificationData
from public.config.command_line import given, in_present_folder, with_kinds
from public.config.detection import DetectionData
from public.config.experiment import Experiment
from public.config.record import from_record
from public.datasets import classification, detection, formats, image_formats
from public.evaluation import classification_report, report
from public.evaluation.classification import evaluate
from public.evaluation.detection import evaluate_detector, evaluator_of, format_table
from public.runtime.distributed import DistributedContext
from public.runtime.output import make_folder
from public.runtime.run_folder import all_written
from public.test_scripts.classification import print_metrics
from public.test_scripts.request import check_classes, evaluate_distributed, parse_options
from public.weights.trained import Trained


@dataclass(frozen=True, kw_only=True)
class ExportedOptions:
    """Evaluates an exported network, which knows its data."""

    weights: str
    """What public.apps.export wrote."""
    experiment: str | None = None
    """The folder of the experiment whose own transforms the file uses."""
    output: str | None = None
    """Folder for the report; None: none is written."""
    batch_size: int = 8
    """Images a batch in each process."""
    num_workers: int = 2
    """Processes that read images; 0: none beside the evaluation itself."""

    def __post_init__(self) -> None:
        require_at_least("batch_size", self.batch_size, 1)
        require_at_least("num_workers", self.num_workers, 0)


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(ExportedOptions):
    """Evaluates an exported classifier, which knows its data."""

    data: ClassificationData
    """The data set and what is done to its images."""


@dataclass(frozen=True, kw_only=True)
class DetectorOptions(ExportedOptions):
    """Evaluates an exported detector, which knows its data."""

    data: DetectionData
    """The data set and what is done to its images."""


def main(args: list[str]) -> None:
    """Reads a command line, evaluates and prints; a user's mistake ends with code 2."""
    evaluate_distributed("cpu", lambda context: run(args, context))


def run(args: list[str], context: DistributedContext) -> dict[str, float]:
    """Evaluates and prints; gives the metrics.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file, the data or the options do not fit each other, or the output cannot be written.
    """
    require(args[0].startswith("-"), f"an exported file knows its network and its data: leave out {args[0]!r}.")
    weights, folder = given("weights", args), given("experiment", args)
    assert weights is not None
    engine = engine_of(weights)
    about, answer = read_exported(Path(weights), engine)
    config = from_record(about.config, None if folder is None else Experiment(Path(folder)))
    is_classifier = isinstance(config, ClassificationConfig)
    kind = image_formats.DATA_KIND if is_classifier else formats.DATA_KIND
    own: Any = ClassifierOptions if is_classifier else DetectorOptions
    data = with_kinds(config, (kind,), args).data
    options = parse_options(args, own(weights=tyro.MISSING, data=data), kind)
    if options.output is not None and context.is_main:
        make_folder(Path(options.output))
    options = replace(options, data=in_present_folder(options.data, args))
    said = f"computed   on {context.size} x CPU by {engine} in {about.precision}"
    return (_classifier if is_classifier else _detector)(options, about, answer, said, context)


def _classifier(
    options: ClassifierOptions, about: About, answer: Run, said: str, context: DistributedContext
) -> dict[str, float]:
    """Top-1, top-5 and loss."""
    eval_data = classification.build_eval_data(
        options.data, **_reading(options), context=context, class_names=about.class_names
    )
    trained = Trained(Path(options.weights), None, about.class_names, None, None, {})
    check_classes(trained, eval_data.class_names, "the data set")
    network = ExportedClassifier(Path(options.weights), answer, about.input_size)
    result = evaluate(network, eval_data.loader, context)
    if context.is_main:
        _print(options, about, said)
        print_metrics(result.metrics)
        if options.output is not None:
            with all_written(Path(options.output)):
                classification_report.write_report(
                    Path(options.output), result, eval_data.class_names, eval_data.loader, title=_title(options, about)
                )
            print(f"written    {options.output}: report.html and its numbers and pictures")
    return result.metrics


def _detector(
    options: DetectorOptions, about: About, answer: Run, said: str, context: DistributedContext
) -> dict[str, float]:
    """AP by the data's rules."""
    data = formats.resolved(options.data, trains=False)
    make_evaluator = evaluator_of(data.rules)
    eval_data = detection.build_eval_data(data, **_reading(options), context=context, class_names=about.class_names)
    network = ExportedDetector(Path(options.weights), answer, about.input_size)
    evaluator = make_evaluator(eval_data.annotations)
    with torch.inference_mode():
        result, predictions = evaluate_detector(network, eval_data.loader, evaluator, context)
    if context.is_main:
        _print(options, about, said)
        print(format_table(result), end="")
        if options.output is not None:
            output, title = Path(options.output), _title(options, about)
            with all_written(output):
                report.write_report(
                    output, result, predictions, eval_data.annotations, data=data, evaluator=evaluator, title=title
                )
            print(f"written    {options.output}: report.html and its numbers and pictures, predictions")
    return result.metrics


def worth(network: nn.Module, config: Any, class_names: list[str]) -> float:
    """The metric that chooses a config's checkpoints, on the validation split of its data.

    Args:
        network: an `ImageClassifier` or `ImageDetector` on the CPU, or what stands in its place.
        config: a ClassificationConfig or DetectionConfig.
        class_names: of the labels.

    Raises:
        DataError: the data cannot be read, or has other classes.
        ValueError: a picture does not fit on a file's canvas.
    """
    alone = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    reading = {"batch_size": 8, "num_workers": 0, "context": alone, "class_names": class_names}
    network.eval()
    if isinstance(config, ClassificationConfig):
        shown = classification.build_eval_data(config.data, **reading)
        return evaluate(network, shown.loader, alone).metrics[config.best_metric]
    data = formats.resolved(config.data, trains=False)
    make_evaluator, shown = evaluator_of(data.rules), detection.build_eval_data(data, **reading)
    with torch.inference_mode():
        result, _ = evaluate_detector(network, shown.loader, make_evaluator(shown.annotations), alone)
    return result.metrics[config.best_metric]


def _reading(options: ExportedOptions) -> dict[str, int]:
    return {"batch_size": options.batch_size, "num_workers": options.num_workers}


def _title(options: ExportedOptions, about: About) -> str:
    return f"{about.network}, {options.weights}"


def _print(options: ExportedOptions, about: About, said: str) -> None:
    height, width = about.input_size
    print(f"network    {about.network} at {width}x{height}")
    print(f"weights    {options.weights}")
    print(said)
