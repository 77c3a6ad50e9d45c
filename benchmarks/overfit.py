"""Each detector learns 16 or 8 real photos by heart: what cannot, has a wrong target, loss or decoding somewhere.

    python -m benchmarks.overfit
    python -m benchmarks.overfit --detectors centernet

The photos are the first of coco_mini's training split that have objects and none narrower than `--smallest` pixels on
the canvas, which three pyramid levels from stride 8 on cannot see. The recipe is the one that experiments run, without
augmentation; the run folders (curves, pictures) lie below `--folder`. Faster R-CNN has the backbone DetNet-59 and its
pyramid, with random weights; the others have a MobileNetV2.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import tyro

from benchmarks.compare import append_result, benchmark_device, find_data
from public.config.calls import SIZE, Call
from public.config.detection import DetectionConfig
from public.config.options import DetectorOptions
from public.config.run import RuntimeConfig
from public.datasets.coco import CocoData, read_coco
from public.detectors.centernet.options import CenterNetOptions
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.options import RetinaNetOptions
from public.optim.options import AdamWOptions, CosineOptions
from public.recipes.detection import train
from public.runtime.distributed import DistributedContext
from public.transforms.detection import SquareResize

Name = Literal["retinanet", "fcos", "centernet", "faster_rcnn"]
CLAIMED = 0.9
"""AP50 on the photos that were learnt."""


class Lesson(NamedTuple):
    """What a detector learns, and how long."""

    detector: DetectorOptions
    """How it is built."""
    images: int = 16
    """Photos."""
    epochs: int = 120
    """Passes over them."""
    batch_size: int = 8
    """Photos of a step."""


PYRAMID: dict[str, Any] = {
    "backbone": "mobilenet_v2",
    "levels": ("p3", "p4", "p5"),
    "channels": 96,
    "num_convs": 2,
}
DETNET = FasterRCNNOptions(
    backbone="detnet59",
    pyramid="detnet",
    channels=96,
    anchor_sizes=(12.0, 24.0, 48.0, 96.0, 160.0),
    rpn_samples=128,
    num_candidates=(300, 300),
    num_proposals=(300, 100),
    roi_samples=64,
    head_channels=256,
)
LESSONS: dict[Name, Lesson] = {
    "retinanet": Lesson(RetinaNetOptions(**PYRAMID, anchor_sizes=(24.0, 64.0, 160.0))),
    "fcos": Lesson(FCOSOptions(**PYRAMID)),
    # It has no more than one positive an object.
    "centernet": Lesson(CenterNetOptions(backbone="mobilenet_v2", upsample_channels=(128, 96, 64)), epochs=300),
    "faster_rcnn": Lesson(DETNET, images=8, epochs=200, batch_size=4),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    detectors: tuple[Name, ...] = get_args(Name)
    """Which to train."""
    images: int | None = None
    """Photos to learn; None: 16, of Faster R-CNN 8."""
    canvas: int = 256
    """Height and width in pixels."""
    smallest: float = 6.0
    """Of an object's sides on the canvas, pixels."""
    epochs: int | None = None
    """Passes over the photos; None: 120, of CenterNet 300, of Faster R-CNN 200."""
    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    backbone_weights: str | None = None
    """Classification weights of the backbone; None: random."""
    folder: Path = Path("runs/overfit")
    """Where the run folders and the small data set go."""
    seed: int = 0
    """Of weights and order."""


def small_copy(root: Path, num_images: int, options: Options, folder: Path) -> int:
    """Writes a COCO data set with links to the chosen photos, the same ones for both splits; gives their objects."""
    annotations = read_coco(root, "train2017")
    longest = annotations.sizes.max(axis=1)  # [N]
    chosen = [i for i in range(annotations.num_images) if _all_visible(*annotations.of(i), longest[i], options)]
    ids = {int(annotations.image_ids[i]) for i in chosen[:num_images]}
    whole = json.loads((root / "annotations/instances_train2017.json").read_text())
    part = {
        "images": [image for image in whole["images"] if image["id"] in ids],
        "annotations": [box for box in whole["annotations"] if box["image_id"] in ids],
    }
    used = {box["category_id"] for box in part["annotations"]}
    part["categories"] = [category for category in whole["categories"] if category["id"] in used]
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    for split in ("train2017", "val2017"):
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(part))
        link = folder / "images" / split
        link.unlink(missing_ok=True)
        os.symlink(root / "images/train2017", link)
    return len(part["annotations"])


def _all_visible(boxes: np.ndarray, labels: np.ndarray, longest_side: int, options: Options) -> bool:
    sides = (boxes[:, 2:] - boxes[:, :2]) * options.canvas / longest_side
    return len(boxes) > 0 and bool((labels >= 0).all()) and bool((sides >= options.smallest).all())


def config_of(name: Name, folder: Path, options: Options) -> DetectionConfig:
    """The run of one detector."""
    lesson = LESSONS[name]
    resize = (Call(SquareResize, size=SIZE),)
    epochs = options.epochs or lesson.epochs
    return DetectionConfig(
        name=name,
        backbone_weights=options.backbone_weights,
        epochs=epochs,
        batch_size=lesson.batch_size,
        clip_grad_norm=10.0,
        evaluate_every=max(epochs // 3, 1),
        best_metric="AP50",
        seed=options.seed,
        detector=lesson.detector,
        data=CocoData(
            folder=str(folder.resolve()),
            input_size=options.canvas,
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=resize,
            val_transforms=resize,
        ),
        optimizer=AdamWOptions(lr=options.lr, weight_decay=0.0),
        schedule=CosineOptions(warmup_epochs=epochs / 20),
        runtime=RuntimeConfig(num_workers=2),
    )


def last_ap50(run: Path) -> float:
    """AP50 after the last epoch of a run."""
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["AP50"]


def main(options: Options) -> None:
    """Trains, prints and appends to results.jsonl."""
    root, data = find_data("coco_mini", "COCO2017")
    device = benchmark_device()
    for name in options.detectors:
        num_images = options.images or LESSONS[name].images
        small, run = options.folder / f"data_{num_images}", options.folder / name
        num_objects = small_copy(root, num_images, options, small)
        train(config_of(name, small, options), run, DistributedContext(rank=0, size=1, device=device), fresh=True)
        ap50 = last_ap50(run)
        words = f"{num_images} photos with {num_objects} objects of {data} at {options.canvas}"
        print(f"{name}: AP50 {ap50:.3f} on {words}; claimed above {CLAIMED}", flush=True)
        append_result(f"overfit_{name}", {"AP50": round(ap50, 4), "claimed": CLAIMED}, device, words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
