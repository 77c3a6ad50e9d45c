"""Batches for tests of detectors, and torchvision's detectors made ready to be compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from public.backbones.cards import CARDS
from public.backbones.catalog import _FAMILY_OF
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.detector import Detections, Detector
from public.geometry.labels import IGNORED, PADDING

Objects = Sequence[tuple[Sequence[float], int]]
"""Boxes and labels of an image."""

HARD: dict[str, list[Objects]] = {
    "no objects": [[], []],
    "only ignored": [[((0, 0, 96, 96), IGNORED)], [((3, 3, 9, 9), IGNORED)]],
    "300 objects": [[((i % 20 * 4, i // 20 * 5, i % 20 * 4 + 14, i // 20 * 5 + 12), i % 3) for i in range(300)], []],
    "1 pixel": [[((20, 20, 21, 21), 0), ((11.5, 11.5, 12.5, 12.5), 1)], [((95, 95, 96, 96), 2)]],
    "beyond the canvas": [[((-200, -200, 300, 300), 0)], [((40, -50, 250, 60), 1)]],
    "whole canvas": [[((0, 0, 96, 96), 0)], [((0, 0, 96, 96), 1)]],
    "the same": [[((8, 8, 50, 50), 0), ((8, 8, 50, 50), 1)], [((8, 8, 50, 50), 0)] * 5],
}
"""Batches on canvases of 96 x 96 pixels with classes 0 to 2, on which losses have been known to fail."""


def batch_of(images: Sequence[Objects], canvas_size: tuple[int, int]) -> DetectionBatch:
    """A batch of noise with these objects; one filling row more than needed."""
    num_rows = max(len(objects) for objects in images) + 1
    boxes = torch.zeros(len(images), num_rows, 4)
    labels = torch.full((len(images), num_rows), PADDING)
    for i, objects in enumerate(images):
        for j, (box, label) in enumerate(objects):
            boxes[i, j], labels[i, j] = torch.tensor(box), label
    pixels = torch.randint(0, 256, (len(images), 3, *canvas_size), dtype=torch.uint8)
    sizes = torch.tensor(canvas_size).expand(len(images), 2)
    numbers = torch.arange(len(images))
    return DetectionBatch(pixels, boxes, labels, sizes, sizes, image_ids=numbers, seeds=numbers)


def losses_of(
    detector: Detector, outputs: Any, batch: DetectionBatch, normalizer: Tensor | None = None
) -> dict[str, Tensor]:
    """Those of outputs, by the targets of their batch."""
    return detector.loss(outputs, detector.targets(batch), normalizer)


def counts_of(detector: Detector, batch: DetectionBatch) -> Tensor:
    """float32 [K]: those of all images of a batch together."""
    return detector.counts(detector.targets(batch)).sum(0)


WITH_LEVELS = [name for name, card in CARDS.items() if {"c3", "c4", "c5"} <= set(card.levels)]
"""The networks that a pyramid stands on."""
BACKBONES = [name for name in WITH_LEVELS if CARDS[name].parameters < 50e6]
"""For the one sweep over every such network but the giants, of whose families these have smaller ones."""
ONE_A_FAMILY = list({_FAMILY_OF[name]: name for name in sorted(BACKBONES, key=lambda n: -CARDS[n].parameters)}.values())
"""The smallest network of each family, for the other detectors: they take the same maps of a backbone."""


def level_strides(backbone: str) -> dict[str, int]:
    """Of each of its levels."""
    return dict(zip(CARDS[backbone].levels, CARDS[backbone].strides, strict=True))


def pyramid_strides(backbone: str) -> tuple[int, ...]:
    """Of p3 to p7: those of the backbone, then twice and four times the last of them."""
    plain = [level_strides(backbone)[level] for level in ("c3", "c4", "c5")]
    return (*plain, 2 * plain[-1], 4 * plain[-1])


def images_of(batch: DetectionBatch) -> Tensor:
    """Roughly normalized."""
    return batch.images / 127.5 - 1


@torch.no_grad()
def perturb_heads(reference: Any, seed: int) -> None:
    """Random weights for the heads, of a size that gives all sorts of scores and moderate boxes.

    New ones give every class the same probability everywhere; random ones of any size give scores that are all 0 or 1.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in reference.head.named_parameters():
        nn.init.normal_(parameter, std=0.1 if name.endswith("bias") else 0.03, generator=generator)
    images, _ = reference.eval().transform(noise())
    outputs = reference.head(list(reference.backbone(images.tensors).values()))
    heads = reference.head.classification_head.cls_logits, reference.head.regression_head.bbox_reg
    for head, values, spread in zip(
        heads, (outputs["cls_logits"], outputs["bbox_regression"]), (2.0, 0.3), strict=True
    ):
        head.weight *= spread / values.std()
        head.bias *= spread / values.std()
    heads[0].bias -= 4.0


def noise() -> list[Tensor]:
    """Two smooth pictures, float32 [3, H, W] in 0..1."""
    generator = torch.Generator().manual_seed(0)
    small = [torch.rand(3, *size, generator=generator) for size in ((15, 20), (22, 16))]
    return [nn.functional.interpolate(x[None], scale_factor=12, mode="bilinear")[0] for x in small]


def photos(real_data: Path, count: int = 2) -> list[Tensor]:
    """The first photos of coco_mini, float32 [3, H, W] in 0..1; the test is skipped where there are none."""
    folder = real_data / "coco_mini/images/val2017"
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}")
    return [pil_to_tensor(Image.open(path).convert("RGB")) / 255 for path in sorted(folder.iterdir())[:count]]


def sizes_of(pictures: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> ImageSizes:
    """Of pictures that torchvision's transform has put on a canvas."""
    return ImageSizes(torch.tensor(image_sizes), torch.tensor([picture.shape[1:] for picture in pictures]))


def random_targets(pictures: Sequence[Tensor], num_classes: int) -> list[dict[str, Tensor]]:
    """Boxes in pixels of the pictures, from a few pixels to the whole, as torchvision takes them."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for picture in pictures:
        height, width = picture.shape[1:]
        corners = torch.rand(12, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
        boxes = corners.flatten(1)[((corners[:, 1] - corners[:, 0]) > 4).all(dim=1)]
        boxes = torch.cat([boxes, torch.tensor([[0.0, 0, width, height]])])
        labels = torch.randint(0, num_classes, (len(boxes),), generator=generator)
        found.append({"boxes": boxes, "labels": labels})
    return found


def objects_of(target: dict[str, Tensor]) -> Objects:
    """The other way round."""
    return list(zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True))


def assert_same_detections(detections: Detections, expected: Sequence[dict[str, Tensor]], *, at_least: int) -> None:
    """Ours and torchvision's: scores to 1e-5, boxes to 0.01 pixels, labels. Of equal scores either may come first."""
    for image, want in enumerate(expected):
        count = len(want["scores"])
        assert count >= at_least
        assert (detections.labels[image] != PADDING).sum() == count
        boxes, scores, labels = (x[image, :count] for x in detections)
        torch.testing.assert_close(scores, want["scores"], atol=1e-5, rtol=0)
        same = (labels[:, None] == want["labels"]) & ((scores[:, None] - want["scores"]).abs() < 1e-5)
        same &= (boxes[:, None] - want["boxes"]).abs().amax(dim=2) < 0.01  # [ours, theirs]
        assert same.any(dim=0).all()
        assert same.any(dim=1).all()


def assert_same_gradients(ours: nn.Module, reference: nn.Module) -> None:
    """Of every parameter, to a thousandth of its norm."""
    theirs: dict[str, Any] = {name: p.grad for name, p in reference.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad - theirs[name]).norm() <= 1e-3 * theirs[name].norm() + 1e-7, name
