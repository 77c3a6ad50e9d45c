#!/usr/bin/env bash
# openvino 2026.4.1, CPU: a file in ONNX whose Resize has antialias=1 (opset 18 and later) is read without a word, and
# resized without it, linear and cubic alike. A network that brings its own resizing of pictures then sees others here
# than in onnxruntime: of each small picture's pixel only the nearest 2 x 2 or 4 x 4 of the large one count, so that a
# fine pattern vanishes or becomes another. Growing, where antialias does nothing, agrees. It is the reader of ONNX: the
# same interpolate(antialias=True), converted from torch 2.14.1 by openvino.convert_model(module, example_input=...),
# was right (an exported program with it was refused).
# A line in every fourth column, made four times smaller, is a quarter grey everywhere but at the edges.
# Output seen on 2026-12-01, Python 3.11, Linux x86_64, onnx 1.23.2, onnxruntime 1.32.0, the two columns in the middle:
#   linear, 16 -> 4: reference [0.25, 0.25], onnxruntime [0.25, 0.25], openvino [0.0, 0.0]
#   cubic, 16 -> 4: reference [0.2373, 0.261], onnxruntime [0.2373, 0.261], openvino [-0.0625, -0.0625]
#   linear, 16 -> 32: reference [0.25, 0.75], onnxruntime [0.25, 0.75], openvino [0.25, 0.75]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
import openvino
from onnx import checker
from onnx.parser import parse_model
from onnx.reference import ReferenceEvaluator

lines = np.tile(np.array([1, 0, 0, 0], np.float32), (1, 1, 16, 4))
for mode, size, lost in (("linear", 4, True), ("cubic", 4, True), ("linear", 32, False)):
    model = parse_model(f"""<ir_version: 8, opset_import: ["": 18]>
    resize (float[1, 1, 16, 16] x) => (float[1, 1, {size}, {size}] y) <int64[4] sizes = {{1, 1, {size}, {size}}}>
    {{ y = Resize<mode = "{mode}", antialias = 1, cubic_coeff_a = -0.5>(x, , , sizes) }}""")
    checker.check_model(model)
    file = model.SerializeToString()
    compiled = openvino.compile_model(openvino.Core().read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen = {
        "reference": ReferenceEvaluator(model).run(None, {"x": lines})[0],
        "onnxruntime": onnxruntime.InferenceSession(file).run(None, {"x": lines})[0],
        "openvino": compiled({"x": lines})[0],
    }
    middle = slice(size // 2 - 1, size // 2 + 1)
    print(f"{mode}, 16 -> {size}: " + ", ".join(
        f"{engine} {[round(float(value), 4) for value in small[0, 0, 0, middle]]}" for engine, small in seen.items()
    ))
    assert np.allclose(seen["onnxruntime"], seen["reference"], atol=1e-4), "the behaviour changed"
    assert abs(seen["onnxruntime"].mean() - 0.25) < 0.02, "the behaviour changed"  # no line is lost
    assert (abs(seen["openvino"].mean() - 0.25) > 0.2) == lost, "the behaviour changed"
    assert np.allclose(seen["openvino"], seen["reference"], atol=1e-4) != lost, "the behaviour changed"
PYTHON
