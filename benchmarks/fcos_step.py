"""One training step of FCOS on a MobileNetV2, ours against torchvision's FCOS.

    python -m benchmarks.fcos_step

Both: 128 channels at strides 8, 16 and 32, the same weights to begin with, the same noise and boxes (as many and as
large as blood cells at 320 x 240), bf16 where the device is faster in it; normalization, network, targets, losses,
backward and AdamW. torchvision's resize is switched off. Each side has a process of its own.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchvision
import tyro
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS as TorchvisionFCOS
from torchvision.ops import FeaturePyramidNetwork

from benchmarks.apart import Turn, device_here, sides, timed
from benchmarks.compare import alternate, benchmark_device, report
from benchmarks.random_batches import torchvision_targets
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_from_options
from public.detectors.detector import ImageDetector
from public.detectors.fcos.options import FCOSOptions
from public.geometry.labels import PADDING
from public.optim.optimizers import build_optimizer
from public.optim.options import AdamWOptions
from public.runtime.device import autocast, choose_precision, memory_format
from public.runtime.seeding import seed_everything
from public.weights.loading import load_weights

CHANNELS, NUM_CLASSES = 128, 3
LAYERS = {"6": 32, "13": 96, "17": 320}
"""The layers of torchvision's MobileNetV2 that end strides 8, 16 and 32, and their channels."""
LR = 1e-4


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 7
    """Counted rounds."""
    steps: int = 3
    """Optimizer steps in a turn."""
    batch_size: int = 8
    """Images per step."""
    height: int = 240
    """Of the canvas in pixels."""
    width: int = 320
    """Of the canvas in pixels."""
    num_objects: int = 13
    """In each image."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """Of both."""
    channels_last: bool = True
    """Memory layout of ours."""
    seed: int = 0
    """Of weights, images and boxes."""


class TorchvisionPyramid(nn.Module):
    """torchvision's MobileNetV2 and pyramid, three levels."""

    out_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        features = torchvision.models.mobilenet_v2().features
        self.body = IntermediateLayerGetter(features, {name: name for name in LAYERS})
        self.fpn = FeaturePyramidNetwork(list(LAYERS.values()), CHANNELS)

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """[B, 3, H, W] -> three maps."""
        return self.fpn(self.body(images))


def random_batch(options: Options, device: torch.device) -> DetectionBatch:
    """Noise, and boxes of 16 to 64 pixels."""
    size = torch.tensor([options.width, options.height])
    middles = torch.rand(options.batch_size, options.num_objects, 2) * (size - 64) + 32
    halves = 8 + 24 * torch.rand(options.batch_size, options.num_objects, 2)
    boxes = torch.cat([middles - halves, middles + halves], dim=2)
    labels = torch.randint(0, NUM_CLASSES, boxes.shape[:2])
    labels[::2, -2:] = PADDING  # not all images have as many
    images = torch.randint(0, 256, (options.batch_size, 3, options.height, options.width), dtype=torch.uint8)
    sizes = size.flip(0).expand(options.batch_size, 2)
    numbers = torch.arange(options.batch_size)
    batch = DetectionBatch(images, boxes, labels, sizes, sizes, image_ids=numbers, seeds=numbers)
    return DetectionBatch(*(x.to(device) for x in batch))


Losses = Callable[[], dict[str, Tensor]]


def build_theirs(batch: DetectionBatch, device: torch.device, dtype: torch.dtype) -> tuple[nn.Module, Losses]:
    """torchvision's network, and what computes its losses."""
    generator = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    options: dict[str, Any] = {"anchor_generator": generator, "_skip_resize": True}
    network = TorchvisionFCOS(TorchvisionPyramid(), NUM_CLASSES, **options).to(device)
    images = list(batch.images / 255)
    targets = torchvision_targets(batch)

    def losses() -> dict[str, Tensor]:
        with autocast(device, dtype):
            return network(images, targets)

    return network, losses


def build_ours(
    batch: DetectionBatch, device: torch.device, dtype: torch.dtype, weights: dict[str, Tensor], channels_last: bool
) -> tuple[nn.Module, Losses]:
    """Our network with torchvision's weights, and what computes its losses."""
    options = FCOSOptions.torchvision(backbone="mobilenet_v2", channels=CHANNELS, levels=("p3", "p4", "p5"))
    detector = build_from_options(NUM_CLASSES, options)
    load_weights(detector, {key.replace("body.", "body.features."): value for key, value in weights.items()})
    whole = ImageDetector(detector, mean=IMAGENET_MEAN, std=IMAGENET_STD, dtype=dtype, channels_last=channels_last)
    whole.to(device=device, memory_format=memory_format(channels_last))  # pyright: ignore[reportCallIssue]
    return detector, lambda: detector.loss(whole.outputs(batch.images), detector.targets(batch))


class Loop:
    """Optimizer steps on one batch."""

    def __init__(self, losses: Losses, optimizer: torch.optim.Optimizer) -> None:
        self.losses, self.optimizer = losses, optimizer
        self.first: dict[str, float] = {}

    def step(self) -> None:
        """One optimizer step."""
        losses = self.losses()
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        self.first = self.first or {name: value.item() for name, value in losses.items()}


def build_loops(options: Options, device: torch.device) -> dict[str, Loop]:
    """Ours, then torchvision's."""
    seed_everything(options.seed)
    batch = random_batch(options, device)
    dtype = choose_precision(options.precision, device)
    theirs, their_losses = build_theirs(batch, device, dtype)
    ours, our_losses = build_ours(batch, device, dtype, theirs.state_dict(), options.channels_last)
    settings = AdamWOptions(lr=LR, weight_decay=1e-4)
    return {
        "ours": Loop(our_losses, build_optimizer(ours, settings)),
        "torchvision": Loop(their_losses, torch.optim.AdamW(theirs.parameters(), LR, weight_decay=1e-4)),
    }


def turn(options: Options, name: str) -> Turn:
    """Takes some steps of one side, and gives the images a second; the first time prints the losses."""
    device = device_here(ours=name == "ours")
    loop = build_loops(options, device)[name]
    loop.step()
    print(f"losses of the first step, {name}: {', '.join(f'{k} {v:.5f}' for k, v in loop.first.items())}", flush=True)
    return timed(loop.step, options.batch_size, device, options.steps)


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    with sides(turn, options) as ways:
        comparison = alternate(ways, options.rounds, "images/s")
    words = f"mobilenet_v2, noise {options.width} x {options.height}, {options.steps} steps of {options.batch_size}"
    words += "" if options.precision == "auto" else f", {options.precision}"
    report("fcos_step", comparison, 1.0, benchmark_device(), words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
