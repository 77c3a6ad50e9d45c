"""The precision that a run takes of its own accord (`--precision auto`) against the other one, by training steps.

    python -m benchmarks.precision

A ResNet-18 for CIFAR's images, batch 64, channels_last: forward, loss and backward, in bf16 and in fp32.
"""

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import tyro

from benchmarks.compare import alternate, benchmark_device, report
from public.backbones.catalog import build_backbone
from public.runtime.device import autocast, choose_precision, synchronize

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 5
    """Counted rounds."""
    steps: int = 4
    """Steps in a turn."""


class Steps:
    """Training steps of one network and one batch in one precision."""

    def __init__(self, device: torch.device, dtype: torch.dtype, num_steps: int) -> None:
        self.device, self.dtype, self.num_steps = device, dtype, num_steps
        self.network = build_backbone("resnet18cifar", num_classes=100).to(device)
        self.network.to(memory_format=torch.channels_last)
        self.images = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(100, (BATCH,), device=device)

    def __call__(self) -> float:
        """One turn: images per second."""
        synchronize(self.device)
        begin = time.perf_counter()
        for _ in range(self.num_steps):
            self.network.zero_grad()
            with autocast(self.device, self.dtype):
                loss = F.cross_entropy(self.network(self.images), self.labels)
            loss.backward()
        synchronize(self.device)
        return self.num_steps * BATCH / (time.perf_counter() - begin)


def main(options: Options) -> None:
    """Compares, prints and appends to results.jsonl."""
    device = benchmark_device()
    chosen = choose_precision("auto", device)
    other = torch.float32 if chosen != torch.float32 else torch.bfloat16
    ways = {
        f"{name}, {str(dtype).removeprefix('torch.')}": Steps(device, dtype, options.steps)
        for name, dtype in (("auto", chosen), ("the other", other))
    }
    report("precision", alternate(ways, options.rounds, "images/s"), 1.0, device, "random images")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
