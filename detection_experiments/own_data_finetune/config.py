"""Data of your own with boxes, from 50 to 50,000 images, in whatever format they are: FCOS from COCO's weights.

    cd detection_experiments/own_data_finetune
    python train.py --data.folder ~/raccoons
    python train.py --data.folder ~/raccoons --initial-weights other.pth

The format is recognized and said: COCO (the 2017 layout, the official archives', Roboflow's, one folder of images),
Pascal VOC (with or without ImageSets) or YOLO (data.yaml). Without a validation split, 15 % of the images become one,
by a hash of their names: the same on every machine, and the run keeps the list (--data.val-fraction). The classes are
the data's; --data.classes cat dog trains on some of them. `python -m public.datasets.check` with this folder and the
same --data.folder looks at every image first and draws a page of statistics. Judged by COCO's rules.

    row             starts from                           python train.py <row>
    resnet50        torchvision's FCOS of COCO            the default, for a GPU
    mobilenet_v2    torchvision's ImageNet weights        on a CPU too: smaller, and takes more epochs

The class layer starts new, and the log says so. torchvision fetches its weights. --backbone-weights None goes with
--initial-weights in the second row. Rare classes: --data.balance 0.3. A larger --batch-size takes the learning rate
along. --data.input-size is the shorter side of the images, and should leave the smallest objects 10 pixels.

30 and 40 epochs of batches of 8 are 150 and 200 steps for 50 images; for tens of thousands --epochs shortens them.
Tried: mobilenet_v2 as it stands with 50 photos of blood cells without lists, 42 to train on, on a CPU: after its 200
steps AP 0.45 and AP50 0.78 on the 8 others (RBC 0.84, WBC 1.00, the 12 small Platelets 0.48), the best of the run; with
--epochs 20 --data.input-size 240, 100 steps, AP 0.28 and AP50 0.54 (Platelets 0): so small a set is not to be cut.
Averaged weights (--ema-decay 0.99) had AP 0 then: so few steps do not reach them. With 205 photos and such averages see
the card of ../mobilenet_v2_fcos_bloodcells_train_example: VOC mAP50 0.90. Nobody has run resnet50 yet.
"""

from dataclasses import replace

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.config.run import RuntimeConfig
from public.datasets.formats import AutoData
from public.detectors.fcos.options import FCOSOptions
from public.optim.options import AdamWOptions, CosineOptions
from public.transforms.detection import (
    PhotometricJitter,
    RandomCrop,
    RandomHorizontalFlip,
    RandomTranslate,
    ShortSideResize,
)

RESNET = DetectionConfig(
    name="resnet50",
    initial_weights="torchvision:fcos_resnet50_fpn.COCO_V1",
    new_class_head=True,
    epochs=30,
    batch_size=8,
    clip_grad_norm=10.0,
    best_metric="AP",
    detector=FCOSOptions.torchvision(backbone="resnet50", frozen_stages=2, frozen_batch_norm=True),
    data=AutoData(
        folder="own_data",
        val_fraction=0.15,
        metrics="coco",
        input_size=640,
        train_transforms=(
            Call(RandomHorizontalFlip),
            Call(PhotometricJitter),
            Call(ShortSideResize, short=SIZE, long_cap=Scaled(1066, of=640)),
        ),
        val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=Scaled(1066, of=640)),),
    ),
    optimizer=AdamWOptions(lr=1e-4, weight_decay=0.05, decay_norm_and_bias=False),
    schedule=CosineOptions(warmup_epochs=1),
    runtime=RuntimeConfig(num_workers=4, log_every=10),
)

CONFIGS = {
    "resnet50": RESNET,
    "mobilenet_v2": replace(
        RESNET,
        name="mobilenet_v2",
        initial_weights=None,
        new_class_head=False,
        backbone_weights="torchvision:mobilenet_v2",
        epochs=40,
        evaluate_every=5,
        detector=FCOSOptions(backbone="mobilenet_v2", levels=("p3", "p4", "p5"), channels=128),
        data=replace(
            RESNET.data,
            input_size=320,
            train_transforms=(
                Call(RandomHorizontalFlip),
                Call(RandomCrop),
                Call(RandomTranslate),
                Call(PhotometricJitter),
                Call(ShortSideResize, short=SIZE, long_cap=Scaled(427, of=320)),
            ),
            val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=Scaled(427, of=320)),),
        ),
        optimizer=AdamWOptions(lr=1e-3, weight_decay=0.01, decay_norm_and_bias=False),
        schedule=CosineOptions(warmup_epochs=2),
    ),
}
