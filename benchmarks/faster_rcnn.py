"""Faster R-CNN on a ResNet-50, an inference or a training step, ours against torchvision's `fasterrcnn_resnet50_fpn`.

    python -m benchmarks.faster_rcnn
    python -m benchmarks.faster_rcnn --parts training           a step; `training_steps` claims those at 640 x 640

Both: the same weights, the same noise and boxes, the same precision. A training step is normalization, network,
targets, samples, losses, backward and SGD; inference goes from pixels to detections. torchvision's resize has
nothing to do. Its samples are drawn from torch's generator and so are others than ours. Each side has a process of its
own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from benchmarks.apart import Turn, device_here, sides, timed
from benchmarks.compare import alternate, benchmark_device, report
from benchmarks.random_batches import NUM_CLASSES, random_batch, torchvision_targets
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_from_options
from public.detectors.detector import Detections, ImageDetector
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.optim.optimizers import build_optimizer
from public.optim.options import SGDOptions
from public.runtime.device import autocast, choose_precision, memory_format
from public.runtime.seeding import seed_everything
from public.weights.loading import load_weights

LR = 1e-4
SPREAD = 0.03
"""Of the class weights, for inference: new ones are sure of nothing, and leave nothing to suppress."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    parts: tuple[Literal["training", "inference"], ...] = ("inference",)
    """Which to measure."""
    rounds: int = 5
    """Counted rounds."""
    steps: int = 1
    """Steps or batches in a turn."""
    batch_size: int = 2
    """Images."""
    height: int = 480
    """Of the canvas in pixels, a multiple of 32."""
    width: int = 640
    """Of the canvas in pixels, a multiple of 32."""
    num_objects: int = 7
    """In each image."""
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """Of both. With others than fp32, torchvision's boxes are computed in it, too, and ours are not."""
    channels_last: bool = True
    """Memory layout of ours."""
    seed: int = 0
    """Of weights, images and boxes."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """Ours, or torchvision's."""

    network: nn.Module
    """Whose parameters are trained."""
    losses: Callable[[], dict[str, Tensor]]
    """Of the batch."""
    detections: Callable[[], Detections | Sequence[dict[str, Tensor]]]
    """Of the batch."""


def build_theirs(batch: DetectionBatch, device: torch.device, dtype: torch.dtype) -> Side:
    """torchvision's network on its own form of the batch."""
    # In evaluation it resizes all the same: to the size that the images have.
    sides = sorted(batch.images.shape[-2:])
    options: dict[str, Any] = {"_skip_resize": True, "min_size": sides[0], "max_size": sides[1]}
    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1, **options).to(
        device
    )
    images = list(batch.images / 255)
    targets = torchvision_targets(batch, first_label=1)

    def losses() -> dict[str, Tensor]:
        with autocast(device, dtype):
            return network(images, targets)

    def detections() -> Sequence[dict[str, Tensor]]:
        with autocast(device, dtype):
            return network(images)

    return Side(network=network, losses=losses, detections=detections)


def build_ours(
    batch: DetectionBatch, device: torch.device, dtype: torch.dtype, weights: dict[str, Tensor], channels_last: bool
) -> Side:
    """Our network with torchvision's weights."""
    detector = build_from_options(NUM_CLASSES, FasterRCNNOptions.torchvision())
    load_weights(detector, weights)
    whole = ImageDetector(detector, mean=IMAGENET_MEAN, std=IMAGENET_STD, dtype=dtype, channels_last=channels_last)
    whole.to(device=device, memory_format=memory_format(channels_last))  # pyright: ignore[reportCallIssue]
    return Side(
        network=detector,
        losses=lambda: detector.loss(whole.outputs(batch.images), detector.targets(batch)),
        detections=lambda: whole(batch.images, batch.sizes),
    )


def build_sides(options: Options, device: torch.device, *, spread: float | None) -> dict[str, Side]:
    """Both with the same weights, those of the classes as widely spread as asked."""
    seed_everything(options.seed)
    batch = random_batch(options.batch_size, options.num_objects, (options.height, options.width), device)
    dtype = choose_precision(options.precision, device)
    theirs = build_theirs(batch, device, dtype)
    if spread is not None:
        prepare_for_inference(theirs, spread)
    ours = build_ours(batch, device, dtype, theirs.network.state_dict(), options.channels_last)
    return {"ours": ours, "torchvision": theirs}


@torch.no_grad()
def prepare_for_inference(theirs: Side, spread: float) -> None:
    """Batch norms with the statistics of the batch, and classes that are sure of something."""
    for module in theirs.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    theirs.losses()
    nn.init.normal_(theirs.network.get_parameter("roi_heads.box_predictor.cls_score.weight"), std=spread)


def training(side: Side) -> Callable[[], None]:
    """What takes one step."""
    optimizer = build_optimizer(side.network, SGDOptions(lr=LR, momentum=0.9, weight_decay=1e-4))

    def step() -> None:
        losses = side.losses()
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return step


def inference(side: Side) -> Callable[[], None]:
    """What detects in one batch."""
    side.network.eval()

    @torch.inference_mode()
    def detect() -> None:
        side.detections()

    return detect


def turn(part: str, options: Options, name: str) -> Turn:
    """Takes steps, or detects, and gives the images a second."""
    device = device_here(ours=name == "ours")
    side = build_sides(options, device, spread=SPREAD if part == "inference" else None)[name]
    work = {"training": training, "inference": inference}[part](side)
    return timed(work, options.batch_size, device, options.steps)


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    for part in options.parts:
        with sides(turn, part, options) as ways:
            comparison = alternate(ways, options.rounds, "images/s")
        words = f"resnet50, noise {options.width} x {options.height}, batch {options.batch_size}, {options.precision}"
        report(f"faster_rcnn_{part}", comparison, 1.0, benchmark_device(), words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
