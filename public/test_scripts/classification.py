"""What test_on_imagenet.py and test_on_cifar100.py share: evaluate given weights or a run's best, and time it.

./test.sh [row]                     in an experiment folder: the row's runs/<row>/checkpoints/best.pth
./test.sh [row] --weights FILE      any weights that fit the row's network
python -m public.test_scripts.test_on_imagenet --network mobilenet_v2 --weights FILE --data FOLDER
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torchvision.transforms import v2

from public.backbones.build import build_network
from public.backbones.classifier import ImageClassifier
from public.config.classification import ClassificationConfig, ClassificationDataConfig, NetworkConfig
from public.config.command_line import choose_row, fail
from public.config.experiment import load_configs
from public.config.record import class_summary
from public.datasets.batches import ClassificationBatch, DataError, EvalLoader
from public.datasets.classification import build_eval_data
from public.evaluation.classification import evaluate
from public.evaluation.complexity import count
from public.evaluation.speed import Timing, time_inference
from public.runtime.checkpoint import load_checkpoint
from public.runtime.device import choose_precision, device_name
from public.runtime.distributed import World, join_world
from public.runtime.launch import raised_by_us
from public.runtime.run_folder import log_to_console
from public.weights.loading import load_weights


@dataclass(frozen=True, kw_only=True)
class TestOptions:
    """Evaluates a classification network and times it."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    network: str
    """A name from public.backbones.catalog."""
    weights: str
    """A file, torchvision:<model>[.<weights>] or timm:<model>."""
    data: str
    """The data set's folder: an absolute path, one below the present folder, or one below DATA_ROOT."""
    input_size: int
    """Height and width of the network's input in pixels."""
    decoder: Literal["opencv", "pil"] = "opencv"
    """imagenet: opencv decodes to tensors, which torch resizes; pil resizes as the published numbers were."""
    published_archive: bool | None = None
    """cifar100: True accepts the published files alone, None the generated sample too, False any of their layout."""
    batch_size: int = 64
    """Images a batch in each process."""
    num_workers: int = 2
    """Processes that read images; 0: none beside the evaluation itself."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """auto: what training takes."""
    channels_last: bool = False
    """NHWC memory layout."""
    network_options: NetworkConfig = field(default_factory=NetworkConfig)
    """How the network differs from what its family gives; the checkpoint of a run of ours brings its own."""


def main(data: ClassificationDataConfig, input_size: int, argv: Sequence[str] | None = None) -> None:
    """Reads a command line, evaluates and prints.

    Args:
        data: the data set and its protocol where no experiment states them.
        input_size: likewise.
        argv: the arguments, of which the first may be an experiment folder and the second a row; None takes the
            program's.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    defaults = TestOptions(network=tyro.MISSING, weights=tyro.MISSING, data=data.folder, input_size=input_size)
    if args and not args[0].startswith("-"):
        folder = Path(args[0]).resolve()
        row, args = choose_row(load_configs(folder), args[1:])
        data, defaults = row.data, options_of(row, folder)
    options = tyro.cli(TestOptions, args=args, default=defaults)
    try:
        if options.input_size != defaults.input_size:
            data = at_size(data, options.input_size)
        with join_world(options.device) as world:
            log_to_console(world.is_main)
            run(options, data, world)
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))


def options_of(row: ClassificationConfig, folder: Path) -> TestOptions:
    """The options under which a row's own evaluation is repeated."""
    return TestOptions(
        network=row.network,
        weights=str(folder / "runs" / row.name / "checkpoints" / "best.pth"),
        data=row.data.folder,
        input_size=row.input_size,
        decoder=row.data.decoder or "opencv",
        published_archive=row.data.published_archive,
        batch_size=min(row.batch_size, 64),
        num_workers=row.runtime.num_workers,
        precision=row.precision,
        channels_last=row.channels_last,
        network_options=row.network_options,
    )


def run(options: TestOptions, data: ClassificationDataConfig, world: World) -> dict[str, float]:
    """Evaluates, times and prints; gives what `evaluate` gives.

    Raises:
        ValueError: weights, data or options do not fit each other.
        FileNotFoundError: there are no weights.
    """
    folder = Path(options.data)
    data = replace(data, folder=str(folder.resolve()) if folder.is_dir() else options.data)
    if data.dataset == "imagenet":
        data = replace(data, decoder=options.decoder)
    else:
        data = replace(data, published_archive=options.published_archive)
    eval_data = build_eval_data(data, batch_size=options.batch_size, num_workers=options.num_workers, world=world)
    classifier = build_classifier(options, data, eval_data.class_names, world.device)
    metrics = evaluate(classifier, eval_data.loader, world)
    if world.is_main:
        _print_result(options, classifier, metrics, world)
        print(f"time       {_time(classifier, eval_data.loader, world.device)}, batch {options.batch_size}")
    return metrics


def build_classifier(
    options: TestOptions, data: ClassificationDataConfig, class_names: list[str], device: torch.device
) -> ImageClassifier:
    """The network with its weights, on its device.

    Raises:
        ValueError: the weights do not fit, or were trained on other classes.
        FileNotFoundError: there are no weights.
    """
    checkpoint = _own_checkpoint(options.weights, class_names)
    network_options = options.network_options
    if checkpoint is not None and "network_options" in checkpoint["config"]:
        network_options = NetworkConfig(**checkpoint["config"]["network_options"])
    network = build_network(options.network, num_classes=len(class_names), **network_options.options())
    load_weights(network, checkpoint or options.weights)
    classifier = ImageClassifier(
        network,
        mean=data.mean,
        std=data.std,
        dtype=choose_precision(options.precision, device),
        channels_last=options.channels_last,
    )
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    return classifier.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]


def _own_checkpoint(weights: str, class_names: list[str]) -> dict[str, Any] | None:
    """The checkpoint of one of our runs, after its class names were checked; None for weights of other kinds."""
    path = Path(weights)
    if path.name == "best.pth" and not path.exists():
        raise FileNotFoundError(f"there is no {path} yet: train the row first, or give --weights FILE.")
    try:
        checkpoint = load_checkpoint(path)
    except (ValueError, FileNotFoundError):
        return None  # load_weights reads the other kinds, and says what is wrong with a file that is none of them
    if checkpoint["class_names"] != class_names:
        raise DataError(
            f"{path} was trained on {class_summary(checkpoint['class_names'])}, and the data set has "
            f"{class_summary(class_names)}: they must be the same, in the same order."
        )
    return checkpoint


def at_size(data: ClassificationDataConfig, input_size: int) -> ClassificationDataConfig:
    """The usual evaluation transforms for another input size: shorter side 256/224 of it, then a centre crop.

    Raises:
        ValueError: the images are not files that could be resized.
    """
    if data.dataset != "imagenet":
        raise ValueError(
            f"input_size={input_size} cannot be chosen for {data.dataset}: its images are used as they are."
        )
    return replace(data, val_transforms=(v2.Resize(int(input_size * 256 / 224)), v2.CenterCrop(input_size)))


def _time(classifier: ImageClassifier, loader: EvalLoader[ClassificationBatch], device: torch.device) -> Timing:
    """Times a second pass over the first batches of this process's share."""
    forward = {"forward": lambda batch: classifier(batch.images)}
    classifier.eval()
    return time_inference(forward, itertools.islice(loader, 10), device, num_warmup=min(2, len(loader) - 1))


def _print_result(options: TestOptions, classifier: ImageClassifier, metrics: dict[str, float], world: World) -> None:
    """One line a number."""
    num_images = int(metrics["num_images"])
    print(f"network    {options.network}: {count(classifier.network, options.input_size)}")
    print(f"weights    {options.weights}")
    print(f"computed   on {world.size} x {device_name(world.device)} in {str(classifier.dtype).removeprefix('torch.')}")
    for name in ("top1", "top5"):
        correct, share = round(metrics[name] * num_images), 100 * metrics[name]
        print(f"{name}       {share:.2f} % ({correct} of {num_images}), error {100 - share:.2f} %")
    print(f"loss       {metrics['loss']:.4f}")
