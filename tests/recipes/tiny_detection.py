"""A detection run that takes seconds: a copy of this file in an empty folder is the train.py of a whole experiment.

No batch norm moves and no loss depends on how a batch is shared out, so one process and two give the same losses.
"""

import os
from dataclasses import replace

import torch

from public.config.detection import DetectionConfig, DetectionDataConfig, DetectorConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig
from public.recipes.detection import main
from public.transforms.detection import (
    RandomCrop,
    RandomHorizontalFlip,
    RandomShortSideResize,
    RandomSquareResize,
    ShortSideResize,
    SquareResize,
)

TINY = DetectionConfig(
    name="tiny",
    network="fcos",
    canvas_size=(64, 64),
    epochs=2,
    batch_size=4,
    clip_grad_norm=1.0,
    precision="fp32",
    best_metric="AP50",
    detector=DetectorConfig(
        backbone="mobilenet_v2", frozen_batch_norm=True, levels=("p4", "p5"), channels=32, num_convs=1
    ),
    data=DetectionDataConfig(
        dataset="coco",
        folder=os.environ.get("TINY_DATA", "tiny"),
        train_splits=("train2017",),
        val_splits=("val2017",),
        train_transforms=(RandomHorizontalFlip(), RandomCrop(), RandomSquareResize(sizes=(64, 96))),
        val_transforms=(SquareResize(size=64),),
    ),
    optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.01),
    schedule=ScheduleConfig(kind="constant"),
    runtime=RuntimeConfig(device="cpu", num_workers=0, log_every=1, save_every_minutes=100),
)

TINY_TWO_STAGES = replace(
    TINY,
    name="tiny_two_stages",
    network="faster_rcnn",
    detector=DetectorConfig(
        backbone="mobilenet_v2",
        frozen_batch_norm=True,
        levels=("p4", "p5", "p6"),
        channels=32,
        head_channels=32,
        pool_size=3,
    ),
    data=replace(
        TINY.data,
        train_transforms=(RandomHorizontalFlip(), RandomShortSideResize(shorts=(48, 64), long_cap=160)),
        val_transforms=(ShortSideResize(short=48, long_cap=160),),
    ),
)

if __name__ == "__main__":
    torch.set_num_threads(1)  # as the launcher sets it for several processes: sums are then taken in the same order
    main({"tiny": TINY, "tiny_two_stages": TINY_TWO_STAGES}, __file__)
