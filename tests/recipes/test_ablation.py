"""The whole ablation list of resnet50_tricks_imagenet: a small epoch of each row, from its command line to its numbers.

What a trick does to a result is the subject of test_tricks.py.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from public.backbones import build
from public.backbones.resnet import ResNet
from public.config.classification import ClassificationConfig
from public.config.command_line import parse_config
from public.layers.residual import BasicBlock
from public.recipes import classification as recipe
from public.runtime.checkpoint import load_checkpoint
from tests.recipes.runs import ONE_PROCESS
from tests.test_experiments import load_rows

pytestmark = pytest.mark.usefixtures("no_plots")

ROWS = {
    name: row
    for name, row in load_rows("imagenet_experiments/resnet50_tricks_imagenet").items()
    if isinstance(row, ClassificationConfig)
}
KINDS = recipe.ClassificationTask.kinds
OPTIONS = "--network resnet18 --epochs 1 --batch-size 4 --runtime.num-workers 0 --precision fp32"


def build_small(name: str, num_classes: int, **options: Any) -> ResNet:
    """Stands in for the catalog: ResNet-18 with half its blocks and a quarter of its channels, and all its options.

    Not fewer: in NHWC torch 2.15 writes beyond the gradient of a strided 1x1 convolution of 8 channels or less.
    """
    assert name == "resnet18"
    return ResNet(BasicBlock, (1, 1, 1, 1), width=16, num_classes=num_classes, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 training and 4 validation images of noise, in two classes."""
    root = tmp_path_factory.mktemp("ablation")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for number in range(count):
            folder = root / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_row_trains_for_an_epoch(name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on images of 224 pixels, then finite metrics; what needs GPUs says so."""
    monkeypatch.setattr(build, "build_backbone", build_small)
    config, _ = parse_config(
        ROWS, [name, *OPTIONS.split(), "--data.folder", str(data)], recipe.ClassificationTask.kinds
    )
    if config.sync_batch_norm:
        with pytest.raises(ValueError, match="sync_batch_norm=True needs GPUs"):
            recipe.train(config, tmp_path, ONE_PROCESS)
        return
    assert recipe.train(config, tmp_path, ONE_PROCESS) == 0
    checkpoint = load_checkpoint(tmp_path / "checkpoints" / "latest.pth")
    (row,) = checkpoint["metrics"]["history"]
    assert (row["epoch"], checkpoint["epoch"]) == (1, 1)
    assert all(math.isfinite(row[key]) for key in ("train_loss", "loss", "top1", "top5"))
