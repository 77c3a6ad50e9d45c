"""Noise and random objects in both sides' forms; imports no more than torch, so that they can be had anywhere."""

import torch
from torch import Tensor

from public.datasets.batches import DetectionBatch

NUM_CLASSES = 80


def random_batch(batch_size: int, num_objects: int, canvas: tuple[int, int], device: torch.device) -> DetectionBatch:
    """Noise, and boxes of 10 to 300 pixels.

    Args:
        batch_size: images.
        num_objects: in each image.
        canvas: height and width in pixels.
        device: of the batch.
    """
    limits = torch.tensor([canvas[1], canvas[0]]).repeat(2)
    shape = (batch_size, num_objects)
    halves = 5 * 30 ** torch.rand(*shape, 2)
    middles = torch.rand(*shape, 2) * limits[:2]
    boxes = torch.cat([middles - halves, middles + halves], dim=2).clamp(min=0).minimum(limits)
    sizes = limits[:2].flip(0).expand(batch_size, 2)
    numbers = torch.arange(batch_size)
    images = torch.randint(0, 256, (batch_size, 3, *canvas), dtype=torch.uint8)
    labels = torch.randint(0, NUM_CLASSES, shape)
    batch = DetectionBatch(images, boxes, labels, sizes, sizes, image_ids=numbers, seeds=numbers)
    return DetectionBatch(*(x.to(device) for x in batch))


def torchvision_targets(batch: DetectionBatch, first_label: int = 0) -> list[dict[str, Tensor]]:
    """Torchvision's form of a batch's objects; its two-stage detectors count classes from 1."""
    rows = zip(batch.boxes, batch.labels, batch.labels >= 0, strict=True)
    return [{"boxes": boxes[kept], "labels": labels[kept] + first_label} for boxes, labels, kept in rows]
