#!/usr/bin/env bash
# torch 2.14.1: a network in DistributedDataParallel that is compiled with backend="eager", the backend with which one
# finds out whether a fault is the compiler's, fails at the second size of images where a map is resized to another's
# size, as in every feature pyramid; aot_eager and inductor run. By default torch cuts the graph where DDP's buckets of
# gradients are full (torch._dynamo.config.optimize_ddp), and with the eager backend a piece of it is called with
# symbolic sizes. Without DDP, or with optimize_ddp=False, it runs. So whoever looks for a fault of inductor's in a run
# with several processes, and goes back to eager for it, finds one that inductor does not have.
# Output seen on 2026-11-30, Python 3.11, Linux x86_64, CPU, one process:
#   eager      optimize_ddp=True    64 runs   96 RuntimeError: SymIntArrayRef expected to contain only concrete integers
#   eager      optimize_ddp=False   64 runs   96 runs
#   aot_eager  optimize_ddp=True    64 runs   96 runs
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.distributed import HashStore, init_process_group

MESSAGE = "SymIntArrayRef expected to contain only concrete integers"


class Pyramid(nn.Module):
    """A coarse map, brought to the size of a fine one; its last convolution alone fills DDP's first bucket."""

    def __init__(self, width=256):
        super().__init__()
        self.fine = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.out = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, images):
        fine = self.fine(images)
        return self.out(fine + nn.functional.interpolate(self.coarse(fine), size=fine.shape[-2:]))


def said(backend, optimize_ddp):
    """What becomes of steps at two sizes, one after another."""
    torch._dynamo.config.optimize_ddp = optimize_ddp
    torch.compiler.reset()
    network = Pyramid()
    network.compile(backend=backend)
    in_parallel = nn.parallel.DistributedDataParallel(network)
    found = []
    for size in (64, 96):
        try:
            in_parallel(torch.zeros(2, 3, size, size)).sum().backward()
            found.append("runs")
        except Exception as error:
            found.append(f"RuntimeError: {MESSAGE}" if MESSAGE in str(error) else f"another error: {error}")
    return found


init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
expected = {
    ("eager", True): ["runs", f"RuntimeError: {MESSAGE}"],
    ("eager", False): ["runs", "runs"],
    ("aot_eager", True): ["runs", "runs"],
}
found = {way: said(*way) for way in expected}
for (backend, optimize_ddp), (first, second) in found.items():
    print(f"{backend:<10} optimize_ddp={optimize_ddp!s:<7} 64 {first}   96 {second}")
assert found == expected, "the behaviour changed"
PYTHON
