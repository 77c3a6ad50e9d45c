#!/usr/bin/env bash
# hotcoco 1.3.0: the intervals of compare(..., n_bootstrap) are about a fifth too narrow. An image that a resample holds
# several times seems to count once: that is the size of the lack.
# 400 images with one object each; A finds the objects of every second image, B all of them. The AP of A on a resample
# is the share of its images whose object A finds, so that the 95 % interval of the difference must be
# 2 * 1.96 * sqrt(0.5 * 0.5 / 400) = 0.098 wide (AP is read at 101 recalls: to 0.01). Counting each image of a resample
# once has sqrt(1 / 0.632 - 1) = 0.76 of that, 0.075.
# Output seen on 2026-11-28, Python 3.11: difference 0.495, interval 0.069 wide, should be 0.098
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet hotcoco==1.3.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

from hotcoco import COCO, COCOeval, compare

box, numbers = [10.0, 10.0, 50.0, 50.0], range(1, 401)
objects = [
    {"id": i, "image_id": i, "category_id": 1, "bbox": box, "area": 2500.0, "iscrowd": 0} for i in numbers
]
path = Path(sys.argv[1]) / "truth.json"
path.write_text(
    json.dumps({
        "images": [{"id": i, "width": 100, "height": 100, "file_name": f"{i}.jpg"} for i in numbers],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": objects,
    })
)
truth = COCO(str(path))


def evaluation(found):
    results = [{"image_id": i, "category_id": 1, "bbox": box, "score": 0.9} for i in found]
    result = COCOeval(truth, truth.load_res(results), "bbox")
    result.evaluate()
    return result


seen = compare(evaluation(numbers[::2]), evaluation(numbers), n_bootstrap=2000, seed=0, confidence=0.95)
interval = seen["ci"]["AP"]
low, high = (interval[k] for k in ("lower", "upper")) if isinstance(interval, dict) else interval[:2]
print(f"difference {seen['deltas']['AP']:.3f}, interval {high - low:.3f} wide, should be 0.098")
assert 0.065 < high - low < 0.085, "hotcoco's intervals are no longer too narrow: compare could be used"
PYTHON
