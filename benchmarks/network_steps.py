"""A training step of classification networks, ours against timm's of the same paper, in one precision.

    python -m benchmarks.network_steps
    python -m benchmarks.network_steps --only darknet53 --batch-size 16

Both: new weights, the same noise, bf16 where the device is faster in it; forward, cross-entropy, backward and SGD.
Ours is given uint8, which it normalizes, and lies in NHWC. timm's is given normalized float32, and is measured in NCHW,
as its train.py has it, and with --channels-last: ours is held against the faster of the two. Each way has a process of
its own.
"""

from dataclasses import dataclass

import torch
import tyro

from benchmarks.apart import Apart, Turn, device_here, entered, timed
from benchmarks.compare import alternate, benchmark_device, report
from benchmarks.gpu_speed import their_step, training_step
from benchmarks.gpu_steps import CLASSIFICATION, MEAN, SGD, STD, Step
from benchmarks.random_batches import NUM_CLASSES, random_batch
from public.optim.optimizers import build_optimizer
from public.runtime.device import choose_precision, memory_format

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

    only: tuple[str, ...] = tuple(TIMMS)
    """Networks, by our names."""
    rounds: int = 5
    """Counted rounds."""
    batch_size: int = 8
    """Images per step."""
    size: int = 224
    """Height and width in pixels."""


def turn(options: Options, name: str, way: str) -> Turn:
    """Takes one step of a way, and gives the images a second."""
    device = device_here(ours=way == OURS)
    torch.manual_seed(0)
    dtype = choose_precision("auto", device)
    batch = random_batch(options.batch_size, 1, (options.size, options.size), device)
    if way == OURS:
        model = Step(CLASSIFICATION, name, dtype, channels_last=True).to(device)
        step = training_step(lambda: model(*batch), build_optimizer(model, SGD))
    else:
        from timm import create_model

        network = create_model(TIMMS[name], num_classes=NUM_CLASSES).to(device)
        images = ((batch.images / 255 - MEAN[0]) / STD[0]).contiguous(memory_format=memory_format(way == NHWC))
        step = their_step(network, dtype, way == NHWC, (images, batch.labels[:, 0]))
    return timed(step, options.batch_size, device)


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    device = benchmark_device()
    for name in options.only:
        with entered({way: Apart(turn, options, name, way) for way in (OURS, NCHW, NHWC)}) as ways:
            comparison = alternate(ways, options.rounds, "images/s")
        words = f"noise {options.size} x {options.size}, batch {options.batch_size}"
        report(f"network_steps_{name}", comparison, 1.0, device, words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
