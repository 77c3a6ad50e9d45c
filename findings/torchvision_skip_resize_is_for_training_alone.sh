#!/usr/bin/env bash
# torchvision 0.29.1: a detector that is built with `_skip_resize=True`, which torchvision's own training script passes
# for its augmentations of changing size, takes training images as they are, and resizes them in evaluation to min_size
# all the same (800 pixels unless told). A network that was trained on small images then sees objects several times as
# large, and says nothing: a FCOS that we trained on 240 x 320 pixels had mAP50 0.0008 on blood cells, with a training
# loss as low as it should be. min_size and max_size have to be given as well.
# Output seen on 2026-11-28, Python 3.11, torch 2.14.1, Linux x86_64:
#   _skip_resize=True, training: 240 x 320 -> 240 x 320
#   _skip_resize=True, evaluation: 240 x 320 -> 800 x 1066
#   min_size=240, max_size=320, evaluation: 240 x 320 -> 240 x 320
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torchvision.models.detection import fcos_resnet50_fpn


def seen_size(training: bool, **options: object) -> tuple[int, int]:
    """Height and width that the network sees of a picture of 240 x 320 pixels, padding apart."""
    model = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, **options).train(training)
    images, _ = model.transform([torch.rand(3, 240, 320)])
    return images.image_sizes[0]


for words, training, options, expected in (
    ("_skip_resize=True, training", True, {"_skip_resize": True}, (240, 320)),
    ("_skip_resize=True, evaluation", False, {"_skip_resize": True}, (800, 1066)),
    ("min_size=240, max_size=320, evaluation", False, {"min_size": 240, "max_size": 320}, (240, 320)),
):
    height, width = seen_size(training, **options)
    print(f"{words}: 240 x 320 -> {height} x {width}")
    assert (height, width) == expected, "the behaviour changed"
PYTHON
