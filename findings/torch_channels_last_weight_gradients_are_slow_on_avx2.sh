#!/usr/bin/env bash
# torch 2.14.1, CPU whose widest vectors are AVX2's, float32: the gradient of a 3x3 convolution's weight takes two to three
# times as long for maps in torch.channels_last as for the same maps in NCHW, although outputs and gradients of inputs are
# about as fast in channels_last, or faster. A network in channels_last, as is advised for CPUs, may train slower than in
# NCHW for this operator alone; it pays to copy both maps to NCHW for it.
# Output seen on 2026-11-30, Python 3.11, Linux x86_64, AMD EPYC (Zen 3), two threads, ms beside those in NCHW:
#   64 channels, 160 x 160, stride 1: output 25 beside 37, input's gradient 26 beside 32, weight's gradient 87 beside 38
#   256 channels, 80 x 80, stride 1: output 97 beside 86, input's gradient 85 beside 84, weight's gradient 326 beside 107
#   128 channels, 160 x 160, stride 2: output 42 beside 44, input's gradient 42 beside 108, weight's gradient 186 beside 62
set -euo pipefail
if ! grep -q avx2 /proc/cpuinfo || grep -q avx512f /proc/cpuinfo; then
    echo "skipped: this processor's widest vectors are not AVX2's" && exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import time

import torch

OUTPUT, INPUT, WEIGHT = "output", "input's gradient", "weight's gradient"


def milliseconds(channels: int, side: int, stride: int, layout: torch.memory_format) -> dict[str, float]:
    """The least of five calls."""
    torch.manual_seed(0)
    x = torch.randn(2, channels, side, side).contiguous(memory_format=layout)
    weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=layout)
    grad = torch.randn_like(torch.conv2d(x, weight, stride=stride, padding=1))

    def backward(*mask: bool) -> None:
        sides = [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1
        torch.ops.aten.convolution_backward(grad, x, weight, None, *sides, mask)

    ways = {
        OUTPUT: lambda: torch.conv2d(x, weight, stride=stride, padding=1),
        INPUT: lambda: backward(True, False, False),
        WEIGHT: lambda: backward(False, True, False),
    }
    found = {}
    for name, run in ways.items():
        times = []
        for _ in range(6):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        found[name] = 1e3 * min(times[1:])
    return found


for channels, side, stride in ((64, 160, 1), (256, 80, 1), (128, 160, 2)):
    plain = milliseconds(channels, side, stride, torch.contiguous_format)
    last = milliseconds(channels, side, stride, torch.channels_last)
    words = ", ".join(f"{name} {last[name]:.0f} beside {plain[name]:.0f}" for name in last)
    print(f"{channels} channels, {side} x {side}, stride {stride}: {words}")
    assert last[WEIGHT] > 1.4 * plain[WEIGHT], "the behaviour changed"
    assert last[OUTPUT] < 1.3 * plain[OUTPUT], "the behaviour changed"
PYTHON
