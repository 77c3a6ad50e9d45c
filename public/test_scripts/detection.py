"""What test_on_coco.py and test_on_voc.py share: evaluate given weights or a run's best, and time them.

./test.sh [row]                     in an experiment folder: the row's runs/<row>/checkpoints/best.pth
./test.sh [row] --weights FILE      any weights that fit the row's detector
python -m public.test_scripts.test_on_coco --weights best.pth      a checkpoint of ours knows its network and canvas
"""

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from public.config.classification import IMAGENET_MEAN, IMAGENET_STD
from public.config.command_line import choose_row, fail
from public.config.detection import DetectionConfig, DetectionDataConfig
from public.config.experiment import load_configs
from public.config.record import class_summary, to_record
from public.config.checks import require
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.detection import build_eval_data
from public.datasets.detection_loaders import DetectionDataset, DetectionEvalLoader
from public.evaluation.complexity import count
from public.evaluation.detection import evaluate_detector, format_table, metrics_evaluator
from public.evaluation.predictions import DetectionResult
from public.evaluation.report import write_report
from public.evaluation.speed import time_inference
from public.runtime.checkpoint import load_checkpoint
from public.runtime.device import device_name
from public.runtime.distributed import World, join_world
from public.runtime.launch import raised_by_us
from public.runtime.run_folder import log_to_console
from public.test_scripts.output import make_folder
from public.transforms.detection import SquareResize
from public.transforms.from_text import transforms_from_text
from public.weights.trained_detector import TrainedDetector, assemble_detector


@dataclass(frozen=True, kw_only=True)
class TestOptions:
    """Evaluates a detector and times it."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    weights: str
    """A checkpoint of ours; or, with a row or --network, a file of weights alone, torchvision:... or one of 2020."""
    data: str
    """The data set's folder: an absolute path, one below the present folder, or one below DATA_ROOT."""
    network: str | None = None
    """For weights alone without a row, which do not know it: a name from public.detectors.catalog."""
    backbone: str | None = None
    """With --network: a name from public.backbones.catalog; None: resnet50."""
    canvas_size: int | None = None
    """With --network: height and width of the square canvas in pixels; None: 667."""
    output: str | None = None
    """Folder for pictures, curves, table and predictions; with a row its run folder's test/. None: not written."""
    metrics: Literal["coco", "voc"] | None = None
    """By whose rules the detections are judged; None: the row's, or those of the data set's layout."""
    soft_nms: Literal["linear", "gaussian"] | None = None
    """faster_rcnn, cascade_rcnn: overlapped boxes lose some of their score; None: what happens to them in training."""
    batch_size: int = 8
    """Images a batch in each process, while evaluating."""
    time_batches: tuple[int, ...] = (1, 4, 8, 16, 32)
    """Batch sizes to time; those that need more images than there are, are left out."""
    time_steps: int = 5
    """Batches measured for each of them, after two of warm-up (fewer where there are fewer images); 0: no timing."""
    num_workers: int = 2
    """Processes that read images; 0: none beside the evaluation itself."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """auto: what training takes."""

    def __post_init__(self) -> None:
        for name, lowest in {"canvas_size": 1, "batch_size": 1, "time_steps": 0, "num_workers": 0}.items():
            value = getattr(self, name)
            require(value is None or value >= lowest, f"{name}={value} must be {lowest} or more.")
        require(all(size >= 1 for size in self.time_batches), f"time_batches={self.time_batches} must be 1 or more.")


def main(data: DetectionDataConfig, argv: Sequence[str] | None = None) -> None:
    """Reads a command line, evaluates and prints.

    Args:
        data: the data set and its protocol where no experiment states them.
        argv: the arguments, of which the first may be an experiment folder and the second a row; None takes the
            program's.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    defaults = TestOptions(weights=tyro.MISSING, data=data.folder)
    row: DetectionConfig | None = None
    folder: Path | None = None
    if args and not args[0].startswith("-"):
        folder = Path(args[0]).resolve()
        chosen, args = choose_row(load_configs(folder), args[1:])
        row, data, defaults = chosen, chosen.data, options_of(chosen, folder)
    try:
        options = tyro.cli(TestOptions, args=args, default=defaults)
        with join_world(options.device) as world:
            log_to_console(world.is_main)
            run(options, data, world, row, folder)
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))


def options_of(row: DetectionConfig, folder: Path) -> TestOptions:
    """The options under which a row's own evaluation is repeated."""
    run_folder = run_folder_of(row, folder)
    return TestOptions(
        weights=str(run_folder / "checkpoints" / "best.pth"),
        data=row.data.folder,
        output=str(run_folder / "test"),
        batch_size=min(row.batch_size, 8),
        num_workers=row.runtime.num_workers,
        precision=row.precision,
    )


def run_folder_of(row: DetectionConfig, folder: Path) -> Path:
    """Where train.py puts a row, in its experiment's folder."""
    return folder / "runs" / row.name


def run(
    options: TestOptions,
    data: DetectionDataConfig,
    world: World,
    row: DetectionConfig | None = None,
    folder: Path | None = None,
) -> DetectionResult:
    """Evaluates, times and prints.

    Args:
        options: of the command line.
        data: the data set and its protocol.
        world: this process's place.
        row: the experiment's, where there is one: what weights alone fit.
        folder: the experiment's. A checkpoint in the row's run folder there is the row's, whatever options it was
            trained with; one from elsewhere must be of the row's network and backbone.

    Raises:
        ValueError: weights, data or options do not fit each other, or the output cannot be written.
        FileNotFoundError: there are no weights.
    """
    data_folder = Path(options.data)
    data = replace(data, folder=str(data_folder.resolve()) if data_folder.is_dir() else options.data)
    data = replace(data, metrics=options.metrics or data.metrics)
    record, checkpoint = _record_of(options, row, folder)
    if options.soft_nms is not None:
        record = {**record, "detector": {**record["detector"], "soft_nms": options.soft_nms}}
    # The canvas is the weights' own, whatever the script's default says.
    data = replace(data, val_transforms=transforms_from_text(record["data"]["val_transforms"]))
    eval_data = build_eval_data(data, batch_size=options.batch_size, num_workers=options.num_workers, world=world)
    annotations = eval_data.annotations
    if checkpoint is not None:
        _check_classes(options.weights, checkpoint["class_names"], annotations)
    trained = assemble_detector(
        record,
        checkpoint or options.weights,
        annotations.class_names,
        annotations.category_ids,
        device=world.device,
        precision=options.precision,
    )
    if world.is_main and options.output is not None:
        make_folder(Path(options.output))
    evaluator = metrics_evaluator(data.rules)(annotations)
    result, predictions = evaluate_detector(trained.image_detector, eval_data.loader, evaluator, world)
    if world.is_main:
        _print_result(options, record, trained, result, world)
        if options.output is not None:
            output = Path(options.output)
            write_report(output, result, predictions, annotations, dataset=data.dataset, rules=data.rules)
            print(f"written    {options.output}: pictures, precision over recall, table, predictions")
        _print_timings(options, trained, annotations)
    return result


def _record_of(
    options: TestOptions, row: DetectionConfig | None, folder: Path | None
) -> tuple[Mapping[str, Any], dict[str, Any] | None]:
    """What says how the detector is built, and the checkpoint where the weights are one of ours, which then says it."""
    path = Path(options.weights)
    if not path.is_file() and not options.weights.startswith(("torchvision:", "timm:")):
        remedy = " yet: train the row first, or give --weights FILE" if path.name == "best.pth" else ""
        raise FileNotFoundError(f"there is no {path}{remedy}.")
    try:
        checkpoint = load_checkpoint(path)
    except (ValueError, FileNotFoundError):  # published weights are no file
        checkpoint = None  # load_weights reads the other kinds, and says what is wrong with a file that is none of them
    if checkpoint is not None and "detector" in checkpoint["config"]:
        if row is not None and not (folder and path.resolve().is_relative_to(run_folder_of(row, folder).resolve())):
            _check_row(options.weights, checkpoint["config"], row)
        _check_stated(options, f"the checkpoint {options.weights}", checkpoint["config"])
        return checkpoint["config"], checkpoint
    if row is not None:
        _check_stated(options, f"the row {row.name}", to_record(row))
        return to_record(row), None
    return _record_of_options(options), None


def _record_of_options(options: TestOptions) -> Mapping[str, Any]:
    """What weights alone fit, where the command line is all that says it."""
    if options.network is None:
        raise ValueError(
            f"{options.weights} is not a checkpoint of one of our detection runs, so it does not say what it fits: run "
            "an experiment's test.sh with it, or give --network, --backbone and --canvas-size."
        )
    side = options.canvas_size or 667
    resize = repr(SquareResize(size=side))
    return {
        "network": options.network,
        "canvas_size": [side, side],
        "channels_last": False,
        "detector": {"backbone": options.backbone or "resnet50"},
        "data": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "val_transforms": [resize]},
    }


def _check_stated(options: TestOptions, source: str, record: Mapping[str, Any]) -> None:
    """Refuses options that contradict what a row or a checkpoint says of the detector, which alone has effect."""
    own = {**record, "backbone": record["detector"]["backbone"]}
    side = options.canvas_size
    stated = {"network": options.network, "backbone": options.backbone, "canvas_size": side and [side, side]}
    wrong = [name for name, value in stated.items() if value not in (None, own[name])]
    if wrong:
        received = ", ".join(f"{name}={getattr(options, name)!r}" for name in wrong)
        height, width = own["canvas_size"]
        raise ValueError(
            f"{received} would have no effect: {source} is {_named(record)} at {width}x{height}. Leave it out; it is "
            "for weights alone without an experiment: python -m public.test_scripts.test_on_coco (or test_on_voc)."
        )


def _check_row(weights: str, record: Mapping[str, Any], row: DetectionConfig) -> None:
    """Refuses a checkpoint of another detector than the row's, whose result would be taken for the row's."""
    received, expected = _named(record), _named(to_record(row))
    if received != expected:
        raise ValueError(
            f"{weights} is a checkpoint of {received}, and the row {row.name} is {expected}: give weights of this row, "
            f"or no experiment: python -m public.test_scripts.test_on_{row.data.dataset} --weights {weights}."
        )


def _named(record: Mapping[str, Any]) -> str:
    """The detector and its backbone."""
    return f"{record['network']} on {record['detector']['backbone']}"


def _check_classes(weights: str, class_names: list[str], annotations: DetectionAnnotations) -> None:
    """Refuses weights of other classes than the data set's."""
    if class_names != annotations.class_names:
        raise DataError(
            f"{weights} was trained on {class_summary(class_names)}, and {annotations.source} has "
            f"{class_summary(annotations.class_names)}: they must be the same, in the same order."
        )


def _print_result(
    options: TestOptions, record: Mapping[str, Any], trained: TrainedDetector, result: DetectionResult, world: World
) -> None:
    """The detector, then the metrics and the table by class."""
    height, width = record["canvas_size"]
    detector = trained.image_detector.detector
    size = count(detector, (height, width), macs_behind=detector.decode_macs)
    print(f"detector   {_named(record)}: {size} at {width}x{height}")
    print(f"weights    {options.weights}")
    precision = str(trained.image_detector.dtype).removeprefix("torch.")
    print(f"computed   on {world.size} x {device_name(world.device)} in {precision}")
    print(format_table(result), end="")


def _print_timings(options: TestOptions, trained: TrainedDetector, annotations: DetectionAnnotations) -> None:
    """One line a batch size: milliseconds an image to load, to run the network, and to decode."""
    dataset = DetectionDataset(annotations, trained.transforms, seed=0)
    detector = trained.image_detector
    stages = {
        "forward": lambda batch: (detector.outputs(batch.images), batch.sizes),
        "decode": lambda found: detector.detector.decode(*found),
    }
    for batch_size in options.time_batches if options.time_steps else ():
        num_warmup = min(2, annotations.num_images // batch_size - 1)
        if num_warmup < 1:
            print(f"time       batch {batch_size}: left out, {annotations.num_images} images do not make two batches")
            continue
        loader = DetectionEvalLoader(dataset, batch_size=batch_size, num_workers=options.num_workers)
        steps = min(num_warmup + options.time_steps, annotations.num_images // batch_size)  # whole batches only
        batches = itertools.islice(loader, steps)
        timing = time_inference(stages, batches, trained.device, num_warmup=num_warmup)
        print(f"time       batch {batch_size}: {timing}")
