#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93, cv2.dnn: ONNX's auto_pad says at which end an odd pixel of padding goes, SAME_UPPER
# at the end, SAME_LOWER at the beginning. OpenCV takes both for one, and pads (kernel - 1) / 2 pixels, rounded down, at
# the beginning. So a kernel of 3, 5 or 7 with stride 2 over an even size, the usual way of halving a map, looks one
# pixel too far left and up under SAME_UPPER (TensorFlow's "same"), at each halving again, in Conv, MaxPool and
# AveragePool alike, and an even kernel with stride 1 too far right and down under SAME_LOWER. Shapes are right, and
# nothing is said. Padding that is written out as pads=... is read as it should be.
# The referee is worked out by hand, since ONNX's own reference evaluator (onnx 1.23.2) is wrong in one of the cases: it
# takes SAME_LOWER for SAME_UPPER in a MaxPool of stride 2.
# Output seen on 2026-12-01, Python 3.11, Linux x86_64, onnxruntime 1.32.0; "3 by 2" is a kernel of 3 with stride 2, x
# is 1, 2, 3, ..., Conv takes its window's first pixel; a star where an engine is wrong:
#   SAME_UPPER Conv 3 by 2: hand [1, 3, 5], onnxruntime [1, 3, 5], reference [1, 3, 5], opencv [0, 2, 4] *
#   SAME_UPPER MaxPool 3 by 2: hand [3, 5, 6], onnxruntime [3, 5, 6], reference [3, 5, 6], opencv [2, 4, 6] *
#   SAME_UPPER AveragePool 3 by 2: hand [2, 4, 5.5], onnxruntime [2, 4, 5.5], reference [2, 4, 5.5], opencv [1.5, 3, 5] *
#   SAME_LOWER MaxPool 3 by 2: hand [2, 4, 6], onnxruntime [2, 4, 6], reference [3, 5, 6] *, opencv [2, 4, 6]
#   SAME_LOWER Conv 2 by 1: hand [0, 1, 2, 3], onnxruntime [0, 1, 2, 3], reference [0, 1, 2, 3], opencv [1, 2, 3, 4] *
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
import onnxruntime
from onnx import checker
from onnx.parser import parse_model
from onnx.reference import ReferenceEvaluator


def seen_by(operator: str, padding: str, kernel: int, stride: int, x: np.ndarray) -> dict[str, list[float]]:
    """What each engine gives for one row of pixels."""
    weight = f"<float[1, 1, 1, {kernel}] w = {{1{', 0' * (kernel - 1)}}}>" if operator == "Conv" else ""
    attributes = f'kernel_shape = [1, {kernel}], strides = [1, {stride}], auto_pad = "{padding}"'
    model = parse_model(f"""<ir_version: 8, opset_import: ["": 13]>
    pad (float[1, 1, 1, {x.size}] x) => (float[1, 1, 1, {x.size // stride}] y) {weight}
    {{ y = {operator}<{attributes}>({'x, w' if weight else 'x'}) }}""")
    checker.check_model(model)
    file = model.SerializeToString()
    network = cv2.dnn.readNetFromONNX(np.frombuffer(file, np.uint8))
    network.setInput(x, "x")
    results = {
        "onnxruntime": onnxruntime.InferenceSession(file).run(None, {"x": x})[0],
        "reference": ReferenceEvaluator(model).run(None, {"x": x})[0],
        "opencv": network.forward(),
    }
    return {name: result.ravel().tolist() for name, result in results.items()}


WRONG = {"onnxruntime": [], "reference": [], "opencv": []}
for padding, operator, kernel, stride, hand in (
    ("SAME_UPPER", "Conv", 3, 2, [1, 3, 5]),
    ("SAME_UPPER", "MaxPool", 3, 2, [3, 5, 6]),
    ("SAME_UPPER", "AveragePool", 3, 2, [2, 4, 5.5]),
    ("SAME_LOWER", "MaxPool", 3, 2, [2, 4, 6]),
    ("SAME_LOWER", "Conv", 2, 1, [0, 1, 2, 3]),
):
    x = np.arange(1, 1 + stride * len(hand), dtype=np.float32).reshape(1, 1, 1, -1)
    told = [f"{padding} {operator} {kernel} by {stride}: hand {hand}"]
    for engine, row in seen_by(operator, padding, kernel, stride, x).items():
        wrong = not np.allclose(row, hand, atol=1e-4)
        WRONG[engine] += [(padding, operator)] if wrong else []
        told.append(f"{engine} [{', '.join(f'{value:g}' for value in row)}]{' *' if wrong else ''}")
    print(", ".join(told))
assert not WRONG["onnxruntime"], "the behaviour changed"
assert WRONG["reference"] == [("SAME_LOWER", "MaxPool")], "the behaviour changed"
assert WRONG["opencv"] == [
    *(("SAME_UPPER", operator) for operator in ("Conv", "MaxPool", "AveragePool")),
    ("SAME_LOWER", "Conv"),
], "the behaviour changed"
PYTHON
