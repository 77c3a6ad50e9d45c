"""Targets and losses of RetinaNet and FCOS, forward and backward to the network's outputs, against torchvision's.

    python -m benchmarks.detection_losses

The networks themselves do not run: both sides get the same random outputs, each in the layout in which its own heads
give them (torchvision's joined and copied already, which is not counted), the same anchors and the same objects, and
both come to the same losses, which is checked. Ours computes the targets once, as the recipe does. Each side has a
process of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor
from torchvision.models.detection import fcos_resnet50_fpn, retinanet_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

from benchmarks.apart import Turn, device_here, sides, timed
from benchmarks.compare import alternate, benchmark_device, real_data_folder, report
from benchmarks.random_batches import NUM_CLASSES, torchvision_targets
from public.datasets.batches import DetectionBatch
from public.datasets.coco import read_coco
from public.detectors.catalog import build_from_options
from public.detectors.fcos.network import FCOSOutputs
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.network import RetinaNetOutputs
from public.detectors.retinanet.options import RetinaNetOptions
from public.geometry.labels import PADDING
from public.geometry.points import map_sizes

STRIDES = (8, 16, 32, 64, 128)
CLAIMED = 2.0
"""How many times as fast as torchvision's."""

Losses = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    detectors: tuple[Literal["retinanet", "fcos"], ...] = ("retinanet", "fcos")
    """Which to measure."""
    rounds: int = 5
    """Counted rounds."""
    batch_size: int = 8
    """Images."""
    canvas: int = 672
    """Height and width in pixels, a multiple of 32 as torchvision makes it; its maps are those of 667 pixels."""
    seed: int = 0
    """Of outputs, and of objects where there is no real data."""


def real_objects(options: Options) -> list[tuple[Tensor, Tensor]] | None:
    """Boxes on the canvas and labels of coco_mini's first images that have any; None where that is absent."""
    folder = real_data_folder() / "coco_mini"
    if not folder.is_dir():
        return None
    annotations, found = read_coco(folder, "val2017"), []
    for index in np.flatnonzero(np.diff(annotations.offsets))[: options.batch_size].tolist():
        boxes, labels = annotations.of(index)
        real = labels >= 0  # torchvision knows no ignored regions
        scale = options.canvas / annotations.sizes[index].max()
        found.append((torch.from_numpy(boxes[real] * scale).float(), torch.from_numpy(labels[real])))
    return found


def random_objects(options: Options) -> list[tuple[Tensor, Tensor]]:
    """Seven objects an image, from 10 pixels to 300."""
    found = []
    for _ in range(options.batch_size):
        halves = 5 * 30 ** torch.rand(7, 2)
        middles = torch.rand(7, 2) * options.canvas
        boxes = torch.cat([middles - halves, middles + halves], dim=1).clamp(0, options.canvas)
        found.append((boxes, torch.randint(0, NUM_CLASSES, (7,))))
    return found


def to_batch(objects: Sequence[tuple[Tensor, Tensor]], canvas: int) -> DetectionBatch:
    """Our form of the objects; the images are empty."""
    shape = (len(objects), max(len(labels) for _, labels in objects))
    all_boxes, all_labels = torch.zeros(*shape, 4), torch.full(shape, PADDING)
    for i, (boxes, labels) in enumerate(objects):
        all_boxes[i, : len(boxes)], all_labels[i, : len(labels)] = boxes, labels
    sizes = torch.full((len(objects), 2), canvas)
    images = torch.zeros(len(objects), 3, canvas, canvas, dtype=torch.uint8)
    numbers = torch.arange(len(objects))
    return DetectionBatch(images, all_boxes, all_labels, sizes, sizes, image_ids=numbers, seeds=numbers)


def random_maps(channels: int, options: Options, device: torch.device, mean: float) -> list[Tensor]:
    """What a head's last convolution might give: [B, channels, H, W] of each level."""
    sizes = map_sizes((options.canvas, options.canvas), STRIDES)
    return [(torch.randn(options.batch_size, channels, *size) + mean).to(device) for size in sizes]


def joined(maps: Sequence[Tensor], num_values: int) -> Tensor:
    """[B, A * K, H, W] of each level -> torchvision's [B, H * W * A, K]."""
    levels = [x.unflatten(1, (-1, num_values)).permute(0, 3, 4, 1, 2).flatten(1, 3) for x in maps]
    return torch.cat(levels, dim=1).requires_grad_()


def retinanet(options: Options, batch: DetectionBatch, device: torch.device) -> dict[str, Losses]:
    """What computes our losses, and what computes torchvision's."""
    logits = random_maps(9 * NUM_CLASSES, options, device, mean=-5.0)
    codes = random_maps(9 * 4, options, device, mean=0.0)
    detector = build_from_options(NUM_CLASSES, RetinaNetOptions.torchvision(backbone="resnet18"))
    reference: Any = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=NUM_CLASSES)
    head_outputs = {"cls_logits": joined(logits, NUM_CLASSES), "bbox_regression": joined(codes, 4)}
    canvas_size = (options.canvas, options.canvas)
    targets, leaves = torchvision_targets(batch), [[x.requires_grad_() for x in maps] for maps in (logits, codes)]

    def ours() -> dict[str, Tensor]:
        views = [tuple(x.unflatten(1, (9, -1)).permute(0, 3, 4, 1, 2) for x in maps) for maps in leaves]
        outputs = RetinaNetOutputs(views[0], views[1], canvas_size)
        return detector.loss(outputs, detector.targets(batch))

    def theirs() -> dict[str, Tensor]:
        anchors = reference.anchor_generator(ImageList(batch.images, [canvas_size] * len(targets)), logits)
        return reference.compute_loss(targets, head_outputs, anchors)

    return {
        "ours": _with_backward(ours, [*leaves[0], *leaves[1]]),
        "torchvision": _with_backward(theirs, list(head_outputs.values())),
    }


def fcos(options: Options, batch: DetectionBatch, device: torch.device) -> dict[str, Losses]:
    """What computes our losses, and what computes torchvision's."""
    logits = random_maps(NUM_CLASSES, options, device, mean=-5.0)
    boxes = [x.abs() for x in random_maps(5, options, device, mean=4.0)]
    detector = build_from_options(NUM_CLASSES, FCOSOptions.torchvision(backbone="resnet18"))
    reference: Any = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=NUM_CLASSES)
    head_outputs = {
        "cls_logits": joined(logits, NUM_CLASSES),
        "bbox_regression": joined([x[:, :4] for x in boxes], 4),
        "bbox_ctrness": joined([x[:, 4:] for x in boxes], 1),
    }
    canvas_size = (options.canvas, options.canvas)
    targets, leaves = torchvision_targets(batch), [[x.requires_grad_() for x in maps] for maps in (logits, boxes)]
    num_points = [x.shape[2] * x.shape[3] for x in logits]

    def ours() -> dict[str, Tensor]:
        outputs = FCOSOutputs(tuple(leaves[0]), tuple(leaves[1]), canvas_size)
        return detector.loss(outputs, detector.targets(batch))

    def theirs() -> dict[str, Tensor]:
        anchors = reference.anchor_generator(ImageList(batch.images, [canvas_size] * len(targets)), logits)
        return reference.compute_loss(targets, head_outputs, anchors, num_points)

    return {
        "ours": _with_backward(ours, [*leaves[0], *leaves[1]]),
        "torchvision": _with_backward(theirs, list(head_outputs.values())),
    }


def _with_backward(losses: Losses, leaves: Sequence[Tensor]) -> Losses:
    def run() -> dict[str, Tensor]:
        for leaf in leaves:
            leaf.grad = None
        values = losses()
        torch.stack(list(values.values())).sum().backward()
        return {name: value.detach() for name, value in values.items()}

    return run


def check_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Raises AssertionError unless both computed the same losses, in whatever names."""
    for value, expected in zip(ours.values(), theirs.values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=0)


def build(name: str, options: Options, device: torch.device) -> dict[str, Losses]:
    """Both on the same outputs and objects."""
    torch.manual_seed(options.seed)
    objects = real_objects(options) or random_objects(options)
    batch = DetectionBatch(*(x.to(device) for x in to_batch(objects, options.canvas)))
    return {"retinanet": retinanet, "fcos": fcos}[name](options, batch, device)


def turn(name: str, options: Options, side: str) -> Turn:
    """Computes the losses of one side, and gives the images a second."""
    device = device_here(ours=side == "ours")
    return timed(build(name, options, device)[side], options.batch_size, device)


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    device = benchmark_device()
    data = "random objects" if real_objects(options) is None else "coco_mini (REAL_DATA)"
    words = f"{data}, batch {options.batch_size}, canvas {options.canvas}, {torch.get_num_threads()} threads"
    for name in options.detectors:
        both = build(name, options, device)
        check_equal(both["ours"](), both["torchvision"]())
        with sides(turn, name, options) as ways:
            comparison = alternate(ways, options.rounds, "images/s")
        report(f"detection_losses_{name}", comparison, CLAIMED, device, words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
