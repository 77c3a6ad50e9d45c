"""What test_on_coco.py and test_on_voc.py share: evaluate given weights or a run's best, and time them.

./test.sh [row]                     in an experiment folder: the row's runs/<row>/checkpoints/best.pth
./test.sh --weights FILE            any checkpoint of ours, or weights that fit the row's detector
python -m public.test_scripts.test_on_coco --weights best.pth      a checkpoint of ours knows its detector and its data
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from public.config.checks import require, require_at_least
from public.config.command_line import given, in_present_folder
from public.config.detection import DetectionConfig, DetectionData
from public.config.options import DetectorOptions
from public.datasets.annotations import DetectionAnnotations
from public.datasets.detection import build_eval_data, canvas_size
from public.datasets.detection_loaders import DetectionDataset, DetectionEvalLoader
from public.datasets.formats import DATA_KIND, resolved
from public.detectors.catalog import DETECTOR_KIND
from public.detectors.detector import Detector
from public.detectors.trained import TrainedDetector, assemble_detector
from public.evaluation.complexity import count
from public.evaluation.detection import evaluate_detector, evaluator_of, format_table
from public.evaluation.evaluator import DetectionResult
from public.evaluation.report import write_report
from public.evaluation.speed import time_inference
from public.optim.options import ConstantOptions, SGDOptions
from public.recipes.detection import DetectionTask
from public.runtime.device import device_name
from public.runtime.distributed import DistributedContext
from public.runtime.output import make_folder
from public.runtime.run_folder import all_written
from public.test_scripts.request import (
    Request,
    describe_precision,
    evaluate_distributed,
    named,
    parse_options,
    read_request,
)
from public.weights.trained import Trained


@dataclass(frozen=True, kw_only=True)
class TestOptions:
    """Evaluates a detector and times it."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    weights: str
    """A checkpoint of ours, which knows its detector and data; or, with a row or --network, a file of weights alone,
    torchvision:... or one of 2020."""
    experiment: str | None = None
    """The folder of the experiment whose own transforms or task a checkpoint uses; test.sh gives its own."""
    output: str | None = None
    """Folder for pictures, curves, table and predictions. A checkpoint in a run folder has test/ there; None: none
    are written."""
    metrics: str | None = None
    """By whose rules the detections are judged, coco or voc; None: the data's own, see data.metrics."""
    batch_size: int = 8
    """Images a batch in each process, while evaluating."""
    time_batches: tuple[int, ...] = (1, 4, 8, 16, 32)
    """Batch sizes to time; those that need more images than there are, are skipped."""
    time_steps: int = 5
    """Batches measured for each of them, after two of warm-up (fewer where there are fewer images); 0: no timing."""
    num_workers: int = 2
    """Processes that read images; 0: none beside the evaluation itself."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """auto: what training takes."""
    detector: DetectorOptions
    """How detections are chosen may differ from training; what the weights are of may not."""
    data: DetectionData
    """The data set and what is done to its images."""

    def __post_init__(self) -> None:
        for name, lowest in {"batch_size": 1, "time_steps": 0, "num_workers": 0}.items():
            require_at_least(name, getattr(self, name), lowest)
        require(all(size >= 1 for size in self.time_batches), f"time_batches={self.time_batches} must be 1 or more.")


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(TestOptions):
    """Evaluates a detector and times it."""

    network: Literal[tuple(DETECTOR_KIND.names)]  # pyright: ignore[reportInvalidTypeForm]
    """For weights alone, which do not know it: a name from public.detectors.catalog."""


def main(data: DetectionData, argv: Sequence[str] | None = None, trained: Trained | None = None) -> None:
    """Reads a command line, evaluates and prints.

    Args:
        data: the data set and its protocol where neither an experiment nor a checkpoint states them.
        argv: the arguments, see `request.py`; None takes the program's.
        trained: the checkpoint that they name, where it was opened already.
    """
    request = read_request(
        argv, DetectionTask.kinds[:2], lambda network: of_network(network, data), DetectionConfig, trained
    )
    options = parse_options(request.args, options_of(request), DATA_KIND)
    evaluate_distributed(options.device, lambda context: run(options, request, context))


def of_network(network: str | None, data: DetectionData) -> DetectionConfig:
    """A config for weights of which the command line is all that says what they fit."""
    kind = network if network in DETECTOR_KIND.names else DETECTOR_KIND.names[0]  # the caller refuses the others
    return DetectionConfig(
        name="weights",
        epochs=1,
        batch_size=8,
        precision="fp32",
        detector=DETECTOR_KIND.type_of(kind)(),  # pyright: ignore[reportArgumentType]
        data=data,
        optimizer=SGDOptions(lr=0.1, weight_decay=0.0),
        schedule=ConstantOptions(),
    )


def options_of(request: Request) -> TestOptions:
    """The options under which the config's own evaluation is repeated."""
    config: DetectionConfig = request.config
    own: dict[str, Any] = {
        "weights": request.weights or tyro.MISSING,
        "output": None if request.output is None else str(request.output),
        "batch_size": min(config.batch_size, 8),
        "num_workers": min(config.runtime.num_workers, 8),
        "precision": request.precision,
        "detector": config.detector,
        "data": config.data,
    }
    if request.names_network and request.experiment is None:
        is_given = given("network", request.args) is not None
        return WeightsOptions(**own, network=config.network if is_given else tyro.MISSING)
    return TestOptions(**own)


def run(options: TestOptions, request: Request, context: DistributedContext) -> DetectionResult:
    """Evaluates, times and prints.

    Raises:
        ValueError: weights, data or options do not fit each other, or the output cannot be written.
        FileNotFoundError: there are no weights.
    """
    data = replace(options.data, metrics=options.metrics or options.data.metrics)
    data = resolved(in_present_folder(data, request.args), trains=False)
    config: DetectionConfig = replace(request.config, data=data, detector=options.detector)
    make_evaluator = evaluator_of(data.rules)
    checkpoint = request.trained
    eval_data = build_eval_data(
        data,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        context=context,
        class_names=None if checkpoint is None else checkpoint.class_names,
    )
    annotations = eval_data.annotations
    detector = request.task(DetectionTask).build_network(config, len(annotations.class_names))
    assert isinstance(detector, Detector)
    trained = assemble_detector(
        detector,
        config,
        options.weights if checkpoint is None else checkpoint.state,
        annotations.class_names,
        annotations.category_ids,
        device=context.device,
        precision=options.precision,
    )
    if context.is_main and options.output is not None:
        make_folder(Path(options.output))
    evaluator = make_evaluator(annotations)
    result, predictions = evaluate_detector(trained.image_detector, eval_data.loader, evaluator, context)
    if context.is_main:
        _print_result(options, config, trained, result, context)
        if options.output is not None:
            output = Path(options.output)
            title = f"{named(config)}, {options.weights}"
            with all_written(output):
                write_report(output, result, predictions, annotations, data=data, evaluator=evaluator, title=title)
            print(f"written    {options.output}: report.html and its numbers and pictures, predictions")
        _print_timings(options, trained, annotations)
    return result


def _print_result(
    options: TestOptions,
    config: DetectionConfig,
    trained: TrainedDetector,
    result: DetectionResult,
    context: DistributedContext,
) -> None:
    """The detector, then the metrics and the table by class."""
    height, width = canvas_size(config.data)
    detector = trained.image_detector.detector
    size = count(detector, (height, width), macs_behind=detector.decode_macs)
    print(f"detector   {named(config)}: {size} at {width}x{height}")
    print(f"weights    {options.weights}")
    precision = describe_precision(trained.image_detector.dtype)
    print(f"computed   on {context.size} x {device_name(context.device)} in {precision}")
    print(format_table(result), end="")


def _print_timings(options: TestOptions, trained: TrainedDetector, annotations: DetectionAnnotations) -> None:
    """One line a batch size: milliseconds per image to load, to run the network, and to decode."""
    dataset = DetectionDataset(annotations, trained.transforms, seed=0)
    detector = trained.image_detector
    stages = {
        "forward": lambda batch: (detector.outputs(batch.images), batch.sizes),
        "decode": lambda found: detector.detector.decode(*found),
    }
    for batch_size in options.time_batches if options.time_steps else ():
        num_warmup = min(2, annotations.num_images // batch_size - 1)
        if num_warmup < 1:
            print(f"time       batch {batch_size}: skipped, {annotations.num_images} images do not make two batches")
            continue
        loader = DetectionEvalLoader(dataset, batch_size=batch_size, num_workers=options.num_workers)
        steps = min(num_warmup + options.time_steps, annotations.num_images // batch_size)  # whole batches only
        batches = itertools.islice(loader, steps)
        timing = time_inference(stages, batches, trained.device, num_warmup=num_warmup)
        print(f"time       batch {batch_size}: {timing}")
