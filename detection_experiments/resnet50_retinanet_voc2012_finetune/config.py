"""RetinaNet with ResNet-50 from torchvision's COCO weights, fine-tuned on VOC2012 train and judged on VOC2012 val.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002. Recipes and numbers: the torchvision-style RetinaNet of
pytorch_object_detection (2021); COCO's numbers on the 5,823 images of VOC2012 val:

    AP      AP50    AP75    AP small, medium, large    AR 1    AR 10   AR 100  AR small, medium, large
    0.563   0.798   0.616   0.236  0.434  0.626        0.486   0.688   0.707   0.421  0.604  0.758

    row               recipe                                              python train.py <row>
    several_devices   of train_multi_GPU.py: 20 epochs, batches of 16     the default, and what gave the numbers above
    one_device        of train.py: 15 epochs, batches of 4                (no number of its own)

torchvision downloads its own weights and verifies them; --initial-weights FILE takes the file
retinanet_resnet50_fpn_coco-eeacb38b.pth or any other RetinaNet of that shape. The class layer starts new, and the log
names it. The learning rate of several_devices is for 4 GPUs with 4 images each, as in their log; it follows another
--batch-size. They had AP 0.562 after epoch 8 and their best, 0.564, after epoch 18.

    ./test.sh                     COCO's twelve numbers and the AP50 of each class: runs/<row>/test/record_mAP.txt
    ./test.sh --metrics voc       VOC's mAP instead

The network, anchors, codes and losses are torchvision's. Deviations from theirs: batch norms stay frozen, with
torchvision's own epsilon for these weights, where theirs took in the statistics of 4 images, those of frozen layers
too; boxes count pixels from 0; images of any kind and images without objects are taken; no image is taken twice to fill
a batch. Precision is bf16 where the device is faster in it.
"""

from dataclasses import replace

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.voc import VocData
from public.detectors.retinanet.options import RetinaNetOptions
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.detection import RandomHorizontalFlip, ShortSideResize

SEVERAL_DEVICES = DetectionConfig(
    name="several_devices",
    initial_weights="torchvision:retinanet_resnet50_fpn.COCO_V1",
    new_class_head=True,
    epochs=20,
    batch_size=16,
    best_metric="AP",
    channels_last=True,
    detector=RetinaNetOptions(
        backbone="resnet50",
        frozen_stages=2,
        frozen_batch_norm=True,
        batch_norm_eps=0.0,
        anchors="torchvision",
        p6_from="p5",
        box_loss="l1",
        box_weights=(1.0, 1.0, 1.0, 1.0),
        normalize="image",
    ),
    data=VocData(
        metrics="coco",
        folder="VOCdataset",
        input_size=800,
        train_splits=("VOC2012/train",),
        val_splits=("VOC2012/val",),
        train_transforms=(Call(RandomHorizontalFlip), Call(ShortSideResize, short=SIZE, long_cap=Scaled(1333, of=800))),
        val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=Scaled(1333, of=800)),),
        group_by_aspect=3,
    ),
    optimizer=SGDOptions(lr=0.01, momentum=0.9, weight_decay=1e-4),
    schedule=MultistepOptions(warmup_epochs=1, milestones=(7, 12), gamma=0.1),
)

CONFIGS = {
    "several_devices": SEVERAL_DEVICES,
    "one_device": replace(
        SEVERAL_DEVICES,
        name="one_device",
        epochs=15,
        batch_size=4,
        optimizer=SGDOptions(lr=0.005, momentum=0.9, weight_decay=5e-4),
        schedule=MultistepOptions(warmup_epochs=0.7, milestones=(3, 6, 9, 12), gamma=0.33),
    ),
}
