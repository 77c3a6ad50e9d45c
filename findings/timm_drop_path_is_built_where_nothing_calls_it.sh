#!/usr/bin/env bash
# timm 1.0.31: LCNet and MobileNet v1 take `drop_path_rate`, give every block a DropPath module with its rate, and never
# call one, because no block of theirs has a shortcut. `print(model)` shows the rates, training has none of them, and
# nothing says so. MobileNet v3 of the same builder calls those of its blocks with a shortcut, 7 of 11 here.
# Output seen on 2026-12-01, Python 3.11, torch 2.14.1, Linux x86_64:
#   lcnet_035: 12 DropPath modules with rates up to 0.46, 0 called
#   mobilenetv1_100: 12 DropPath modules with rates up to 0.46, 0 called
#   mobilenetv3_small_050: 11 DropPath modules with rates up to 0.46, 7 called
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PYTHON'
import timm
import torch
from timm.layers import DropPath


def built_and_called(name: str) -> tuple[int, float, int]:
    """DropPath modules of a network, the highest rate of them, and how many a training pass calls."""
    model = timm.create_model(name, drop_path_rate=0.5).train()
    modules = [module for module in model.modules() if isinstance(module, DropPath)]
    called = set()
    for module in modules:
        module.register_forward_hook(lambda module, *_: called.add(module))
    model(torch.rand(2, 3, 224, 224))
    return len(modules), max(module.drop_prob for module in modules), len(called)


for name, expected in (("lcnet_035", 0), ("mobilenetv1_100", 0), ("mobilenetv3_small_050", 7)):
    built, rate, called = built_and_called(name)
    print(f"{name}: {built} DropPath modules with rates up to {rate:.2f}, {called} called")
    assert built > 10 and called == expected, "the behaviour changed"
PYTHON
