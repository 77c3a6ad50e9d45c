#!/usr/bin/env bash
# supervision 0.31.2 with pycocotools 2.0.11: DetectionDataset.as_coco writes a mask as the polygon through the middles
# of its outermost pixels. supervision fills such a polygon with its edge when it reads the file again, so that nothing
# seems lost; pycocotools, and whoever evaluates by it, takes the corners as corners: a row and a column are gone. The
# file's "area" is still the mask's, its "bbox" a pixel smaller. A detector that finds every mask to the pixel then has
# no mask AP of 1 on such a file: 0.7 for squares of 10 pixels, 0.2 for squares of 4, and 0.9 for squares of 32.
# Output seen on 2026-12-01, Python 3.11, Linux x86_64, opencv-python 5.0.0.93, numpy 2.4.6:
#   side 4: 16 pixels, by supervision 16, by pycocotools 9, area 16.0, bbox 3.0 x 3.0, AP of the same mask 0.2
#   side 10: 100 pixels, by supervision 100, by pycocotools 81, area 100.0, bbox 9.0 x 9.0, AP of the same mask 0.7
#   side 32: 1024 pixels, by supervision 1024, by pycocotools 961, area 1024.0, bbox 31.0 x 31.0, AP of the same mask 0.9
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    supervision==0.31.2 pycocotools==2.0.11 opencv-python==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import supervision
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

for side, pixels, precision in ((4, 9, 0.2), (10, 81, 0.7), (32, 961, 0.9)):
    folder = Path(sys.argv[1]) / str(side)
    folder.mkdir()
    picture, file = str(folder / "picture.png"), str(folder / "annotations.json")
    cv2.imwrite(picture, np.zeros((64, 64, 3), np.uint8))
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 8 : 8 + side, 16 : 16 + side] = True
    boxes = supervision.mask_to_xyxy(mask).astype(float)
    thing = supervision.Detections(xyxy=boxes, mask=mask, class_id=np.array([0]))
    data = supervision.DetectionDataset(classes=["thing"], images=[picture], annotations={picture: thing})
    data.as_coco(annotations_path=file)
    again = supervision.DetectionDataset.from_coco(str(folder), file, force_masks=True).annotations[picture]
    with redirect_stdout(StringIO()):
        truth = COCO(file)
        (written,) = truth.dataset["annotations"]
        found = {key: written[key] for key in ("image_id", "category_id")} | {"score": 0.9}
        results = truth.loadRes([found | {"segmentation": masks.encode(np.asfortranarray(mask[0], np.uint8))}])
        evaluation = COCOeval(truth, results, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    area, read = int(mask.sum()), int(truth.annToMask(written).sum())
    *_, width, height = written["bbox"]
    print(f"side {side}: {area} pixels, by supervision {int(again.mask.sum())}, by pycocotools {read}, "
          f"area {written['area']}, bbox {width} x {height}, AP of the same mask {evaluation.stats[0]:.1f}")
    assert int(again.mask.sum()) == written["area"] == area, "the behaviour changed"
    assert (read, width, height) == (pixels, side - 1, side - 1), "the behaviour changed"
    assert abs(evaluation.stats[0] - precision) < 1e-6, "the behaviour changed"
PYTHON
