#!/usr/bin/env bash
# torch 2.14.1: where a tensor is used several times, autograd adds its gradients up in the first of them, in place. While
# any TorchDispatchMode is active, one that only looks on too, it adds out of place instead, and for a moment one gradient
# more is alive at each such place. Whoever watches a step's operators by a mode and reads the memory after each (as
# tools that look for the peak do) measures a larger step than the one that runs without: for a Faster R-CNN on a
# ResNet-50 at batch 4 each sum at the end of a residual block was 105 MB that the plain step never asks for. The
# profiler, which is no such mode, sees the step as it is.
# Output seen on 2026-11-29, Python 3.11, Linux x86_64, CPU:
#   plain     aten::add_ 3   aten::add 0   bytes that additions asked for 0
#   watched   aten::add_ 0   aten::add 3   bytes that additions asked for 12582912
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
from contextlib import nullcontext

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

ADDITIONS = ("aten::add_", "aten::add")


class LooksOn(TorchDispatchMode):
    """Calls what it is given, and nothing else."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def additions(watch):
    """How many of each kind a backward pass has, and the bytes that they asked for."""
    x = torch.ones(2**20, requires_grad=True)
    shared = x * 2
    loss = torch.stack([(shared * number).sum() for number in range(4)]).sum()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen, watch:
        loss.backward()
    found = {event.key: event for event in seen.key_averages() if event.key in ADDITIONS}
    calls = 1 if isinstance(watch, nullcontext) else 2  # the profiler sees what a mode calls again, twice
    counts = [found[name].count // calls if name in found else 0 for name in ADDITIONS]
    return *counts, sum(event.self_cpu_memory_usage for event in found.values())


plain, watched = additions(nullcontext()), additions(LooksOn())
for name, (in_place, out_of_place, size) in {"plain": plain, "watched": watched}.items():
    print(f"{name:<9} aten::add_ {in_place}   aten::add {out_of_place}   bytes that additions asked for {size}")
assert plain == (3, 0, 0) and watched == (0, 3, 3 * 4 * 2**20), "the behaviour changed"
PYTHON
