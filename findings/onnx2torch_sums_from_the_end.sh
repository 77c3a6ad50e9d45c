#!/usr/bin/env bash
# onnx2torch 1.5.15 with torch 2.14.1: two operators by which detectors make positions and find indices come back
# changed. CumSum sums from the last to the first unless the file says reverse=0: ONNX's default is 0, onnx2torch's 1.
# torch's exporter of today writes the 0, while the older one (dynamo=False), and whoever trusts the default, leaves it
# out: positions that a transformer makes as sums of ones then count down in place of up. NonZero's indices come back
# transposed, [found, axes] in place of [axes, found]; a Transpose follows in exported networks, so that a picture's
# coordinates end up as lists of axes. Shapes fit where as many places are found as there are axes, and nothing is said.
# Output seen on 2026-12-01, Python 3.11, Linux x86_64, onnx 1.23.2, torchvision 0.29.1:
#   CumSum of 1, 1, 1, 1: reference [1.0, 2.0, 3.0, 4.0], onnx2torch [4.0, 3.0, 2.0, 1.0]
#   CumSum, reverse=0 written: reference [1.0, 2.0, 3.0, 4.0], onnx2torch [1.0, 2.0, 3.0, 4.0]
#   NonZero: reference [[0, 1], [2, 0]], onnx2torch [[0, 2], [1, 0]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    onnx2torch==1.5.15 torch==2.14.1 torchvision==0.29.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import torch
from onnx import checker
from onnx.parser import parse_model
from onnx.reference import ReferenceEvaluator
from onnx2torch import convert

ONES = np.ones(4, np.float32)
PLACES = np.array([[0, 0, 1], [1, 0, 0]], np.float32)  # row 0, column 2 and row 1, column 0
for name, x, text, hand, expected in (
    ("CumSum of 1, 1, 1, 1", ONES, "(float[4] x) => (float[4] y) <int64 axis = {0}> { y = CumSum(x, axis) }",
     [1, 2, 3, 4], [4, 3, 2, 1]),
    ("CumSum, reverse=0 written", ONES,
     "(float[4] x) => (float[4] y) <int64 axis = {0}> { y = CumSum<reverse = 0>(x, axis) }",
     [1, 2, 3, 4], [1, 2, 3, 4]),
    ("NonZero", PLACES, "(float[2, 3] x) => (int64[2, found] y) { y = NonZero(x) }",
     [[0, 1], [2, 0]], [[0, 2], [1, 0]]),
):
    model = parse_model(f'<ir_version: 8, opset_import: ["": 14]> {name.split()[0].strip(",")} {text}')
    checker.check_model(model)
    reference = ReferenceEvaluator(model).run(None, {"x": x})[0].tolist()
    seen = convert(model).eval()(torch.from_numpy(x)).tolist()
    print(f"{name}: reference {reference}, onnx2torch {seen}")
    assert reference == hand and seen == expected, "the behaviour changed"
PYTHON
