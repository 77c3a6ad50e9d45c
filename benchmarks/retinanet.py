"""RetinaNet on a ResNet-50, an inference or a training step, ours against torchvision's `retinanet_resnet50_fpn`.

    python -m benchmarks.retinanet
    python -m benchmarks.retinanet --train-batch-sizes 8        a step as well; `training_steps` claims those of batch 2

Both: the same weights, photos and objects on square canvases (torchvision's resize is switched off, it pads to a
multiple of 32), bf16 where the device is faster in it. A step: normalization, network, targets, losses, backward
and SGD. An inference: normalization, network, decoding and suppression; the random heads are given scores of which
about a thousand an image pass the threshold of 0.05, as with a trained network. Each side has a process of its own.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch import Tensor, nn
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2.functional import resize

from benchmarks.apart import Turn, device_here, sides, timed
from benchmarks.compare import alternate, benchmark_device, real_data_folder, report
from benchmarks.detection_losses import to_batch
from benchmarks.random_batches import NUM_CLASSES, torchvision_targets
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.datasets.batches import DetectionBatch
from public.datasets.coco import read_coco
from public.datasets.decoding import decode_opencv
from public.detectors.catalog import build_from_options
from public.detectors.detector import ImageDetector
from public.detectors.retinanet.options import RetinaNetOptions
from public.optim.optimizers import build_optimizer
from public.optim.options import SGDOptions
from public.runtime.device import autocast, choose_precision, memory_format
from public.runtime.seeding import seed_everything
from public.weights.loading import load_weights

LR = 1e-4
WARM_UP = {"inference": 0, "step": 2}
"""Turns after the first, in which the heap reaches its size."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    inference_batch_sizes: tuple[int, ...] = (1, 8)
    """Images of an inference, one comparison each."""
    train_batch_sizes: tuple[int, ...] = ()
    """Images of a training step, one comparison each."""
    rounds: int = 5
    """Counted rounds."""
    canvas: int = 667
    """Height and width in pixels."""
    channels_last: bool = True
    """Memory layout of ours."""
    seed: int = 0
    """Of the weights, and of photos and objects where there are no real ones."""


def photos(options: Options, count: int) -> tuple[DetectionBatch, str]:
    """Pictures and objects on the canvas: coco_mini's where it is, else noise; and which they are."""
    size = options.canvas
    folder = real_data_folder() / "coco_mini"
    images, objects = [], []
    if folder.is_dir():
        annotations = read_coco(folder, "val2017")
        for index in range(count):
            image = decode_opencv(
                (annotations.folder / os.fsdecode(annotations.files[index])).read_bytes()
            )  # [3, H, W]
            scale = torch.tensor([size / image.shape[2], size / image.shape[1]]).repeat(2)
            boxes, labels = (torch.from_numpy(x) for x in annotations.of(index))
            real = labels >= 0  # torchvision knows no ignored regions
            images.append(resize(image, [size, size], antialias=True))
            objects.append((boxes[real] * scale, labels[real]))
    else:
        images = list(torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8))
        objects = [(torch.tensor([[9.0, 9, 99, 99], [200, 100, 500, 400]]), torch.tensor([0, 5]))] * count
    batch = to_batch(objects, size)
    return batch._replace(images=torch.stack(images)), folder.name if folder.is_dir() else "noise"


class Pair:
    """Both detectors with the same weights."""

    def __init__(self, options: Options, device: torch.device) -> None:
        seed_everything(options.seed)
        self.device, self.dtype = device, choose_precision("auto", device)
        self.theirs: Any = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=NUM_CLASSES)
        self.theirs.transform = GeneralizedRCNNTransform(
            options.canvas, options.canvas, list(IMAGENET_MEAN), list(IMAGENET_STD), _skip_resize=True
        )
        spread_scores(self.theirs, photos(options, 1)[0].images)
        detector = build_from_options(NUM_CLASSES, RetinaNetOptions.torchvision())
        load_weights(detector, self.theirs.state_dict())
        last = options.channels_last
        self.ours = ImageDetector(
            detector, mean=IMAGENET_MEAN, std=IMAGENET_STD, dtype=self.dtype, channels_last=last
        ).to(device=device, memory_format=memory_format(last))  # pyright: ignore[reportCallIssue]
        self.theirs.to(device)

    def steps(self, batch: DetectionBatch) -> dict[str, Callable[[], float]]:
        """One optimizer step of each on the batch, giving the sum of its losses."""
        images, targets = list(batch.images / 255), torchvision_targets(batch)

        def ours() -> dict[str, Tensor]:
            return self.ours.detector.loss(self.ours.outputs(batch.images), self.ours.detector.targets(batch))

        def theirs() -> dict[str, Tensor]:
            with autocast(self.device, self.dtype):
                return self.theirs(images, targets)

        sgd = SGDOptions(lr=LR, weight_decay=1e-4)
        return {
            "ours": _step(self.ours.train(), ours, build_optimizer(self.ours, sgd)),
            "torchvision": _step(self.theirs.train(), theirs, build_optimizer(self.theirs, sgd)),
        }

    def inferences(self, batch: DetectionBatch) -> dict[str, Callable[[], float]]:
        """One inference of each on the batch, giving the number of detections."""
        images, sizes = list(batch.images / 255), batch.sizes

        @torch.inference_mode()
        def ours() -> float:
            return float((self.ours.eval()(batch.images, sizes).labels >= 0).sum())

        @torch.inference_mode()
        def theirs() -> float:
            with autocast(self.device, self.dtype):
                return float(sum(len(found["boxes"]) for found in self.theirs.eval()(images)))

        return {"ours": ours, "torchvision": theirs}


@torch.no_grad()
def spread_scores(reference: Any, images: Tensor, mean: float = -7) -> None:
    """Scales the last layer's weights so that its logits on the images are about N(mean, 1)."""
    logits = reference.head.classification_head.cls_logits
    transformed, _ = reference.eval().transform(list(images / 255))
    maps = list(reference.backbone(transformed.tensors).values())
    logits.weight.mul_(1 / reference.head.classification_head(maps).std())
    logits.bias.fill_(mean)


def _step(
    module: nn.Module, losses: Callable[[], dict[str, Tensor]], optimizer: torch.optim.Optimizer
) -> Callable[[], float]:
    def step() -> float:
        module.train()
        total = torch.stack(list(losses().values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.item()

    return step


def turn(kind: str, batch_size: int, options: Options, side: str) -> Turn:
    """Takes a step or an inference, and gives the images a second; what the first one gives is printed."""
    device = device_here(ours=side == "ours")
    pair = Pair(options, device)
    batch = DetectionBatch(*(x.to(device) for x in photos(options, batch_size)[0]))
    run = (pair.inferences(batch) if kind == "inference" else pair.steps(batch))[side]
    print(f"first result, {side}: {run():.5f}", flush=True)
    for _ in range(WARM_UP[kind]):
        run()
    return timed(run, batch_size, device)


def main(options: Options) -> None:
    """One comparison for each batch size asked for."""
    _, data = photos(options, 1)
    for kind, batch_sizes in (("inference", options.inference_batch_sizes), ("step", options.train_batch_sizes)):
        for batch_size in batch_sizes:
            with sides(turn, kind, batch_size, options) as ways:
                comparison = alternate(ways, options.rounds, "images/s", is_warm=True)
            words = f"{data} at {options.canvas}, batch {batch_size}"
            report(f"retinanet_{kind}", comparison, 1.0, benchmark_device(), words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
