"""A detector as somebody would add it: one box an image, of the class that it most likely holds.

What `tests/test_contributing.py` copies, with the options beside it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from public.backbones.catalog import build_features
from public.backbones.features import Features
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.detector import Detections, Detector
from tests.added.presence_options import PresenceOptions


class PresenceTargets(NamedTuple):
    """What a batch holds."""

    classes: Tensor
    """float32 [B, C]: 1 for each class of which the image has an object."""


class Presence(Detector):
    """Logits of the classes from the mean of a map."""

    class_prefixes = ("head.",)
    loss_names = ("presence",)

    def __init__(self, num_classes: int, options: PresenceOptions) -> None:
        super().__init__()
        self.options, self.num_classes = options, num_classes
        self.features = build_features(options.backbone, [options.level])
        self.features.freeze(options.frozen_stages)
        self.head = nn.Linear(self.features.channels[options.level], num_classes)

    @property
    def body(self) -> Features:
        """The backbone."""
        return self.features

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> logits [B, C]."""
        return self.head(self.features(images)[self.options.level].mean(dim=(2, 3)))

    def targets(self, batch: DetectionBatch) -> PresenceTargets:
        """Which classes are there."""
        classes = torch.arange(self.num_classes, device=batch.labels.device)
        return PresenceTargets((batch.labels[:, :, None] == classes).any(dim=1).float())

    def counts(self, targets: PresenceTargets) -> Tensor:
        """float32 [B, 1]: each image counts once."""
        return torch.ones_like(targets.classes[:, :1])

    def loss(self, outputs: Tensor, targets: PresenceTargets, normalizer: Tensor | None = None) -> dict[str, Tensor]:
        """See `Detector.loss`."""
        total = binary_cross_entropy_with_logits(outputs.float(), targets.classes, reduction="sum")
        return {"presence": total / (self.normalizer(targets) if normalizer is None else normalizer)[0]}

    def decode(self, outputs: Tensor, sizes: ImageSizes) -> Detections:
        """One box an image."""
        scores, labels = outputs.float().sigmoid().max(dim=1, keepdim=True)
        sides = sizes.original.flip(1)[:, None].float()  # [B, 1, 2], width and height
        return Detections(
            torch.cat((self.options.margin * sides, (1 - self.options.margin) * sides), 2), scores, labels
        )
