#!/usr/bin/env bash
# openvino 2026.4.1, CPU: NonMaxSuppression drops a box whose overlap with a better one is equal to iou_threshold. Its own
# specification keeps it ("func(iou) = 1 if iou <= iou_threshold else 0"), as torchvision, onnxruntime and ONNX's reference
# do; ONNX's text leaves it open. With boxes of whole pixels equal overlaps are no rarity (10 x 5 within 10 x 10 is 0.5),
# so that the same file finds fewer objects here. With a threshold of 0, ONNX's default, which is chosen where objects
# cannot overlap, boxes far apart "reach" it as well, and one box of a class is all that is left. 1e-6 instead repairs it.
# Output seen on 2026-11-30, Python 3.11, Linux x86_64, onnx 1.23.2, onnxruntime 1.32.0, boxes kept:
#   half a box within another, 0.5: reference [0, 1], onnxruntime [0, 1], openvino [0]
#   three boxes far apart, 0.0: reference [0, 1, 2], onnxruntime [0, 1, 2], openvino [0]
#   three boxes far apart, 1e-06: reference [0, 1, 2], onnxruntime [0, 1, 2], openvino [0, 1, 2]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
import openvino
from onnx.parser import parse_model
from onnx.reference import ReferenceEvaluator

APART = [[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]
model = parse_model("""<ir_version: 10, opset_import: ["": 18]>
nms (float[1, n, 4] boxes, float[1, 1, n] scores, int64[1] most, float[1] threshold) => (int64[k, 3] kept)
{ kept = NonMaxSuppression(boxes, scores, most, threshold) }""")
file = model.SerializeToString()
engines = {
    "reference": lambda inputs: ReferenceEvaluator(model).run(None, inputs)[0],
    "onnxruntime": lambda inputs: onnxruntime.InferenceSession(file).run(None, inputs)[0],
    "openvino": lambda inputs: openvino.compile_model(openvino.Core().read_model(file), "CPU")(inputs)[0],
}
for name, boxes, threshold, expected in (
    ("half a box within another", [[0, 0, 10, 10], [0, 0, 10, 5]], 0.5, [0]),
    ("three boxes far apart", APART, 0.0, [0]),
    ("three boxes far apart", APART, 1e-6, [0, 1, 2]),
):
    scores = np.linspace(0.9, 0.8, len(boxes), dtype=np.float32)[None, None]
    limits = {"most": np.array([100]), "threshold": np.array([threshold], np.float32)}
    inputs = {"boxes": np.array([boxes], np.float32), "scores": scores, **limits}
    seen = {engine: sorted(run(inputs)[:, 2].tolist()) for engine, run in engines.items()}
    print(f"{name}, {threshold}: " + ", ".join(f"{engine} {kept}" for engine, kept in seen.items()))
    assert seen["reference"] == seen["onnxruntime"] == list(range(len(boxes))), "the behaviour changed"
    assert seen["openvino"] == expected, "the behaviour changed"
PYTHON
