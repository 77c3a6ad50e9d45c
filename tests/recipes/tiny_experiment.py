"""A run that takes a second: a copy of this file in an empty folder is the train.py of a whole experiment.

The images are 16 pixels wide. The network has no batch norm, so that its results do not depend on how a batch is shared
out, and dropout, so that they do depend on the state of the random generators.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.recipes import start
from public.recipes.classification import ClassificationTask, main
from public.runtime.distributed import DistributedContext


class TinyNetwork(nn.Module):
    """Two convolutions and a linear layer."""

    classifier_prefix = "fc."

    def __init__(self, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, num_classes]."""
        x = self.conv2(self.conv1(images).relu()).relu()  # [B, 16, H/4, W/4]
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


class TinyTask(ClassificationTask):
    """Brings a network of its own: 'tiny' (with dropout) and 'tiny_plain' (without)."""

    kinds = tuple(kind for kind in ClassificationTask.kinds if kind.option != "network")

    @classmethod
    def check(cls, config: ClassificationConfig) -> None:
        """The catalog does not know it."""

    @classmethod
    def build_network(cls, config: ClassificationConfig, num_classes: int) -> nn.Module:
        """With new weights."""
        return TinyNetwork(num_classes, dropout=0.0 if config.network == "tiny_plain" else 0.2)


def train(config: ClassificationConfig, path: Path, **options: Any) -> int:
    """Trains in this process; gives the exit code."""
    context = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    return start.train(config, path, context, TinyTask, folder=Path(__file__).parent, **options)


TINY = ClassificationConfig(
    name="tiny",
    network="tiny",
    epochs=3,
    batch_size=8,
    ema_decay=0.8,
    precision="fp32",
    data=ImageFolderData(
        folder=os.environ.get("TINY_DATA", "tiny"),
        input_size=16,
        train_transforms=(Call(v2.RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip)),
        val_transforms=(Call(v2.Resize, size=SIZE), Call(v2.CenterCrop, size=SIZE)),
    ),
    optimizer=SGDOptions(lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=CosineOptions(warmup_epochs=1),
    runtime=RuntimeConfig(device="cpu", num_workers=0, log_every=1, save_every_minutes=100),
)

if __name__ == "__main__":
    torch.set_num_threads(1)  # as the launcher sets it for several processes: sums are then taken in the same order
    main({"tiny": TINY}, __file__, task=TinyTask)
