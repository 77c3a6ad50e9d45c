"""Three kinds of blood cells with FCOS or Faster R-CNN on MobileNetV2: how to train on a small data set of one's own.

Data: https://github.com/Shenggan/BCCD_Dataset (MIT), 364 photos of 640 x 480 pixels in Pascal VOC's layout with its own
class list: red cells (RBC), white cells (WBC), Platelets. From the repository:

    git clone https://github.com/Shenggan/BCCD_Dataset data/bccd/VOCdevkit
    python -m public.datasets.check detection_experiments/mobilenet_v2_fcos_bloodcells_train_example
    cd detection_experiments/mobilenet_v2_fcos_bloodcells_train_example
    python train.py

The check names two boxes without area, which training leaves out. A data set of your own takes here its `folder`, the
lists in `train_splits` and `val_splits`, `num_classes`, and `classes`; without these, they are those of its objects.

VOC mAP50 (area) on `val`, measured in bf16 on a CPU core, with records below `results/`; 87 images, so that a
difference of 0.01 means nothing:

    row                         best                after the last epoch
    mobilenet_v2_fcos           0.90 (epoch 25)     0.89 (epoch 40; RBC 0.84, WBC 0.99, Platelets 0.83)
    mobilenet_v2_faster_rcnn    0.91 (epoch 12)     0.91 (epoch 12; RBC 0.87, WBC 1.00, Platelets 0.87)
    mobilenet_v2_fcos_ssd_crops not measured
    mobilenet_v2_fcos_mosaic    not measured

The first has 0.81 after 10 epochs and 0.88 after 15. The yardstick is torchvision's own FCOS with the same backbone and
canvas: 0.75 after 15 epochs, 0.81 after 40. The row mobilenet_v2_fcos_ssd_crops has SSD's augmentation by torchvision's
transforms in the place of ours (Liu et al., arXiv:1512.02325, section 2.2), mobilenet_v2_fcos_mosaic pastes cells of
other photos and makes mosaics of four until the last 5 epochs; neither AP was measured.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.config.run import RuntimeConfig
from public.datasets.voc import VocData
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.optim.options import AdamWOptions, CosineOptions
from public.transforms.detection import (
    FILL,
    PhotometricJitter,
    RandomCrop,
    RandomHorizontalFlip,
    RandomTranslate,
    ShortSideResize,
)
from public.transforms.mixing_boxes import CopyPaste, Mosaic

ONE_STAGE = DetectionConfig(
    name="mobilenet_v2_fcos",
    num_classes=3,
    backbone_weights="torchvision:mobilenet_v2",
    epochs=40,
    batch_size=8,
    channels_last=True,
    clip_grad_norm=10.0,
    ema_decay=0.99,
    evaluate_every=5,
    best_metric="mAP50",
    detector=FCOSOptions(backbone="mobilenet_v2", levels=("p3", "p4", "p5"), channels=128, frozen_stages=0),
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
    schedule=CosineOptions(warmup_epochs=2),
    runtime=RuntimeConfig(num_workers=2, log_every=10),
)

TWO_STAGES = replace(
    ONE_STAGE,
    name="mobilenet_v2_faster_rcnn",
    epochs=12,
    evaluate_every=4,
    detector=FasterRCNNOptions(
        backbone="mobilenet_v2",
        levels=("p3", "p4", "p5"),
        channels=128,
        anchor_sizes=(24.0, 48.0, 96.0),
        rpn_samples=128,
        num_candidates=(500, 300),
        num_proposals=(300, 150),
        roi_samples=64,
        head_channels=256,
    ),
)

SSD_CROPS = replace(
    ONE_STAGE,
    name="mobilenet_v2_fcos_ssd_crops",
    data=replace(
        ONE_STAGE.data,
        train_transforms=(
            Call(v2.RandomPhotometricDistort),
            Call(v2.RandomZoomOut, fill=FILL),
            Call(v2.RandomIoUCrop),
            Call(v2.RandomHorizontalFlip),
            Call(ShortSideResize, short=SIZE, long_cap=Scaled(320, of=240)),
        ),
    ),
)

MOSAIC = replace(
    ONE_STAGE,
    name="mobilenet_v2_fcos_mosaic",
    data=replace(
        ONE_STAGE.data,
        train_transforms=(
            Call(CopyPaste, close=5),
            Call(Mosaic, size=Scaled(320, of=240), close=5),
            Call(RandomHorizontalFlip),
            Call(PhotometricJitter),
            Call(ShortSideResize, short=SIZE, long_cap=Scaled(320, of=240)),
        ),
    ),
)

CONFIGS = {config.name: config for config in (ONE_STAGE, TWO_STAGES, SSD_CROPS, MOSAIC)}
