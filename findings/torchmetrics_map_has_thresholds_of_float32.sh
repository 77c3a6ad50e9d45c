#!/usr/bin/env bash
# torchmetrics 1.9.0: MeanAveragePrecision calls pycocotools, but is not equal to it: its thresholds come from
# torch.linspace, which is float32, and are compared with overlaps and recalls of float64. 0.55, 0.6, 0.8 and 0.85 are a
# little larger than COCO's, so that a box that reaches one of them exactly (no rarity where boxes are whole pixels) is
# found for pycocotools and missed here; at some of the 101 recalls precision is read one object later. On eight images
# with boxes of whole pixels that was up to 0.0015 mAP, more than many a change that is published gains. The other backend,
# faster_coco_eval, gets the same thresholds. COCO's own, handed over, repair it: then both were equal to pycocotools.
# Output seen on 2026-11-30, Python 3.11, Linux x86_64, torch 2.14.1, pycocotools 2.0.11, numpy 2.4.6:
#   one box, overlap 0.6: torchmetrics 0.20000, with pycocotools' thresholds 0.30000
#   10 of 10 found, each before a false one: torchmetrics 0.61045, with pycocotools' thresholds 0.61051
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    torch==2.14.1 torchvision==0.29.1 torchmetrics==1.9.0 pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
from pycocotools.cocoeval import Params
from torchmetrics.detection import MeanAveragePrecision

own = {"iou_thresholds": Params("bbox").iouThrs.tolist(), "rec_thresholds": Params("bbox").recThrs.tolist()}
row = [[20.0 * i, 0.0, 10.0, 10.0] for i in range(10)]
mixed = [[x, y, 10.0, 10.0] for x, *_ in row for y in (0.0, 50.0)]  # those at y = 50 are false
for name, truth, found, expected in (
    ("one box, overlap 0.6", row[:1], [[0.0, 0.0, 10.0, 6.0]], (0.2, 0.3)),
    ("10 of 10 found, each before a false one", row, mixed, (0.61045, 0.61051)),
):
    seen = []
    for options in ({}, own):
        metric = MeanAveragePrecision(box_format="xywh", **options)
        labels = [torch.ones(len(boxes), dtype=torch.long) for boxes in (truth, found)]
        results = {"boxes": torch.tensor(found), "scores": 1 - torch.arange(len(found)) / 32, "labels": labels[1]}
        metric.update([results], [{"boxes": torch.tensor(truth), "labels": labels[0]}])
        seen.append(metric.compute()["map"].item())
    print(f"{name}: torchmetrics {seen[0]:.5f}, with pycocotools' thresholds {seen[1]:.5f}")
    assert np.allclose(seen, expected, atol=4e-6), "the behaviour changed"
PYTHON
