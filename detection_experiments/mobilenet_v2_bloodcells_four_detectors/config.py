"""Three kinds of blood cells with four detectors on MobileNetV2: 12 epochs at 320 x 240 pixels, a CPU's afternoon.

Data: https://github.com/Shenggan/BCCD_Dataset (MIT), as in ../mobilenet_v2_fcos_bloodcells_train_example:

    git clone https://github.com/Shenggan/BCCD_Dataset data/bccd/VOCdevkit
    cd detection_experiments/mobilenet_v2_bloodcells_four_detectors
    python train.py retinanet --seed 1

    row            python train.py <row>
    fcos           the default
    retinanet
    faster_rcnn
    centernet

All share data, augmentation, optimizer and length. RetinaNet's heads have no norms, and four convolutions of them
hardly begin to learn in 300 steps: mAP50 0.49 with anchors of 24, 48 and 96 pixels, 0.58 with 16, 40 and 80, and 0.90
with two convolutions (seed 0), which the row has; torchvision's, which has four, ends at 0.42. CenterNet's heatmap,
behind three layers of new weights, only begins to be learned in these steps: 0.03 (its paper trains for 140 epochs of
COCO). FCOS has torchvision's options, by which outputs count strides: 0.88. By the paper's it begins with boxes of two
pixels (exp of an output near 0) and ended at 0.80 (means of three seeds, the latter in bf16). From new weights
(--backbone-weights None, one seed) 300 steps are too few for it: 0.02.

The runs that were recorded, with their VOC mAP50 on `val` (87 images), config and environment, are below `results/`,
and side by side in `docs/results.md`.
"""

from dataclasses import replace

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.config.run import RuntimeConfig
from public.datasets.voc import VocData
from public.detectors.centernet.options import CenterNetOptions
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.options import RetinaNetOptions
from public.optim.options import AdamWOptions, CosineOptions
from public.transforms.detection import (
    PhotometricJitter,
    RandomCrop,
    RandomHorizontalFlip,
    RandomTranslate,
    ShortSideResize,
)

LEVELS = ("p3", "p4", "p5")
ANCHOR_SIZES = (24.0, 48.0, 96.0)
"""Of each level, for pictures of 320 x 240: platelets are some 20 pixels wide there, white cells some 100."""
RETINANET_ANCHOR_SIZES = (16.0, 40.0, 80.0)
"""As RetinaNet has two more sizes a level, 1.26 and 1.59 times these."""

FCOS = DetectionConfig(
    name="fcos",
    num_classes=3,
    backbone_weights="torchvision:mobilenet_v2",
    epochs=12,
    batch_size=8,
    channels_last=True,
    clip_grad_norm=10.0,
    ema_decay=0.99,
    evaluate_every=4,
    best_metric="mAP50",
    detector=FCOSOptions.torchvision(
        backbone="mobilenet_v2", levels=LEVELS, channels=128, frozen_stages=0, score_threshold=0.01
    ),
    data=VocData(
        folder="bccd/VOCdevkit",
        input_size=240,
        train_splits=("BCCD/train",),
        val_splits=("BCCD/val",),
        classes=("RBC", "WBC", "Platelets"),
        train_transforms=(
            Call(RandomHorizontalFlip),
            Call(RandomCrop),
            Call(RandomTranslate),
            Call(PhotometricJitter),
            Call(ShortSideResize, short=SIZE, long_cap=Scaled(320, of=240)),
        ),
        val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=Scaled(320, of=240)),),
    ),
    optimizer=AdamWOptions(lr=1e-3, weight_decay=0.01, decay_norm_and_bias=False),
    schedule=CosineOptions(warmup_epochs=1),
    runtime=RuntimeConfig(num_workers=2, log_every=10),
)

DETECTORS = {
    "retinanet": RetinaNetOptions(
        backbone="mobilenet_v2",
        levels=LEVELS,
        channels=128,
        num_convs=2,
        frozen_stages=0,
        anchor_sizes=RETINANET_ANCHOR_SIZES,
    ),
    "faster_rcnn": FasterRCNNOptions(
        backbone="mobilenet_v2",
        levels=LEVELS,
        channels=128,
        anchor_sizes=ANCHOR_SIZES,
        rpn_samples=128,
        num_candidates=(500, 300),
        num_proposals=(300, 150),
        roi_samples=64,
        head_channels=256,
    ),
    "centernet": CenterNetOptions(backbone="mobilenet_v2", upsample_channels=(256, 128, 64)),
}

CONFIGS = {"fcos": FCOS} | {name: replace(FCOS, name=name, detector=options) for name, options in DETECTORS.items()}
