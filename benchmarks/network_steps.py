"""A training step or an inference of classification networks, ours against timm's of the same paper, in one precision.

    python -m benchmarks.network_steps
    python -m benchmarks.network_steps --only darknet53 --batch-size 16
    python -m benchmarks.network_steps --part inference --batch-size 64      as an evaluation goes

Both: new weights, the same noise, bf16 where the device is faster in it; forward, cross-entropy, backward and SGD, or
forward alone, behind a pass that gives the norms their statistics.
Ours is given uint8, which it normalizes, and lies in NHWC. timm's is given normalized float32, and is measured in NCHW,
as its train.py has it, and with --channels-last: ours is held against the faster of the two. Each way has a process of
its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from torch import Tensor, nn

from benchmarks.apart import Apart, Turn, device_here, entered, timed
from benchmarks.compare import alternate, benchmark_device, report
from benchmarks.gpu_speed import their_step, training_step
from benchmarks.gpu_steps import CLASSIFICATION, MEAN, SGD, STD, Step
from benchmarks.random_batches import NUM_CLASSES, random_batch
from public.backbones.catalog import build_backbone
from public.backbones.classifier import ImageClassifier
from public.datasets.batches import DetectionBatch
from public.optim.optimizers import build_optimizer
from public.runtime.device import autocast, choose_precision, memory_format

TIMMS = {
    "darknet53": "darknet53",
    "vovnet39_se": "ese_vovnet39b",
    "resnet50": "resnet50",
    "resnet50_v2": "resnetv2_50",
    "efficientnet_b0": "efficientnet_b0",
    "mobilenet_v2": "mobilenetv2_100",
}
"""Our names and timm's."""
OURS, NCHW, NHWC = "ours", "timm", "timm, channels_last"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    part: Literal["step", "inference"] = "step"
    """What is measured."""
    only: tuple[str, ...] = tuple(TIMMS)
    """Networks, by our names."""
    rounds: int = 5
    """Counted rounds."""
    batch_size: int = 8
    """Images at once."""
    size: int = 224
    """Height and width in pixels."""


def turn(options: Options, name: str, way: str) -> Turn:
    """Takes one step or inference of a way, and gives the images a second."""
    device = device_here(ours=way == OURS)
    torch.manual_seed(0)
    dtype = choose_precision("auto", device)
    batch = random_batch(options.batch_size, 1, (options.size, options.size), device)
    make = {"step": _step, "inference": _inference}[options.part]
    return timed(make(name, way, dtype, batch), options.batch_size, device)


def _theirs(name: str, way: str, batch: DetectionBatch) -> tuple[nn.Module, Tensor]:
    """timm's network and its images."""
    from timm import create_model

    network = create_model(TIMMS[name], num_classes=NUM_CLASSES).to(batch.images.device)
    return network, ((batch.images / 255 - MEAN[0]) / STD[0]).contiguous(memory_format=memory_format(way == NHWC))


def _step(name: str, way: str, dtype: torch.dtype, batch: DetectionBatch) -> Callable[[], object]:
    if way == OURS:
        model = Step(CLASSIFICATION, name, dtype, channels_last=True).to(batch.images.device)
        return training_step(lambda: model(*batch), build_optimizer(model, SGD))
    network, images = _theirs(name, way, batch)
    return their_step(network, dtype, way == NHWC, (images, batch.labels[:, 0]))


def _inference(name: str, way: str, dtype: torch.dtype, batch: DetectionBatch) -> Callable[[], object]:
    images = batch.images
    if way == OURS:
        network = build_backbone(name, num_classes=NUM_CLASSES)
        model: nn.Module = ImageClassifier(network, mean=MEAN, std=STD, dtype=dtype, channels_last=True).to(
            images.device
        )
    else:
        model, images = _theirs(name, way, batch)
    model.to(memory_format=memory_format(way != NCHW))  # pyright: ignore[reportCallIssue]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # all that it has seen
    with torch.no_grad():
        model.train()(images[:8])
    model.eval()

    @torch.inference_mode()
    def infer() -> Tensor:
        with autocast(images.device, dtype):
            return model(images)

    return infer


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    device = benchmark_device()
    for name in options.only:
        with entered({way: Apart(turn, options, name, way) for way in (OURS, NCHW, NHWC)}) as ways:
            comparison = alternate(ways, options.rounds, "images/s")
        words = f"noise {options.size} x {options.size}, batch {options.batch_size}"
        report(f"network_{options.part}s_{name}", comparison, 1.0, device, words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
