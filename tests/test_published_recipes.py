"""The recipes that reach more than the predecessors', each for an epoch on a few generated images, networks small."""

from pathlib import Path

import pytest
import torch

from public.config.calls import build_all
from public.config.command_line import parse_config
from public.config.experiment import load_configs
from public.recipes import classification, detection
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from tests.datasets.test_recognition import coco_2017
from tests.test_own_images import write_flowers

pytestmark = pytest.mark.usefixtures("no_plots")

ROOT = Path(__file__).parents[1]
QUICK = (
    *("--epochs", "1", "--schedule.warmup-epochs", "0", "--data.input-size", "64"),
    *("--runtime.num-workers", "0", "--runtime.device", "cpu", "--precision", "fp32"),
)
IMAGES = (*QUICK, "--network", "resnet18", "--batch-size", "4")
BOXES = (*QUICK, "--detector.backbone", "darknet_tiny", "--backbone-weights", "None", "--batch-size", "2")


@pytest.mark.slow
@pytest.mark.parametrize("row", ["a3", "torchvision_v2"])
def test_a_recipe_of_resnet50_trains(row: str, tmp_path: Path, context: DistributedContext) -> None:
    """Two steps: its mixed images, loss, optimizer and averages work together."""
    write_flowers(tmp_path / "data" / "train", {"daisy": 4, "rose": 4}, 0)
    write_flowers(tmp_path / "data" / "val", {"daisy": 2, "rose": 2}, 1)
    configs = load_configs(ROOT / "imagenet_experiments" / "resnet50_recipes_imagenet")
    arguments = [row, "--data.folder", str(tmp_path / "data"), *IMAGES]
    config, _ = parse_config(configs, arguments, classification.ClassificationTask.kinds)
    assert classification.train(config, tmp_path / "run", context) == 0
    assert "top1" in load_checkpoint(tmp_path / "run" / "checkpoints" / "best.pth")["metrics"]["best"]


def test_half_of_a3s_operations_take_place() -> None:
    """Two of 14 operations, one of which does nothing, each with a probability of .5: (.5 + .5 / 14)^2 = 0.287 of the
    images stay what they are. Their colors span less than 0 to 255, so that every other operation changes them."""
    row = load_configs(ROOT / "imagenet_experiments" / "resnet50_recipes_imagenet")["a3"]
    _, _, *operations = build_all(row.data.train_transforms, 224)
    torch.manual_seed(0)
    image = torch.randint(40, 200, (3, 12, 12), dtype=torch.uint8)
    same = 0
    for _ in range(200):
        changed = image
        for operation in operations:
            changed = operation(changed)
        same += torch.equal(changed, image)
    assert same == pytest.approx(0.287 * 200, abs=3 * 6.4)  # sqrt(200 x 0.287 x 0.713) = 6.4


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",
    ["resnet50_retinanet_coco", "resnet50_fcos_coco", "resnet50_faster_rcnn_coco", "resnet18_centernet_coco"],
)
def test_a_recipe_of_coco_trains(experiment: str, tmp_path: Path, context: DistributedContext) -> None:
    """A step on the two training images that have boxes, and an evaluation."""
    coco_2017(tmp_path / "data")
    configs = load_configs(ROOT / "detection_experiments" / experiment)
    arguments = ["--data.folder", str(tmp_path / "data"), *BOXES]
    config, _ = parse_config(configs, arguments, detection.DetectionTask.kinds)
    assert detection.train(config, tmp_path / "run", context) == 0
    assert "AP" in load_checkpoint(tmp_path / "run" / "checkpoints" / "best.pth")["metrics"]["best"]
