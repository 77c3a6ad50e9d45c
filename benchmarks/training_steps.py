"""A step of three detectors on a ResNet-50, ours against torchvision's: each as it trains by default, and in fp32.

    python -m benchmarks.training_steps
    python -m benchmarks.training_steps --only fcos --batch-size 4

By default torchvision's references train in float32 and NCHW; ours in the precision that `auto` takes on the machine,
in NHWC, with `runtime.activation_checkpointing` at `auto`. On a CPU without fast bf16 the two comparisons are one.
Everything learns on both sides, from random objects: normalization, network, targets, losses, backward and SGD. Each
way has a process of its own.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import tyro

from benchmarks.apart import Apart, entered
from benchmarks.compare import Comparison, alternate, benchmark_device, report
from benchmarks.step_memory import Options as StepOptions
from benchmarks.step_memory import Way, turn
from public.runtime.device import choose_precision

CLAIMED = {"retinanet": (2.2, 1.15), "fcos": (1.8, 1.5), "faster_rcnn": (1.8, 1.25)}
"""How many times as fast as torchvision's: by default where that is bf16, and in fp32."""
THEIRS, DEFAULT, FP32 = "torchvision, fp32", "ours by default, bf16", "ours, fp32"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    only: tuple[Literal["retinanet", "fcos", "faster_rcnn"], ...] = ("retinanet", "fcos", "faster_rcnn")
    """Detectors."""
    rounds: int = 5
    """Counted rounds."""
    batch_size: int = 2
    """Images."""
    canvas: int = 640
    """Height and width in pixels."""


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    device = benchmark_device()
    plain = StepOptions(batch_size=options.batch_size, canvas=options.canvas)
    ours = replace(plain, channels_last=True)
    for name in options.only:
        made: dict[str, tuple[Way, StepOptions]] = {FP32: ("auto", ours), THEIRS: ("torchvision", plain)}
        if choose_precision("auto", device) == torch.bfloat16:
            made[DEFAULT] = ("auto", replace(ours, precision="bf16"))
        with entered({key: Apart(turn, name, *way) for key, way in made.items()}) as ways:
            speeds = alternate(ways, options.rounds, "images/s", is_warm=True).speeds
        words = f"random objects at {options.canvas}, batch {options.batch_size}"
        for way, claimed in zip((DEFAULT, FP32), CLAIMED[name], strict=True):
            if way in speeds:
                pair = Comparison(unit="images/s", speeds={way: speeds[way], THEIRS: speeds[THEIRS]})
                report(f"training_steps_{name}: {way}", pair, claimed, device, words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
