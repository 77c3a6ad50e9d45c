"""detection_experiments/own_data_finetune on every layout that is recognized, and one data set in three formats."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from public.config.command_line import parse_config
from public.config.detection import DetectionConfig
from public.config.experiment import load_configs
from public.datasets.annotations import DetectionAnnotations
from public.datasets.formats import resolved
from public.datasets.predictions import Predictions
from public.datasets.scan import clean
from public.datasets.splits import PURPOSES, Purpose, scan_split
from public.evaluation.detection import evaluator_of
from public.recipes.detection import DetectionTask, train
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from public.test_scripts.detection import main
from public.test_scripts.test_on_coco import COCO
from tests.datasets.test_recognition import LAYOUTS, voc_raccoons, yolo

pytestmark = pytest.mark.usefixtures("no_plots")

EXPERIMENT = Path(__file__).parents[1] / "detection_experiments" / "own_data_finetune"
QUICK = [
    *("mobilenet_v2", "--backbone-weights", "None", "--detector.channels", "32"),
    *("--epochs", "1", "--schedule.warmup-epochs", "0", "--batch-size", "2", "--data.input-size", "32"),
    *("--runtime.num-workers", "0", "--runtime.device", "cpu", "--precision", "fp32"),
]


def config_on(folder: Path, *options: str) -> DetectionConfig:
    """What the experiment's command line makes, but for size and length."""
    arguments = [*QUICK, "--data.folder", str(folder), *options]
    return parse_config(load_configs(EXPERIMENT), arguments, DetectionTask.kinds)[0]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_trains(tmp_path: Path, context: DistributedContext, layout: str) -> None:
    """A step on its two training images, and an evaluation by COCO's rules; the record names the format."""
    write, kind, *_ = LAYOUTS[layout]
    root = tmp_path / "pets"
    root.mkdir()
    write(root)
    assert train(config_on(root), tmp_path / "run", context) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.pth")
    assert sorted(checkpoint["class_names"]) == ["cat", "dog"]
    assert (checkpoint["num_images"], set(checkpoint["metrics"]["best"]) >= {"AP", "AP50"}) == (2, True)
    assert checkpoint["config"]["data"]["type"].endswith(f".{kind.__name__}")


@pytest.mark.parametrize("row", ["resnet50", "mobilenet_v2"])
def test_a_run_of_three_epochs_is_evaluated_on_the_way(row: str) -> None:
    """The card's length for 50,000 images: an AP before the last of its 16,000 steps."""
    config = parse_config(load_configs(EXPERIMENT), [row, "--epochs", "3"], DetectionTask.kinds)[0]
    assert config.epochs == 3
    assert config.evaluate_every < 3


def yolo_train_alone(root: Path) -> None:
    """data.yaml without val."""
    yolo(root)
    (root / "data.yaml").write_text("train: images/train\nnames: [dog, cat]\n")


@pytest.mark.slow
@pytest.mark.parametrize("write", [voc_raccoons, yolo_train_alone])
def test_data_without_a_split_trains_and_is_tested(
    tmp_path: Path, context: DistributedContext, capsys: pytest.CaptureFixture[str], write: Any
) -> None:
    """Divided by a hash of the names; test.sh takes the same images from the checkpoint alone."""
    root = tmp_path / "pets"
    root.mkdir()
    write(root)
    config = config_on(root, "--batch-size", "1", "--optimizer.lr", "1e-4")
    assert train(config, tmp_path / "run", context) == 0
    best = tmp_path / "run" / "checkpoints" / "best.pth"
    kept = load_checkpoint(best)["config"]["data"]["val_images"]
    assert len(kept) == 1
    main(COCO, ["--weights", str(best), "--device", "cpu", "--num-workers", "0", "--time-batches", "1"])
    assert "1 images" in capsys.readouterr().out


# ---- one data set, three formats -------------------------------------------------------------------------------------


def as_yolo(annotations: DetectionAnnotations, root: Path, split: str) -> None:
    """Images and labels of a split, in shares of the images' sides with all digits."""
    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True)
    for row, file in enumerate(annotations.files.tolist()):
        source = annotations.folder / os.fsdecode(file)
        (root / "images" / split / source.name).symlink_to(source)
        boxes, labels = annotations.of(row)
        height, width = annotations.sizes[row].tolist()
        x1, y1, x2, y2 = boxes.astype(np.float64).T
        shares = np.stack(
            [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], axis=1
        )
        lines = [
            f"{label} {' '.join(map(repr, box))}\n" for label, box in zip(labels.tolist(), shares.tolist(), strict=True)
        ]
        (root / "labels" / split / f"{source.stem}.txt").write_text("".join(lines))
    names = json.dumps(annotations.class_names)
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")


def as_roboflow(annotations: DetectionAnnotations, root: Path, split: str) -> None:
    """A folder of images with _annotations.coco.json, and Roboflow's placeholder category."""
    folder = root / {"train": "train", "val": "valid"}[split]
    folder.mkdir(parents=True)
    images, objects = [], []
    for row, file in enumerate(annotations.files.tolist()):
        source = annotations.folder / os.fsdecode(file)
        (folder / source.name).symlink_to(source)
        height, width = annotations.sizes[row].tolist()
        images.append({"id": row, "file_name": source.name, "height": height, "width": width})
        boxes, labels = annotations.of(row)
        for (x1, y1, x2, y2), label in zip(boxes.astype(np.float64).tolist(), labels.tolist(), strict=True):
            one = {"id": len(objects), "image_id": row, "category_id": label + 1, "iscrowd": 0}
            objects.append(one | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
    categories = [{"id": 0, "name": "cells", "supercategory": "none"}]
    categories += [
        {"id": label + 1, "name": name, "supercategory": "cells"} for label, name in enumerate(annotations.class_names)
    ]
    content = {"images": images, "annotations": objects, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def read(folder: Path, purpose: Purpose, class_names: list[str] | None = None) -> DetectionAnnotations:
    """A split as training reads it."""
    return clean(scan_split(resolved(config_on(folder).data), purpose, class_names))


def sorted_by_name(annotations: DetectionAnnotations) -> list[tuple[str, np.ndarray, list[int]]]:
    """Each image's name, boxes and labels."""
    names = [Path(os.fsdecode(file)).name for file in annotations.files.tolist()]
    rows = sorted(range(len(names)), key=names.__getitem__)
    return [(names[row], annotations.of(row)[0], annotations.of(row)[1].tolist()) for row in rows]


def moved_truth(annotations: DetectionAnnotations) -> Predictions:
    """A fixed detector's predictions: the objects, by images in the order of names, moved and scored by chance."""
    rng = np.random.default_rng(0)
    images = sorted(range(annotations.num_images), key=lambda row: Path(os.fsdecode(annotations.files[row])).name)
    found = [(annotations.image_ids[row], *annotations.of(row)) for row in images]
    boxes = np.concatenate([boxes for _, boxes, _ in found])
    labels = np.concatenate([labels for *_, labels in found])
    return Predictions(
        np.concatenate([np.full(len(boxes), image) for image, boxes, _ in found]),
        (boxes + rng.normal(0, 6, boxes.shape).round()).astype(np.float32),
        rng.random(len(boxes), dtype=np.float32),
        np.where(rng.random(len(boxes)) < 0.1, 0, labels),
    )


@pytest.mark.slow
def test_blood_cells_as_given_as_yolo_and_as_coco(real_data: Path, tmp_path: Path) -> None:
    """Equal boxes (to 1e-4 pixels: YOLO's shares are rounded), equal labels, and equal AP of the same predictions."""
    given = real_data / "bccd" / "VOCdevkit"
    names = ["RBC", "WBC", "Platelets"]
    metrics = []
    for purpose in PURPOSES:
        expected = read(given, purpose, names)
        assert expected.num_boxes == {"train": 2804, "val": 1137}[purpose]
        as_yolo(expected, tmp_path / "yolo", purpose)
        as_roboflow(expected, tmp_path / "roboflow", purpose)
    for folder in (given, tmp_path / "yolo", tmp_path / "roboflow"):
        for purpose in PURPOSES:
            found = read(folder, purpose, names)
            for ours, theirs in zip(sorted_by_name(found), sorted_by_name(read(given, purpose, names)), strict=True):
                assert (ours[0], ours[2]) == (theirs[0], theirs[2])
                np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-4)
        truth, found = moved_truth(read(given, "val", names)), read(folder, "val", names)
        metrics.append(
            evaluator_of("coco")(found).evaluate(truth._replace(image_ids=moved_truth(found).image_ids)).metrics
        )
    assert 0.2 < metrics[0]["AP"] < 0.9
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-12)
    assert metrics[2] == pytest.approx(metrics[0], abs=1e-12)
