"""Memory that a training step adds, ours against torchvision's, and the time that recomputation takes of it.

    python -m benchmarks.step_memory                                        three detectors and a ResNet-50, batch 4
    python -m benchmarks.step_memory --only fcos --precision bf16
    python -m benchmarks.step_memory --parts memory --ways norms torchvision

Each way runs in a process of its own, on random objects: the network and its optimizer are made, then two steps are
taken, and what counts is by how much the largest resident memory exceeds that before the first step; gradients and the
optimizer's momentum are part of it on both sides. On a GPU it is the largest memory that torch had allocated. `norms`
(a run's default on a GPU), `stages` and `off` (on a CPU) are what `runtime.activation_checkpointing` may be. Then steps
of each way are timed in turn, and the ratios of their times are printed.
"""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal
from unittest import mock

import torch
import tyro
from torch import Tensor, nn
from torchvision.models import resnet50

from benchmarks.apart import Apart, Turn, device_here, entered, timed
from benchmarks.compare import alternate, append_result, benchmark_device
from benchmarks.gpu_speed import PEERS
from benchmarks.gpu_steps import CLASSIFICATION
from benchmarks.random_batches import NUM_CLASSES, random_batch, torchvision_targets
from public.backbones.catalog import build_backbone
from public.backbones.classifier import ImageClassifier
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_detector
from public.detectors.detector import ImageDetector
from public.losses.classification import cross_entropy
from public.runtime.device import PRECISION_DTYPES, autocast, memory_format

Way = Literal["auto", "norms", "stages", "off", "torchvision"]
CLAIMED = {"retinanet": 0.6, "fcos": 0.65, "faster_rcnn": 0.7}
"""Of torchvision's memory, with `norms`."""
CLAIMED_TIME = 1.05
"""Of a step's time where everything is kept, with `norms`."""
WARM_UP, WARM_UP_OF_PEERS = 3, 1
"""Steps before those that are timed. Ours keeps what was freed, and its heap reaches the size of a run's in three; with
glibc's own settings each step asks the system anew, the tenth as the second."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    only: tuple[str, ...] = (*PEERS, CLASSIFICATION)
    """Detectors, or classification."""
    parts: tuple[Literal["memory", "time"], ...] = ("memory", "time")
    """Which to measure."""
    ways: tuple[Way, ...] = ("torchvision", "norms", "stages", "off")
    """Of taking a step."""
    batch_size: int = 4
    """Images."""
    canvas: int = 640
    """Height and width in pixels."""
    rounds: int = 3
    """Counted rounds of the steps' times."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of networks on both sides."""
    channels_last: bool = True
    """Memory layout of ours; the rows on a ResNet-50 train in NHWC."""
    mmap_threshold: int | None = 2**20
    """Bytes from which glibc gives back at once what is freed, on both sides (MALLOC_MMAP_THRESHOLD_). None: it learns
    to keep up to 32 MiB each for later, and the holes between them then count as memory of the step."""


def losses_of(name: str, way: Way, options: Options, device: torch.device) -> tuple[nn.Module, Callable[[], Any]]:
    """A network that trains, and what gives the losses of a random batch."""
    torch.manual_seed(0)
    size = options.canvas
    batch = random_batch(options.batch_size, 7, (size, size), device)
    dtype = PRECISION_DTYPES[options.precision]
    if way == "torchvision":
        return _theirs(name, batch, dtype)
    normalization = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "dtype": dtype}
    settings: dict[str, Any] = {"channels_last": options.channels_last, "activation_checkpointing": way}
    if name == CLASSIFICATION:
        model: Any = ImageClassifier(build_backbone("resnet50"), **normalization, **settings)
    else:
        model = ImageDetector(build_detector(name, NUM_CLASSES), **normalization, **settings)
    model.to(device=device, memory_format=memory_format(options.channels_last))

    def losses() -> dict[str, Tensor]:
        if name == CLASSIFICATION:
            return {"loss": cross_entropy(model(batch.images), batch.labels[:, 0])}
        return model.detector.loss(model.outputs(batch.images), model.detector.targets(batch))

    return model, losses


def _theirs(name: str, batch: DetectionBatch, dtype: torch.dtype) -> tuple[nn.Module, Callable[[], Any]]:
    device, images = batch.images.device, batch.images / 255
    if name == CLASSIFICATION:
        network: Any = resnet50().to(device)
        arguments: Any = (images,)
    else:
        sizes = {"min_size": images.shape[-1], "max_size": images.shape[-1]}
        network = PEERS[name](weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1, **sizes).to(device)
        arguments = (list(images), torchvision_targets(batch, first_label=1))

    def losses() -> dict[str, Tensor]:
        with autocast(device, dtype):
            found = network(*arguments)
        return {"loss": cross_entropy(found.float(), batch.labels[:, 0])} if name == CLASSIFICATION else found

    return network, losses


def step_of(network: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> Callable[[], None]:
    """One step of SGD with momentum."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        torch.stack(list(losses().values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def added_megabytes(name: str, way: Way, options: Options, num_threads: int) -> float:
    """What two steps add in this process, which does nothing else."""
    torch.set_num_threads(num_threads)
    device = benchmark_device()
    step = step_of(*losses_of(name, way, options, device))
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = _status("VmRSS")
    step()
    step()
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _status("VmHWM")
    return (peak - before) / 1e6


def _status(name: str) -> int:
    """A line of the kernel's, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def memory(name: str, options: Options) -> dict[str, float]:
    """Megabytes by way, each in a process of its own."""
    found = {}
    kept = {} if options.mmap_threshold is None else {"MALLOC_MMAP_THRESHOLD_": str(options.mmap_threshold)}
    for way in options.ways:
        with mock.patch.dict(os.environ, kept), multiprocessing.get_context("spawn").Pool(1) as pool:
            found[way] = round(pool.apply(added_megabytes, (name, way, options, torch.get_num_threads())), 1)
        ratio = f"  {found[way] / found['torchvision']:.3f} of torchvision's" if "torchvision" in found else ""
        print(f"{name:<14} {way:<12} adds {found[way]:>7.0f} MB{ratio}", flush=True)
    if name in CLAIMED and {"norms", "torchvision"} <= found.keys():
        _say_whether(found["norms"] / found["torchvision"], CLAIMED[name])
    return found


def _say_whether(ratio: float, claimed: float) -> None:
    print(f"claimed: at most {claimed}, {'shown' if ratio <= claimed else 'NOT shown'} here", flush=True)


def turn(name: str, way: Way, options: Options) -> Turn:
    """What takes a step, and gives the images a second."""
    device = device_here(ours=way != "torchvision")
    step = step_of(*losses_of(name, way, options, device))
    for _ in range(WARM_UP_OF_PEERS if way == "torchvision" else WARM_UP):
        step()
    return timed(step, options.batch_size, device)


def times(name: str, options: Options) -> dict[str, list[float]]:
    """Seconds of a step by way, round by round, each in a process of its own with the heap of a run."""
    with entered({way: Apart(turn, name, way, options) for way in options.ways}) as ways:
        speeds = alternate(ways, options.rounds, "images/s", is_warm=True).speeds
    found = {way: [options.batch_size / speed for speed in own] for way, own in speeds.items()}
    for way, seconds in found.items():
        ratios = [a / b for a, b in zip(seconds, found.get("off", seconds), strict=True)]
        span = f"{median(ratios):.3f} of off (rounds {min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{name:<14} {way:<12} {median(seconds):>7.2f} s a step, {span}", flush=True)
        if way == "norms" and "off" in found:
            _say_whether(median(ratios), CLAIMED_TIME)
    return found


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    numbers: dict[str, Any] = {}
    for name in options.only:
        if "memory" in options.parts:
            numbers[f"{name} MB"] = memory(name, options)
        if "time" in options.parts:
            numbers[f"{name} seconds"] = times(name, options)
    words = f"random objects, batch {options.batch_size}, {options.canvas} pixels, {options.precision}"
    append_result("step_memory", {"numbers": numbers}, benchmark_device(), words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
