"""A detection run that takes seconds: a copy of this file in an empty folder is the train.py of a whole experiment.

No batch norm moves and no loss depends on how a batch is shared out, so one process and two give the same losses.
"""

import os
from dataclasses import replace

import torch

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.config.run import RuntimeConfig
from public.datasets.coco import CocoData
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.optim.options import AdamWOptions, ConstantOptions
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
    epochs=2,
    batch_size=4,
    clip_grad_norm=1.0,
    precision="fp32",
    best_metric="AP50",
    detector=FCOSOptions(
        backbone="mobilenet_v2", frozen_batch_norm=True, levels=("p4", "p5"), channels=32, num_convs=1
    ),
    data=CocoData(
        folder=os.environ.get("TINY_DATA", "tiny"),
        input_size=64,
        train_splits=("train2017",),
        val_splits=("val2017",),
        train_transforms=(
            Call(RandomHorizontalFlip),
            Call(RandomCrop),
            Call(
                RandomSquareResize,
                sizes=(
                    SIZE,
                    Scaled(96, of=64),
                ),
            ),
        ),
        val_transforms=(Call(SquareResize, size=SIZE),),
    ),
    optimizer=AdamWOptions(lr=1e-3, weight_decay=0.01),
    schedule=ConstantOptions(),
    runtime=RuntimeConfig(device="cpu", num_workers=0, log_every=1, save_every_minutes=100),
)

TINY_TWO_STAGES = replace(
    TINY,
    name="tiny_two_stages",
    detector=FasterRCNNOptions(
        backbone="mobilenet_v2",
        frozen_batch_norm=True,
        levels=("p4", "p5", "p6"),
        channels=32,
        head_channels=32,
        pool_size=3,
    ),
    data=replace(
        TINY.data,
        train_transforms=(
            Call(RandomHorizontalFlip),
            Call(
                RandomShortSideResize,
                shorts=(
                    Scaled(48, of=64),
                    SIZE,
                ),
                long_cap=Scaled(160, of=64),
            ),
        ),
        val_transforms=(Call(ShortSideResize, short=48, long_cap=Scaled(160, of=64)),),
    ),
)

if __name__ == "__main__":
    torch.set_num_threads(1)  # as the launcher sets it for several processes: sums are then taken in the same order
    main({"tiny": TINY, "tiny_two_stages": TINY_TWO_STAGES}, __file__)
