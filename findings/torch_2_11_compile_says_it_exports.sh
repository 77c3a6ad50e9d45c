#!/usr/bin/env bash
# torch 2.11.0: torch.compiler.is_exporting(), documented as true under torch.export alone, is true while torch.compile
# traces as well. So what a library writes for exported graphs also runs in compiled training: an operator that stands for
# several in ONNX, the one of two ways that exporters know. Nothing fails, the results agree but for the order of
# additions; only the time, or a gradient in its last digits, tells. In 2.12.1 it is false there. The flag that it
# returns outside of a trace, read by its own name, is right in both.
# Output seen on 2026-11-29, Python 3.11, Linux x86_64, CPU:
#   torch 2.11.0   called False   compiled True    exported True   exported, strict True
#   torch 2.12.1   called False   compiled False   exported True   exported, strict True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
cat >"$folder/exporting.py" <<'PYTHON'
import sys

import torch


class Exporting(torch.nn.Module):
    def forward(self, x):
        return x + (1 if torch.compiler.is_exporting() else 0)


model, zero = Exporting(), torch.zeros(1)
seen = [
    model(zero),
    torch.compile(model, backend="eager", fullgraph=True)(zero),
    *(torch.export.export(model, (zero,), strict=strict).module()(zero) for strict in (False, True)),
]
called, compiled, exported, strict = (bool(value) for value in seen)
version = torch.__version__.partition("+")[0]
print(f"torch {version}   called {called}   compiled {compiled!s:<5}   exported {exported}   exported, strict {strict}")
assert (called, compiled, exported, strict) == (False, sys.argv[1] == "True", True, True), "the behaviour changed"
PYTHON
for pair in 2.11.0:True 2.12.1:False; do
    "${PYTHON:-python3}" -m venv --clear "$folder/venv"
    "$folder/venv/bin/python" -m pip install --quiet "torch==${pair%:*}" numpy
    "$folder/venv/bin/python" "$folder/exporting.py" "${pair#*:}"
done
