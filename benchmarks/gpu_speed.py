"""Training steps of ours and of others in turn, in one precision on one device: rows of `python -m benchmarks.gpu`."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import fasterrcnn_resnet50_fpn, fcos_resnet50_fpn, retinanet_resnet50_fpn

from benchmarks.compare import alternate
from benchmarks.gpu_steps import CLASSIFICATION, SGD, TWO_STAGES, Setting, Step, float32_products, total
from benchmarks.random_batches import NUM_CLASSES, random_batch, torchvision_targets
from public.optim.optimizers import build_optimizer
from public.runtime.device import autocast, memory_format, synchronize

PEERS: dict[str, Callable[..., nn.Module]] = {
    "retinanet": retinanet_resnet50_fpn,
    "fcos": fcos_resnet50_fpn,
    "faster_rcnn": fasterrcnn_resnet50_fpn,
}
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def training_step(losses: Callable[[], dict[str, Tensor]], optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """What takes one optimizer step."""

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        total(losses()).backward()
        optimizer.step()

    return step


def our_step(name: str, setting: Setting, dtype: torch.dtype, channels_last: bool, batch: Any) -> Callable[[], None]:
    """Of ours."""
    model = Step(name, setting.backbone, dtype, channels_last).to(setting.device)
    step = training_step(lambda: model(*batch), build_optimizer(model, SGD))

    def run() -> None:
        with setting.on_device():
            step()

    return run


def their_step(
    network: nn.Module, dtype: torch.dtype, channels_last: bool, arguments: Sequence[Any]
) -> Callable[[], None]:
    """Of a peer that gives losses, or of a classifier: images and labels."""
    device = next(network.parameters()).device
    network.to(memory_format=memory_format(channels_last))  # pyright: ignore[reportCallIssue]

    def losses() -> dict[str, Tensor]:
        with autocast(device, dtype):
            if isinstance(arguments[0], list):
                return network(*arguments)
            return {"loss": nn.functional.cross_entropy(network(arguments[0]), arguments[1])}

    return training_step(
        losses, torch.optim.SGD(network.parameters(), SGD.lr, momentum=0.9, weight_decay=SGD.weight_decay)
    )


def classification_speed(setting: Setting, precision: str, channels_last: bool) -> dict[str, Any]:
    """Training img/s of ResNet-50, ours, torchvision's and timm's, in one precision and layout."""
    dtype, device, size = PRECISIONS[precision], setting.device, setting.image_size
    batch = random_batch(setting.image_batch, 1, (size, size), device)
    images = (batch.images / 255).contiguous(memory_format=memory_format(channels_last))
    peers: dict[str, Callable[[], nn.Module]] = {"torchvision": partial(resnet50, num_classes=NUM_CLASSES)}
    if importlib.util.find_spec("timm") is not None:
        from timm import create_model

        peers["timm"] = partial(create_model, "resnet50", num_classes=NUM_CLASSES)
    ways = {"ours": lambda: our_step(CLASSIFICATION, setting, dtype, channels_last, batch)}
    for name, build in peers.items():
        ways[name] = lambda build=build: their_step(
            build().to(device), dtype, channels_last, (images, batch.labels[:, 0])
        )
    return speeds(ways, setting, setting.image_batch, precision)


def detection_speed(name: str, setting: Setting, canvas: int, precision: str) -> dict[str, Any]:
    """Training img/s of a detector on ResNet-50: ours in the layout that a run has, torchvision's in both."""
    dtype, device = PRECISIONS[precision], setting.device
    canvas = canvas if setting.device.type == "cuda" else setting.canvas
    batch = random_batch(setting.detection_batch, 7, (canvas, canvas), device)
    targets = torchvision_targets(batch, first_label=1 if name in TWO_STAGES else 0)
    images = list(batch.images / 255)
    options = {"weights": None, "weights_backbone": None, "min_size": canvas, "max_size": canvas, "_skip_resize": True}

    def theirs(channels_last: bool) -> Callable[[], None]:
        network = PEERS[name](num_classes=NUM_CLASSES + 1, **options).to(device)
        return their_step(network, dtype, channels_last, (images, targets))

    ways = {
        "ours": lambda: our_step(name, setting, dtype, True, batch),
        "torchvision": lambda: theirs(False),
        "torchvision, channels_last": lambda: theirs(True),
    }
    return speeds(ways, setting, setting.detection_batch, precision)


def speeds(
    ways: dict[str, Callable[[], Callable[[], None]]], setting: Setting, num_images: int, precision: str
) -> dict[str, Any]:
    """Builds each way, warms it up, and lets all have their turns; MB of memory that a step takes at its peak.

    The memory is what a step adds to that which all networks and their optimizers hold.
    """
    device = setting.device
    of_products = float32_products("tf32" if precision == "tf32" else "ieee")
    with of_products if precision != "bf16" else nullcontext():
        steps, peaks = {}, {}
        for name, build in ways.items():
            # Ours chooses no kernels by their time: another choice would have other last bits in a resumed run.
            steps[name] = partial(run_with, build(), chooses_kernels=name != "ours")
            peaks[name] = warmed_up(steps[name], device)
        turns = {name: partial(speed, step, num_images, setting) for name, step in steps.items()}
        comparison = alternate(turns, setting.rounds, "images/s")
    print(comparison.table())
    return comparison.record() | {"peak_mb": peaks, "outcome": "measured"}


def run_with(step: Callable[[], None], *, chooses_kernels: bool) -> None:
    """Takes a step where cuDNN may try which of its kernels is the fastest for a shape, as references train, or not."""
    torch.backends.cudnn.benchmark = chooses_kernels
    step()


def warmed_up(step: Callable[[], None], device: torch.device) -> float | None:
    """Takes steps in which kernels are chosen; MB that the third needs beyond what is there before, None on a CPU."""
    for _ in range(2):
        step()
    if device.type != "cuda":
        return None
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    return round((torch.cuda.max_memory_allocated(device) - before) / 2**20)


def speed(step: Callable[[], None], num_images: int, setting: Setting) -> float:
    """Images per second, over about as long as a turn shall take."""
    synchronize(setting.device)
    start, number = time.perf_counter(), 0
    while number == 0 or time.perf_counter() - start < setting.turn_seconds:
        for _ in range(2):
            step()
        synchronize(setting.device)  # else a host that is ahead would queue more than the turn's time
        number += 2
    return number * num_images / (time.perf_counter() - start)
