"""Checkpoints of a small detector and a small classifier, with batch norms as after some training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from public.backbones.build import build_from_options as build_classifier
from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.record import to_record
from public.datasets.imagenet import ImageFolderData
from public.detectors.catalog import build_from_options as build_detector
from public.optim.options import ConstantOptions, SGDOptions
from public.runtime.checkpoint import save_checkpoint
from public.transforms.detection import ShortSideResize
from tests.recipes.tiny_detection import TINY

NAMES, IDS = ["cat", "dog", "owl"], [3, 7, 90]
SHOWN = (Call(v2.Resize, size=(SIZE, SIZE)),)
CLASSIFIER = ClassificationConfig(
    name="tiny",
    network="mobilenet_v2",
    epochs=1,
    batch_size=8,
    data=ImageFolderData(folder="x", input_size=64, train_transforms=SHOWN, val_transforms=SHOWN),
    optimizer=SGDOptions(lr=0.1, weight_decay=0.0),
    schedule=ConstantOptions(),
)


def lived(module: nn.Module) -> nn.Module:
    """In evaluation mode, its batch norms with statistics and weights as after some training."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.2, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
    return module.eval()


@torch.no_grad()
def see_noise(network: nn.Module) -> None:
    """Gives the batch norms the statistics of some images, without which what they show is lost on the way."""
    network.train()
    for _ in range(30):
        network(torch.randn(8, 3, 64, 64))
    network.eval()


def save_classifier(path: Path, **entries: Any) -> Path:
    """Of three classes, at 64 x 64 pixels."""
    torch.manual_seed(0)
    network = lived(build_classifier(CLASSIFIER.network, 3, CLASSIFIER.network_options))
    see_noise(network)
    nn.init.normal_(network.get_parameter("classifier.1.weight"), 0, 0.3)  # so that it is sure of something
    state = {"config": to_record(CLASSIFIER), "class_names": NAMES, "model": network.state_dict()}
    assert save_checkpoint(path, state | entries)
    return path


def save_detector(path: Path, **entries: Any) -> Path:
    """Of three classes; canvases of 64 pixels' short side, so that their sizes differ; every score from 0 on counts."""
    torch.manual_seed(0)
    data = replace(TINY.data, val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=128),))
    config = replace(TINY, data=data, detector=replace(TINY.detector, score_threshold=0.0, max_detections=20))
    detector = lived(build_detector(3, config.detector))
    state = {"config": to_record(config), "class_names": NAMES, "category_ids": IDS, "model": detector.state_dict()}
    assert save_checkpoint(path, state | entries)
    return path


def write_pictures(folder: Path) -> list[Path]:
    """Five of three sizes, of blobs, so that their pixels make a difference; as PNG files, whose pixels are exact."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (height, width) in enumerate([(70, 90), (90, 70), (70, 90), (64, 64), (90, 70)]):
        rng = np.random.default_rng(number)
        blobs = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.png")
        blobs.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return paths
