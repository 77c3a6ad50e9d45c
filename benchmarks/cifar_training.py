"""Training resnet18cifar: our recipe's pieces against a bare torch loop, and the accuracy that our recipe reaches.

    python -m benchmarks.cifar_training             steps of both in alternating rounds: images/s and their ratio
    python -m benchmarks.cifar_training --train     our recipe's whole run of 5 epochs: top-1 after each epoch

Settings of both: batch 128, Nesterov SGD peaking at 0.1 in one cycle over 5 epochs, mirrored at random and cropped at
random out of 4 reflected pixels on each side, bf16 where the device is faster in it.

The bare loop is what a person writes in half an hour: images in memory, torch's optimizer, OneCycleLR and autocast
at their defaults, and none of what a run needs besides. Ours uses channels_last, the recipe's loader, and the recipe's
update with its checks. Each has a process of its own.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch import nn

from benchmarks.apart import Turn, device_here, sides, timed
from benchmarks.compare import alternate, append_result, benchmark_device, find_data, report
from public.backbones.catalog import build_backbone
from public.config.calls import SIZE, Call, build_all
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.cifar100 import Cifar100, Cifar100Data, CifarTrainLoader, read_cifar100
from public.optim.optimizers import build_optimizer
from public.optim.options import CosineOptions, SGDOptions
from public.optim.schedules import lr_factor
from public.optim.train_state import TrainState
from public.recipes.classification import ClassificationTask, train
from public.recipes.train_loop import train_step
from public.runtime.device import autocast, choose_precision
from public.runtime.distributed import DistributedContext
from public.runtime.launch import log_to_console
from public.runtime.parallel import wrap
from public.runtime.seeding import seed_everything
from public.transforms.batch import BatchRandomCrop, BatchRandomHorizontalFlip

YARDSTICK = (0.029, 0.068, 0.104, 0.169, 0.190)
"""Top-1 of a bare loop after each epoch on cifar100_like, measured once on two CPU cores."""
OURS, BARE = "ours", "bare torch loop"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    train: bool = False
    """Run the recipe from beginning to end instead of comparing speeds."""
    rounds: int = 5
    """Counted rounds of the comparison."""
    steps: int = 10
    """Optimizer steps in a turn."""
    batch_size: int = 128
    """Images per step."""
    epochs: int = 5
    """Length of the run, and of the learning rate's cycle."""
    network: str = "resnet18cifar"
    """A CIFAR network's name."""
    channels_last: bool = True
    """Memory layout of ours."""
    seed: int = 0
    """Of weights, order and augmentation."""
    data: Path | None = None
    """Folder that holds cifar-100-python/; None: the real data if it is there, else the generated sample."""
    out: Path | None = None
    """--train: the run folder, resumed if it holds a checkpoint; None: a temporary one."""


def our_config(options: Options, folder: Path) -> ClassificationConfig:
    """The yardstick's settings as a config of ours."""
    return ClassificationConfig(
        name="cifar_training",
        network=options.network,
        epochs=options.epochs,
        batch_size=options.batch_size,
        channels_last=options.channels_last,
        seed=options.seed,
        data=Cifar100Data(
            folder=str(folder),
            published_archive=False,
            train_transforms=(Call(BatchRandomHorizontalFlip), Call(BatchRandomCrop, size=SIZE, padding=4)),
            mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
            std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
        ),
        optimizer=SGDOptions(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=CosineOptions(warmup_epochs=0.3 * options.epochs),
        runtime=RuntimeConfig(num_workers=0, processes=1),
    )


# ---- the bare loop --------------------------------------------------------------------------------------------------


def bare_batches(data: Cifar100, config: ClassificationConfig) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Normalized, padded images in memory; random crops and flips of each batch, without end."""
    mean = torch.tensor(config.data.mean).view(3, 1, 1)
    std = torch.tensor(config.data.std).view(3, 1, 1)
    padded = F.pad((data.images / 255 - mean) / std, (4, 4, 4, 4), mode="reflect")  # [N, 3, 40, 40]
    while True:
        for chosen in torch.randperm(len(padded)).split(config.batch_size):
            if len(chosen) < config.batch_size:
                continue
            y, x = torch.randint(0, 9, (2, len(chosen))).tolist()
            parts = [padded[i, :, a : a + 32, b : b + 32] for i, a, b in zip(chosen.tolist(), y, x, strict=True)]
            images = torch.stack(parts)  # [B, 3, 32, 32]
            flipped = torch.rand(len(chosen)) < 0.5
            images[flipped] = images[flipped].flip(3)
            yield images, data.labels[chosen]


class BareLoop:
    """Trains with plain torch."""

    def __init__(self, network: nn.Module, data: Cifar100, config: ClassificationConfig, device: torch.device) -> None:
        self.network, self.device = network.to(device), device
        self.dtype = choose_precision("auto", device)
        self.batches = bare_batches(data, config)
        settings = config.optimizer
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=settings.lr, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay
        )
        steps_per_epoch = len(data.images) // config.batch_size
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.lr, epochs=config.epochs, steps_per_epoch=steps_per_epoch
        )
        self.last_loss = 0.0

    def step(self) -> None:
        """One optimizer step."""
        images, labels = next(self.batches)
        images, labels = images.to(self.device), labels.to(self.device)
        with autocast(self.device, self.dtype):
            loss = F.cross_entropy(self.network(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.last_loss = loss.item()


# ---- ours -----------------------------------------------------------------------------------------------------------


class OurLoop:
    """Trains with the pieces that `public.recipes.classification.train` puts together."""

    def __init__(self, network: nn.Module, data: Cifar100, config: ClassificationConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        context = DistributedContext(rank=0, size=1, device=device)
        dtype = choose_precision(config.precision, device)
        task = ClassificationTask(network, config, dtype)
        wrapped = wrap(
            task,
            context,
            sync_batch_norm=False,
            parallel=config.parallel,
            compiled=config.compile,
            channels_last=config.channels_last,
        )
        optimizer = build_optimizer(network, config.optimizer)
        state = TrainState(network, optimizer, torch.amp.GradScaler(device.type, enabled=False), None)
        # What a step of the recipe's own loop asks of a run; mixing and the like are off in this row.
        self.run: Any = SimpleNamespace(
            config=config,
            context=context,
            task=SimpleNamespace(prepare=lambda parts, _: parts),
            wrapped=wrapped,
            state=state,
        )
        self.run.parts = lambda batch: [batch]
        transforms = build_all(config.data.train_transforms, config.data.input_size)
        self.loader = CifarTrainLoader(data, transforms, batch_size=config.batch_size, seed=config.seed, device=device)
        self.batches = self._batches()
        self.steps_done = 0
        self.last_loss = 0.0

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        epoch = 0
        while True:
            yield from self.loader.epoch(epoch)
            epoch += 1

    def step(self) -> None:
        """One optimizer step."""
        config, steps = self.config, self.loader.steps_per_epoch
        factor = lr_factor(config.schedule, self.steps_done, epochs=config.epochs, steps_per_epoch=steps)
        batch = next(self.batches)
        self.run.global_step = self.steps_done
        losses = train_step(self.run, batch, config.optimizer.lr * factor)
        self.steps_done += 1
        self.last_loss = losses["cross_entropy"]


def turn(options: Options, config: ClassificationConfig, side: str) -> Turn:
    """Takes some steps of one side, and gives the images a second; says the loss after the steps not counted."""
    device = device_here(ours=side == OURS)
    data = read_cifar100(Path(config.data.folder), "train", published_archive=False)
    seed_everything(options.seed)
    network = build_backbone(options.network, num_classes=len(data.class_names))
    loop = (OurLoop if side == OURS else BareLoop)(network, data, config, device)
    speed = timed(loop.step, options.batch_size, device, options.steps)
    speed()
    print(f"loss after {options.steps} steps, {side}: {loop.last_loss:.3f}", flush=True)
    return speed


def compare_speed(options: Options, config: ClassificationConfig, words: str) -> None:
    """Both loops from the same initial weights, in alternating rounds."""
    with sides(turn, options, config, names=(OURS, BARE)) as ways:
        comparison = alternate(ways, options.rounds, "images/s", is_warm=True)
    steps = f"{options.steps} steps of {options.batch_size} a turn"
    report("cifar_training", comparison, 1.0, benchmark_device(), f"{options.network}, {words}, {steps}")


def compare_accuracy(options: Options, config: ClassificationConfig, words: str, out: Path) -> None:
    """The recipe's whole run, and its top-1 beside the yardstick's."""
    device = benchmark_device()
    log_to_console(is_main=True)
    code = train(config, out, DistributedContext(rank=0, size=1, device=device))
    if code:
        raise SystemExit(code)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    print(f"\nepoch   top-1 %   yardstick % (cifar100_like, 5 epochs)   images/s\n{'-' * 66}")
    for row in rows:
        number = row["epoch"]
        yardstick = f"{100 * YARDSTICK[number - 1]:.1f}" if number <= len(YARDSTICK) else "-"
        print(f"{number:>5}   {100 * row['top1']:>7.1f}   {yardstick:>11}   {row['images_per_second']:>37.0f}")
    numbers = {"top1": [row["top1"] for row in rows], "yardstick": list(YARDSTICK), "epochs": config.epochs}
    append_result("cifar_training --train", numbers, device, f"{options.network}, {words}")


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    folder, words = find_data("cifar100_like", "CIFAR100", options.data)
    config = our_config(options, folder)
    if not options.train:
        compare_speed(options, config, words)
    elif options.out is not None:
        compare_accuracy(options, config, words, options.out)
    else:
        with tempfile.TemporaryDirectory() as out:
            compare_accuracy(options, config, words, Path(out))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
