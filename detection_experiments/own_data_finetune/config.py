"""Data of your own with boxes, from 50 to 50,000 images, in whatever format they are: FCOS from COCO's weights.

    cd detection_experiments/own_data_finetune
    python train.py --data.folder ~/raccoons
    python train.py --data.folder ~/raccoons --initial-weights other.pth

The format is recognized and said: COCO (the 2017 layout, the official archives', Roboflow's, one folder of images),
Pascal VOC (with or without ImageSets) or YOLO (data.yaml, classes.txt or obj.data). Without a validation split, 15 % of
the images become one, by a hash of their names: the same on every machine, and the run keeps the list
(--data.val-fraction). The classes are the data's; --data.classes cat dog trains on some of them.
`python -m public.datasets.check` with this folder and the same --data.folder looks at every image first and draws a
page of statistics. Judged by COCO's rules.

    row             starts from                           python train.py <row>
    resnet50        torchvision's FCOS of COCO            the default, for a GPU
    mobilenet_v2    torchvision's ImageNet weights        on a CPU too: smaller, and takes more epochs

The class layer starts new, and the log says so. torchvision fetches its weights. --backbone-weights None goes with
--initial-weights in the second row. Rare classes: --data.balance 0.3. A larger --batch-size takes the learning rate
along. --data.input-size is the shorter side of the images, and should leave the smallest objects 10 pixels.

Steps are what counts: 200 will do, 1,000 are better. 40 epochs of batches of 8 are that for 50 to 200 images, which are
not to be cut; --epochs 10 is for 1,000, 5 for 5,000, 3 for 50,000. Tried, mobilenet_v2 on a CPU with photos of blood
cells without lists; averaged weights (--ema-decay 0.99) had AP 0 in the second run, whose steps do not reach them:

    images          shorter side   epochs   steps   AP (AP50) of the 15 %
    50              320            40       200     0.49 (0.87; RBC 0.86, WBC 1.00, the 18 small Platelets 0.76)
    50              240            20       100     0.36 (0.63; Platelets 0)
    205             240            10       210     0.52 (0.87; RBC 0.86, WBC 0.98, Platelets 0.75)

On two quiet cores they took 231, 76 and 141 s.
../mobilenet_v2_fcos_bloodcells_train_example, 205 photos in 1,000 steps with such averages, has VOC mAP50 0.90. 50,000
photos with 684,000 boxes are read, checked and divided in 2 s of one core from COCO's file, 9 s from YOLO's and 13 s
from VOC's, in 0.2 to 0.3 GB; the first 20 steps of such a run were made. resnet50 was run for three steps alone, with
random weights.
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
    channels_last=True,
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
        evaluate_every=2,
        detector=FCOSOptions.torchvision(
            backbone="mobilenet_v2", levels=("p3", "p4", "p5"), channels=128, score_threshold=0.01
        ),
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
