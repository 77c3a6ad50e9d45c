"""Whole trainings by others, as records that `public.apps.results` puts beside ours.

    python -m benchmarks.peer_runs torchvision_fcos --weights mobilenet_v2-b0353104.pth
    python -m benchmarks.peer_runs torchvision_retinanet --weights mobilenet_v2-b0353104.pth
    python -m benchmarks.peer_runs libreyolo_yolox_nano
    python -m benchmarks.peer_runs bare_loop --data cifar100_like

The first two train torchvision's detectors, on its MobileNetV2 and pyramid with ours' three levels, on the data and
with the augmentation, optimizer, schedule, clipping, averaging and length of the row of the same name of
detection_experiments/mobilenet_v2_bloodcells_four_detectors; our evaluation judges them. libreyolo_yolox_nano trains
YOLOX-nano by its own `train`, on the same images at 320 x 256 (it wants multiples of 32) with the optimizer, rate,
averaging and length of the row fcos and its own flips and colors, from new weights: the package brings none. It wants
an environment of its own, with libreyolo 1.6 (`pip install libreyolo`; it brings another OpenCV). bare_loop is that of
`benchmarks.cifar_training` with the settings of cifar100_experiments/resnet18cifar_10_epochs.

Each writes config.json, metrics.jsonl, environment.json and peer.txt to a folder below the experiment's runs/.
"""

import json
import tempfile
import time
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision
import tyro
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead

from benchmarks.cifar_training import BareLoop
from benchmarks.compare import benchmark_device
from benchmarks.fcos_step import CHANNELS, TorchvisionPyramid
from benchmarks.random_batches import torchvision_targets
from public.apps.results import FILES, PEER
from public.backbones.catalog import build_backbone
from public.config.calls import Scaled
from public.config.classification import ClassificationConfig
from public.config.detection import DetectionConfig
from public.config.experiment import load_configs
from public.config.record import to_record
from public.config.run import RunConfig
from public.datasets.annotations import DetectionAnnotations
from public.datasets.cifar100 import read_cifar100
from public.datasets.detection import build_train_data
from public.datasets.locations import REPOSITORY, dataset_folder
from public.datasets.predictions import Predictions
from public.evaluation.detection import evaluator_of
from public.optim.schedules import lr_factor
from public.runtime.device import autocast, choose_precision, device_name
from public.runtime.distributed import DistributedContext
from public.runtime.environment import environment_record
from public.runtime.seeding import seed_everything

Peer = Literal["torchvision_fcos", "torchvision_retinanet", "libreyolo_yolox_nano", "bare_loop"]
BLOOD_CELLS = REPOSITORY / "detection_experiments" / "mobilenet_v2_bloodcells_four_detectors"
CIFAR = REPOSITORY / "cifar100_experiments" / "resnet18cifar_10_epochs"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    peer: tyro.conf.Positional[Peer]
    """Who trains."""
    weights: Path | None = None
    """torchvision's MobileNetV2 weights, for the detectors."""
    data: str | None = None
    """Folder of the data below DATA_ROOT, in the place of the experiment's."""
    seed: int = 0
    """Of weights, order and augmentation."""
    epochs: int | None = None
    """Another length, with the schedule over it; for trials."""


def write_record(folder: Path, config: RunConfig, peer: str, rows: list[dict[str, Any]], device: torch.device) -> None:
    """What `public.apps.results` reads of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = (
        json.dumps(to_record(config), indent=2) + "\n",
        "".join(json.dumps(row) + "\n" for row in rows),
        json.dumps(environment_record(device_name(device), 1), indent=2) + "\n",
        peer + "\n",
    )
    for name, text in zip((*FILES, PEER), texts, strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    print(f"{folder}: {rows[-1]}")


# ---- torchvision's detectors ----------------------------------------------------------------------------------------

LONG = Scaled(320, of=240)
"""The longer side's limit, as in the row's transforms."""


def build_torchvision(peer: Peer, config: DetectionConfig, weights: Path | None) -> nn.Module:
    """Its detector of config's classes, for images of the size that our loader makes."""
    pyramid, num_classes = TorchvisionPyramid(), config.num_classes
    assert num_classes is not None
    # Without these it would resize to 800 pixels: `_skip_resize` is looked at in training alone.
    options: dict[str, Any] = {"min_size": config.data.input_size, "max_size": LONG.at(config.data.input_size)}
    if weights is not None:
        state = torch.load(weights, weights_only=True)
        own = pyramid.body.state_dict()
        pyramid.body.load_state_dict({key: state[f"features.{key}"] for key in own})
    if peer == "torchvision_fcos":
        generator = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
        return FCOS(pyramid, num_classes, anchor_generator=generator, **options)
    sizes = tuple(tuple(size * 2 ** (k / 3) for k in range(3)) for size in config.detector.anchor_sizes)  # pyright: ignore[reportAttributeAccessIssue]
    generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    head = RetinaNetHead(CHANNELS, 9, num_classes)
    return RetinaNet(pyramid, num_classes, anchor_generator=generator, head=head, **options)


def train_detector(options: Options, config: DetectionConfig, device: torch.device) -> list[dict[str, Any]]:
    """A row for each epoch, with the metrics behind those that are evaluated."""
    context = DistributedContext(rank=0, size=1, device=device)
    seed_everything(config.seed)
    data = build_train_data(config, context)
    network = build_torchvision(options.peer, config, options.weights).to(device)
    settings = config.optimizer
    optimizer = torch.optim.AdamW(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay or 0.0), use_buffers=True)
    dtype, rows, step = choose_precision(config.precision, device), [], 0
    for epoch in range(config.epochs):
        network.train()
        start, total = time.perf_counter(), 0.0
        for batch in data.train.epoch(epoch):
            factor = lr_factor(config.schedule, step, epochs=config.epochs, steps_per_epoch=data.train.steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * factor
            with autocast(device, dtype):
                losses = network(pictures(batch, device), torchvision_targets(batch))
            loss = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            loss.backward()
            if config.clip_grad_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), config.clip_grad_norm)
            optimizer.step()
            average.update_parameters(network)
            total, step = total + loss.item(), step + 1
        row = {
            "epoch": epoch + 1,
            "train_loss": total / data.train.steps_per_epoch,
            "train_seconds": round(time.perf_counter() - start, 1),
        }
        if (epoch + 1) % config.evaluate_every == 0 or epoch + 1 == config.epochs:
            predictions = detections(average.module.eval(), data.val, device, dtype)
            row |= evaluator_of(config.data.rules)(data.val_annotations).evaluate(predictions).metrics
        rows.append(row)
        print(row, flush=True)
    return rows


def pictures(batch: Any, device: torch.device) -> list[Tensor]:
    """What torchvision's detectors take: each image by itself, as wide and high as it is, in 0..1."""
    sizes = batch.content_sizes.tolist()
    return [image[:, :h, :w].to(device) / 255 for image, (h, w) in zip(batch.images, sizes, strict=True)]


@torch.inference_mode()
def detections(network: nn.Module, batches: Any, device: torch.device, dtype: torch.dtype) -> Predictions:
    """Of a split, in pixels of the original images."""
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for batch in batches:
        with autocast(device, dtype):
            found = network(pictures(batch, device))
        scales = (batch.original_sizes / batch.content_sizes).flip(1).repeat(1, 2)  # x y x y
        for one, scale, image_id in zip(found, scales, batch.image_ids, strict=True):
            boxes = one["boxes"].float().cpu() * scale
            parts.append((image_id.expand(len(boxes)), boxes, one["scores"].float().cpu(), one["labels"].cpu()))
    columns = [torch.cat(column).numpy() for column in zip(*parts, strict=True)]
    return Predictions(columns[0], columns[1].astype(np.float32), columns[2], columns[3])


# ---- YOLOX-nano of libreyolo ----------------------------------------------------------------------------------------

YOLOX_SIZE = 256, 320
"""Height and width, multiples of 32."""


def write_yolo(annotations: DetectionAnnotations, folder: Path, split: str) -> None:
    """A split in YOLO's layout: links to its images, and a text file for each with class, center and size."""
    for part in ("images", "labels"):
        (folder / part / split).mkdir(parents=True)
    for index, (file, (height, width)) in enumerate(zip(annotations.files, annotations.sizes, strict=True)):
        image = annotations.folder / bytes(file).decode()
        (folder / "images" / split / image.name).symlink_to(image.resolve())
        boxes, labels = annotations.of(index)
        numbers = np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])
        rows = [[label, *row] for label, row in zip(labels, numbers / [width, height, width, height], strict=True)]
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows if row[0] >= 0)
        (folder / "labels" / split / image.with_suffix(".txt").name).write_text(text)


def yolox_settings(config: DetectionConfig) -> dict[str, Any]:
    """The row's, in its words. Its mosaic, mixup and turned pictures, and 15 plain epochs after them, are for 300."""
    return {
        "imgsz": YOLOX_SIZE,
        "epochs": config.epochs,
        "eval_interval": config.epochs,
        "batch": config.batch_size,
        "seed": config.seed,
        "workers": config.runtime.num_workers,
        "optimizer": "adamw",
        "lr0": config.optimizer.lr,
        "weight_decay": config.optimizer.weight_decay,
        "warmup_epochs": config.schedule.warmup_epochs,
        "ema_decay": config.ema_decay,
        **dict.fromkeys(("mosaic_prob", "mixup_prob", "degrees", "shear"), 0.0),
        "no_aug_epochs": 3,
    }


def train_yolox(config: DetectionConfig, device: torch.device) -> list[dict[str, Any]]:
    """One row, of the last epoch."""
    data = build_train_data(config, DistributedContext(rank=0, size=1, device=device))
    val = data.val_annotations
    model = import_module("libreyolo").LibreYOLOX(size="n", nb_classes=len(data.class_names), device=device.type)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_yolo(data.annotations, folder, "train")
        write_yolo(val, folder, "val")
        file = folder / "data.yaml"
        names = json.dumps(data.class_names)
        file.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: {names}\n")
        begin = time.perf_counter()
        model.train(data=str(file), device=device.type, project=str(folder), **yolox_settings(config))
        seconds = time.perf_counter() - begin
        paths = [str(val.folder / bytes(file).decode()) for file in val.files]
        found = [model(path, conf=0.01, imgsz=YOLOX_SIZE).boxes for path in paths]
    counts = [len(boxes) for boxes in found]
    columns = [torch.cat([getattr(boxes, name).cpu() for boxes in found]).numpy() for name in ("xyxy", "conf", "cls")]
    boxes, scores, labels = columns
    predictions = Predictions(np.repeat(val.image_ids, counts), boxes, scores, labels.astype(np.int64))
    metrics = evaluator_of(config.data.rules)(val).evaluate(predictions).metrics
    return [{"epoch": config.epochs, "train_seconds": round(seconds, 1), **metrics}]


# ---- the bare loop --------------------------------------------------------------------------------------------------


def train_classifier(config: ClassificationConfig, folder: Path, device: torch.device) -> list[dict[str, Any]]:
    """A row for each epoch, with top-1 on the test images."""
    train, val = (read_cifar100(folder, split, published_archive=False) for split in ("train", "val"))
    seed_everything(config.seed)
    loop = BareLoop(build_backbone(config.network, num_classes=len(train.class_names)), train, config, device)
    rows: list[dict[str, Any]] = []
    for epoch in range(config.epochs):
        loop.network.train()
        start = time.perf_counter()
        for _ in range(len(train.images) // config.batch_size):
            loop.step()
        seconds = time.perf_counter() - start
        rows.append({"epoch": epoch + 1, "train_seconds": round(seconds, 1), "top1": top1(loop, val, config)})
        print(rows[-1], flush=True)
    return rows


@torch.inference_mode()
def top1(loop: BareLoop, val: Any, config: ClassificationConfig) -> float:
    """The share of the test images whose class comes first."""
    loop.network.eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.data.mean, config.data.std))
    right = 0
    for images, labels in zip(val.images.split(500), val.labels.split(500), strict=True):
        with autocast(loop.device, loop.dtype):
            logits = loop.network(((images / 255 - mean) / std).to(loop.device))
        right += int((logits.argmax(dim=1).cpu() == labels).sum())
    return right / len(val.labels)


def main(options: Options) -> None:
    """Trains and writes the record."""
    device = benchmark_device()
    experiment = CIFAR if options.peer == "bare_loop" else BLOOD_CELLS
    row = {"bare_loop": "resnet18cifar", "torchvision_retinanet": "retinanet"}.get(options.peer, "fcos")
    config = replace(load_configs(experiment)[row], seed=options.seed, name=f"{options.peer}_seed{options.seed}")
    if options.data is not None:
        config = replace(config, data=replace(config.data, folder=options.data))
    if options.epochs is not None:
        config = config.with_epochs(options.epochs)
    if options.peer == "bare_loop":
        rows = train_classifier(config, dataset_folder(config.data.folder), device)
        peer = "a bare torch loop, OneCycleLR"
    elif options.peer == "libreyolo_yolox_nano":
        rows = train_yolox(config, device)
        peer = f"YOLOX-nano of libreyolo {metadata.version('libreyolo')}, from new weights"
    else:
        rows = train_detector(options, config, device)
        peer = f"torchvision {torchvision.__version__.split('+')[0]}'s {row}"
    write_record(experiment / "runs" / config.name, config, peer, rows, device)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
