"""What test_on_imagenet.py and test_on_cifar100.py share: evaluate given weights or a run's best, and time it.

./test.sh [row]                     in an experiment folder: the row's runs/<row>/checkpoints/best.pth
./test.sh --weights FILE            any checkpoint of ours, or weights that fit the row's network
python -m public.test_scripts.test_on_imagenet --network mobilenet_v2 --weights FILE --data.folder FOLDER
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from public.backbones.classifier import ImageClassifier
from public.config.classification import ClassificationConfig, ClassificationData
from public.config.command_line import in_present_folder
from public.config.options import NetworkOptions
from public.datasets.batches import ClassificationBatch, EvalLoader
from public.datasets.classification import build_eval_data
from public.datasets.image_formats import DATA_KIND
from public.evaluation.classification import evaluate
from public.evaluation.classification_report import write_report
from public.evaluation.complexity import count
from public.evaluation.speed import Timing, time_inference
from public.optim.options import ConstantOptions, SGDOptions
from public.recipes.classification import ClassificationTask
from public.runtime.device import choose_precision, device_name, memory_format
from public.runtime.distributed import DistributedContext
from public.runtime.output import make_folder
from public.runtime.run_folder import all_written
from public.test_scripts.request import (
    Request,
    check_classes,
    describe_precision,
    evaluate_distributed,
    parse_options,
    read_request,
)
from public.weights.loading import load_trained
from public.weights.trained import Trained


@dataclass(frozen=True, kw_only=True)
class TestOptions:
    """Evaluates a classification network and times it."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    weights: str
    """A checkpoint of ours, which knows its network and data; or, with a row or --network, any file of weights,
    torchvision:<model>[.<weights>] or timm:<model>."""
    experiment: str | None = None
    """The folder of the experiment whose own transforms or task a checkpoint uses; test.sh gives its own."""
    output: str | None = None
    """Folder for the report. A checkpoint in a run folder has test/ there; None: none is written."""
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
    data: ClassificationData
    """The data set and what is done to its images."""


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(TestOptions):
    """Evaluates a classification network and times it."""

    network: str
    """A name from public.backbones.catalog."""
    network_options: NetworkOptions
    """How the network differs from what its family gives."""


def main(data: ClassificationData, argv: Sequence[str] | None = None, trained: Trained | None = None) -> None:
    """Reads a command line, evaluates and prints.

    Args:
        data: the data set and its protocol where neither an experiment nor a checkpoint states them.
        argv: the arguments, see `request.py`; None takes the program's.
        trained: the checkpoint that they name, where it was opened already.
    """
    request = read_request(
        argv, ClassificationTask.kinds[:2], lambda network: of_network(network, data), ClassificationConfig, trained
    )
    options = parse_options(request.args, options_of(request), DATA_KIND)
    evaluate_distributed(options.device, lambda context: run(options, request, context))


def of_network(network: str | None, data: ClassificationData) -> ClassificationConfig:
    """A config for weights of which the command line is all that says what they fit."""
    return ClassificationConfig(
        name="weights",
        network=network or "resnet50",
        epochs=1,
        batch_size=64,
        precision="fp32",
        data=data,
        optimizer=SGDOptions(lr=0.1, weight_decay=0.0),
        schedule=ConstantOptions(),
    )


def options_of(request: Request) -> TestOptions:
    """The options under which the config's own evaluation is repeated."""
    config: ClassificationConfig = request.config
    own: dict[str, Any] = {
        "weights": request.weights or tyro.MISSING,
        "output": None if request.output is None else str(request.output),
        "batch_size": min(config.batch_size, 64),
        "num_workers": min(config.runtime.num_workers, 8),
        "precision": request.precision,
        "channels_last": config.channels_last,
        "data": config.data,
    }
    if request.trained is not None:
        return TestOptions(**own)
    network = config.network if request.experiment is not None else tyro.MISSING
    return WeightsOptions(**own, network=network, network_options=config.network_options)


def run(options: TestOptions, request: Request, context: DistributedContext) -> dict[str, float]:
    """Evaluates, times and prints; gives what `evaluate` gives.

    Raises:
        ValueError: weights, data or options do not fit each other.
        FileNotFoundError: there are no weights.
    """
    data = in_present_folder(options.data, request.args)
    config = replace(request.config, data=data, channels_last=options.channels_last)
    if isinstance(options, WeightsOptions):
        config = replace(config, network=options.network, network_options=options.network_options)
    eval_data = build_eval_data(
        config.data,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        context=context,
        class_names=None if request.trained is None else request.trained.class_names,
    )
    classifier = build_classifier(options, request, config, eval_data.class_names, context.device)
    if context.is_main and options.output is not None:
        make_folder(Path(options.output))
    result = evaluate(classifier, eval_data.loader, context)
    metrics = result.metrics
    if context.is_main:
        _print_result(options, config, classifier, metrics, context)
        if options.output is not None:
            title = f"{config.network}, {options.weights}"
            with all_written(Path(options.output)):
                write_report(Path(options.output), result, eval_data.class_names, eval_data.loader, title=title)
            print(f"written    {options.output}: report.html and its numbers and pictures")
        print(f"time       {_time(classifier, eval_data.loader, context.device)}, batch {options.batch_size}")
    return metrics


def build_classifier(
    options: TestOptions,
    request: Request,
    config: ClassificationConfig,
    class_names: list[str],
    device: torch.device,
) -> ImageClassifier:
    """The network with its weights, on its device.

    Raises:
        ValueError: the weights do not fit, or were trained on other classes.
        FileNotFoundError: there are no weights.
    """
    trained, task = request.trained, request.task(ClassificationTask)
    check_classes(trained, class_names, "the data set")
    network = task.build_network(config, len(class_names))
    weights = options.weights if trained is None else trained.state
    load_trained(network, weights, getattr(network, "classifier_prefix", ()), class_names)
    classifier = task.inference(network, config, choose_precision(options.precision, device))
    assert isinstance(classifier, ImageClassifier)
    return classifier.to(device, memory_format=memory_format(config.channels_last))  # pyright: ignore[reportCallIssue]


def _time(classifier: ImageClassifier, loader: EvalLoader[ClassificationBatch], device: torch.device) -> Timing:
    """Times a second pass over the first batches of this process's share."""
    forward = {"forward": lambda batch: classifier(batch.images)}
    classifier.eval()
    return time_inference(forward, itertools.islice(loader, 10), device, num_warmup=min(2, len(loader) - 1))


def _print_result(
    options: TestOptions,
    config: ClassificationConfig,
    classifier: ImageClassifier,
    metrics: dict[str, float],
    context: DistributedContext,
) -> None:
    """One line a number."""
    size = config.data.input_size
    print(f"network    {config.network}: {count(classifier.network, size)} at {size}x{size}")
    print(f"weights    {options.weights}")
    print(f"computed   on {context.size} x {device_name(context.device)} in {describe_precision(classifier.dtype)}")
    print_metrics(metrics)


def print_metrics(metrics: dict[str, float]) -> None:
    """What `evaluate` gives, one line a number."""
    num_images = int(metrics["num_images"])
    for name in ("top1", "top5"):
        correct, share = round(metrics[name] * num_images), 100 * metrics[name]
        print(f"{name}       {share:.2f} % ({correct} of {num_images}), error {100 - share:.2f} %")
    print(f"loss       {metrics['loss']:.4f}")
