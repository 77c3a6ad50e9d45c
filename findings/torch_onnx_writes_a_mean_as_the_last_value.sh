#!/usr/bin/env bash
# torch 2.14.1 with onnxscript 0.7.2: torch.onnx.export writes scatter_reduce(..., "mean") as ONNX's ScatterElements with
# reduction "none", ONNX having no mean: of the values that meet in one place, the mean becomes the last one. Nothing is
# said unless verify=True is given, and an example in which each place is met once hides it from that too. The exporter
# of before (dynamo=False) refused: "ONNX does not support mean reduction for scatter_reduce". It matters wherever features
# are pooled by an index: merged tokens of vision transformers, voxels, pillars, superpixels. The sum divided by the counts
# (two scatter_reduce with "sum") is exported as it should be.
# Output seen on 2026-11-30, Python 3.11, Linux x86_64, onnx 1.23.2, onnxruntime 1.32.0; values 1, 3 and 5 meet, 7 is alone:
#   Mean: torch [3.0, 7.0], ONNX [5.0, 7.0], ScatterElements ['none']
#   Sums: torch [3.0, 7.0], ONNX [3.0, 7.0], ScatterElements ['add']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    torch==2.14.1 torchvision==0.29.1 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import Tensor, nn


class Mean(nn.Module):
    def forward(self, values: Tensor, places: Tensor) -> Tensor:
        return values.new_zeros(2).scatter_reduce(0, places, values, "mean", include_self=False)


class Sums(nn.Module):
    def forward(self, values: Tensor, places: Tensor) -> Tensor:
        zeros = values.new_zeros(2)
        counts = zeros.scatter_reduce(0, places, torch.ones_like(values), "sum")
        return zeros.scatter_reduce(0, places, values, "sum") / counts.clamp(min=1)


inputs = torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([0, 0, 0, 1])
for network, expected in ((Mean(), [5.0, 7.0]), (Sums(), [3.0, 7.0])):
    program = torch.onnx.export(network.eval(), inputs, verbose=False)
    reductions = {
        node.attributes.get_string("reduction") for node in program.model.graph if node.op_type == "ScatterElements"
    }
    own, (seen,) = network(*inputs).tolist(), program(*inputs)
    print(f"{type(network).__name__}: torch {own}, ONNX {seen.tolist()}, ScatterElements {sorted(reductions)}")
    assert own == [3.0, 7.0] and seen.tolist() == expected, "the behaviour changed"
PYTHON
