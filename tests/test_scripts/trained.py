"""A detector that learns something in eight steps: one red or blue square in each picture."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from public.config.detection import DetectionConfig
from public.detectors.retinanet.options import RetinaNetOptions
from tests import warm_python
from tests.conftest import ROOT
from tests.recipes.tiny_detection import TINY

COLORS = {"red": (220, 30, 30), "blue": (30, 60, 220)}
CLASS_NAMES = ["blue", "red"]
"""In the order of their category ids, 3 and 90."""
NUM_TRAIN, NUM_VAL = 16, 5
TRAIN = "from config import CONFIGS\nfrom public.recipes.detection import main\nmain(CONFIGS, __file__)\n"
"""The train.py of an experiment."""
OWN = """
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Darker:
    share: float
    num_draws: ClassVar[int] = 0
    per_batch: ClassVar[bool] = False

    def __call__(self, sample, draws):
        return sample._replace(image=(sample.image * self.share).astype("uint8"))
"""
"""A transform of an experiment's own."""


class TrainedRun(NamedTuple):
    """An experiment folder with a finished run."""

    folder: Path
    """With config.py and runs/tiny/."""
    row: DetectionConfig
    data: Path
    """The data set, in COCO's layout."""

    @property
    def best(self) -> Path:
        """The best checkpoint."""
        return self.folder / "runs" / "tiny" / "checkpoints" / "best.pth"

    @property
    def val_images(self) -> list[Path]:
        """Sorted."""
        return sorted((self.data / "images" / "val2017").iterdir())


def row_on(data: Path) -> DetectionConfig:
    """Two epochs of four steps, with averaged weights, which are not the trained ones; weak detections are kept."""
    detector = RetinaNetOptions(
        backbone="mobilenet_v2",
        frozen_batch_norm=True,
        levels=("p4", "p5"),
        channels=32,
        num_convs=1,
        anchor_sizes=(24.0, 32.0),
        score_threshold=0.001,
    )
    return replace(
        TINY,
        ema_decay=0.5,
        detector=detector,
        data=replace(TINY.data, folder=str(data), train_transforms=TINY.data.val_transforms),
        optimizer=replace(TINY.optimizer, lr=3e-3),
    )


def write_squares(root: Path) -> None:
    """Both splits, images of 56 to 71 pixels a side, ids and categories with gaps."""
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": 90, "name": "red"}, {"id": 3, "name": "blue"}]
    for split, count, seed in (("train2017", NUM_TRAIN, 0), ("val2017", NUM_VAL, 1)):
        (root / "images" / split).mkdir(parents=True)
        rng = np.random.default_rng(seed)
        images, annotations = [], []
        for number in range(count):
            height, width, side = (int(rng.integers(*limits)) for limits in ((56, 72), (56, 72), (24, 40)))
            x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
            category = categories[number % 2]
            pixels = np.full((height, width, 3), 110, np.uint8)
            pixels[y : y + side, x : x + side] = COLORS[category["name"]]
            header = {"id": 5 * number + 3, "file_name": f"{number:03d}.png", "width": width, "height": height}
            Image.fromarray(pixels).save(root / "images" / split / header["file_name"])
            box = {"bbox": [x, y, side, side], "area": side * side, "category_id": category["id"], "iscrowd": 0}
            images.append(header)
            annotations.append({"id": number + 1, "image_id": header["id"], **box})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def run_script(script: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A program of an experiment's folder, as a person starts it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [warm_python.executable(), str(script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
