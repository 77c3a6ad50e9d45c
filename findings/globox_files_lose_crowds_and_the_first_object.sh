#!/usr/bin/env bash
# globox 2.9.0 with pycocotools 2.0.11: globox's COCOEvaluator gives pycocotools' numbers to the last digit where no
# object is a crowd, and other ones where one is: iscrowd is not read, so that a crowd becomes one large object which
# nobody finds, and those found within it become false. "area", by which COCO tells small objects from large ones, is
# taken from the box, where COCO's is the mask's: of a slim object of 40 x 40 small becomes medium. A file that
# save_coco writes has lost both as well, and numbers its annotations from 0: pycocotools keeps 0 for "nothing found",
# and never counts the object of that number as found. faster-coco-eval 1.8.0 does the same, hotcoco 1.3.0 does not.
# Output seen on 2026-12-01, Python 3.11, Linux x86_64, numpy 2.4.6, AP of a detector that finds everything:
#   an object and a crowd: pycocotools 1.000, globox 0.126
#   a small object (area 900): pycocotools 1.000 (medium -1.000), globox 1.000 (medium 1.000)
#   one object: pycocotools 1.000, globox 1.000
#   one object, as globox saves it, id 0: pycocotools 0.000, globox 1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet globox==2.9.0 pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from globox import AnnotationSet, COCOEvaluator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

TRUTH, FOUND, SAVED = (str(Path(sys.argv[1]) / f"{name}.json") for name in ("truth", "found", "saved"))
LABELS, PICTURES = {1: "person"}, {1: "1.jpg"}


def annotation(number: int, bbox: list[float], area: float | None = None, iscrowd: int = 0) -> dict[str, object]:
    area = area or bbox[2] * bbox[3]
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": bbox, "area": area, "iscrowd": iscrowd}


def precisions(truth: str) -> tuple[float, float, float, float]:
    """AP and AP of medium objects, by pycocotools and by globox."""
    found = AnnotationSet.from_coco_results(FOUND, id_to_label=LABELS, id_to_imageid=PICTURES)
    globox = COCOEvaluator(ground_truths=AnnotationSet.from_coco(truth), predictions=found)
    with redirect_stdout(StringIO()):
        coco = COCO(truth)
        evaluation = COCOeval(coco, coco.loadRes(FOUND), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[4]), float(globox.ap()), float(globox.ap_medium())


def write(annotations: list[dict[str, object]], boxes: list[list[float]]) -> None:
    images = [{"id": 1, "width": 400, "height": 400, "file_name": "1.jpg"}]
    truth = {"images": images, "categories": [{"id": 1, "name": "person"}], "annotations": annotations}
    scores = [0.95 - i / 100 for i in range(len(boxes))]
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in zip(boxes, scores)]
    Path(TRUTH).write_text(json.dumps(truth))
    Path(FOUND).write_text(json.dumps(found))


one, crowd = [10.0, 10.0, 50.0, 100.0], [200.0, 200.0, 150.0, 100.0]
within = [[210.0 + 40 * i, 210.0, 40.0, 80.0] for i in range(3)]
write([annotation(1, one), annotation(2, crowd, iscrowd=1)], [*within, one])
own, _, other, _ = precisions(TRUTH)
print(f"an object and a crowd: pycocotools {own:.3f}, globox {other:.3f}")
assert own > 0.999 and abs(other - 0.12624) < 1e-4, "the behaviour changed"

write([annotation(1, [10.0, 10.0, 40.0, 40.0], area=900.0)], [[10.0, 10.0, 40.0, 40.0]])
own, own_medium, other, other_medium = precisions(TRUTH)
print(f"a small object (area 900): pycocotools {own:.3f} (medium {own_medium:.3f}), "
      f"globox {other:.3f} (medium {other_medium:.3f})")
assert own > 0.999 and own_medium == -1 and other_medium > 0.999, "the behaviour changed"

write([annotation(1, one)], [one])
AnnotationSet.from_coco(TRUTH).save_coco(SAVED, label_to_id={"person": 1}, imageid_to_id={"1.jpg": 1})
(saved,) = json.loads(Path(SAVED).read_text())["annotations"]
for name, file, expected in (("one object", TRUTH, 1), (f"one object, as globox saves it, id {saved['id']}", SAVED, 0)):
    own, _, other, _ = precisions(file)
    print(f"{name}: pycocotools {own:.3f}, globox {other:.3f}")
    assert abs(own - expected) < 1e-3 and other > 0.999, "the behaviour changed"
assert saved["id"] == 0 and saved["bbox"] == one, "the behaviour changed"
PYTHON
