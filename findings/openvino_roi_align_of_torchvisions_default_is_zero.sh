#!/usr/bin/env bash
# openvino 2026.4.1 with torchvision 0.29.1: roi_align with sampling_ratio=-1, torchvision's default ("as many points as
# the region has pixels"), gives zeros everywhere once the network was converted by openvino.convert_model, and nothing
# is said: the -1 is handed on as it is, while OpenVINO's own operator knows 0 alone for it, as ONNX does. Behind it every
# region looks alike to a detector's head, which then gives the same scores and offsets for all of them. torchvision
# takes 0 and -1 alike, so that writing 0 in the network repairs it; so does the way through torch.onnx.export, which
# writes 0 by itself. torchvision's own Faster R-CNN is not hit: it asks for 2 points.
# Output seen on 2026-11-30, Python 3.11, torch 2.14.1, Linux x86_64, for a map of ones:
#   sampling_ratio=-1   torchvision 1.00   openvino 0.00
#   sampling_ratio=0    torchvision 1.00   openvino 1.00
#   sampling_ratio=2    torchvision 1.00   openvino 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 torchvision==0.29.1 openvino==2026.4.1 packaging
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import openvino
import torch
from torchvision.ops import RoIAlign

maps = torch.ones(1, 1, 32, 32)
regions = torch.tensor([[0.0, 2.0, 2.0, 26.0, 26.0], [0.0, 1.0, 1.0, 9.0, 9.0]])  # within the map
for ratio, expected in ((-1, 0.0), (0, 1.0), (2, 1.0)):
    for aligned in (False, True):
        layer = RoIAlign(4, spatial_scale=1.0, sampling_ratio=ratio, aligned=aligned).eval()
        own = layer(maps, regions)
        traced = openvino.convert_model(layer, example_input=(maps, regions))
        exported = openvino.convert_model(torch.export.export(layer, (maps, regions)))
        for converted in (traced, exported):
            seen = torch.from_numpy(openvino.compile_model(converted, "CPU")((maps.numpy(), regions.numpy()))[0])
            torch.testing.assert_close(own, torch.ones(2, 1, 4, 4))
            assert torch.allclose(seen, torch.full_like(own, expected)), "the behaviour changed"
    print(f"sampling_ratio={ratio:<4} torchvision {own.mean():.2f}   openvino {seen.mean():.2f}")
PYTHON
