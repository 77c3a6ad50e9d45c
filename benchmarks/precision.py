"""The precision that a run takes of its own accord (`--precision auto`) against the other one, by training steps.

    python -m benchmarks.precision

A ResNet-18 for CIFAR's images, batch 16, channels_last: forward, loss and backward, in bf16 and in fp32. Where one is
emulated a step of it takes as long as fifteen of the other: a turn is as many as there is time for.
"""

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import tyro

from benchmarks.compare import alternate, benchmark_device, report
from public.backbones.catalog import build_backbone
from public.runtime.device import autocast, choose_precision, synchronize

BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 5
    """Counted rounds."""
    seconds: float = 2.0
    """No step of a turn begins later."""


class Steps:
    """Training steps of one network and one batch in one precision."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seconds: float) -> None:
        self.device, self.dtype, self.seconds = device, dtype, seconds
        self.network = build_backbone("resnet18cifar", num_classes=100).to(device)
        self.network.to(memory_format=torch.channels_last)
        self.images = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(100, (BATCH,), device=device)

    def __call__(self) -> float:
        """One turn: images per second."""
        synchronize(self.device)
        begin, taken, steps = time.perf_counter(), 0.0, 0
        while taken < self.seconds:
            self._step()
            synchronize(self.device)
            taken, steps = time.perf_counter() - begin, steps + 1
        return steps * BATCH / taken

    def _step(self) -> None:
        self.network.zero_grad()
        with autocast(self.device, self.dtype):
            loss = F.cross_entropy(self.network(self.images), self.labels)
        loss.backward()


def main(options: Options) -> None:
    """Compares, prints and appends to results.jsonl."""
    device = benchmark_device()
    chosen = choose_precision("auto", device)
    other = torch.float32 if chosen != torch.float32 else torch.bfloat16
    ways = {
        f"{name}, {str(dtype).removeprefix('torch.')}": Steps(device, dtype, options.seconds)
        for name, dtype in (("auto", chosen), ("the other", other))
    }
    report("precision", alternate(ways, options.rounds, "images/s"), 1.0, device, "random images")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
