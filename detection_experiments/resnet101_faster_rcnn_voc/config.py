"""Faster R-CNN with ResNet-101 on Pascal VOC, tested on VOC2007 test, short side 600: what DetNet-59 is compared with.

Paper: Lin et al. 2016, https://arxiv.org/abs/1612.03144. Recipe and numbers: DetNet_Pytorch of 2018, one GTX 1080 Ti;
mAP at IoU 0.5, 11-point interpolated:

    row       trained on            batch    mAP     python train.py <row>
    voc07     2007 trainval         2        75.7    the default
    voc0712   2007 + 12 trainval    1        80.5    (81.2 soft: ./test.sh voc0712 --detector.soft-nms linear)

The learning rate follows another batch: 8e-3 with --batch-size 16.

Deviations from 2018: those of ../detnet59_faster_rcnn_voc, whose card lists them (24 epochs for their 12, the long side
at most 1000, difficult objects ignored, ...). Precision is bf16 where the device is faster in it.
"""

from dataclasses import replace

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.voc import VocData
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.detection import RandomHorizontalFlip, ShortSideResize

VOC07 = DetectionConfig(
    name="voc07",
    backbone_weights="torchvision:resnet101.IMAGENET1K_V1",
    epochs=24,
    batch_size=2,
    evaluate_every=2,
    best_metric="mAP50_11point",
    channels_last=True,
    detector=FasterRCNNOptions(
        backbone="resnet101",
        frozen_stages=2,
        frozen_batch_norm=True,
        roi_samples=128,
        num_proposals=(2000, 300),
        score_threshold=0.001,
        iou_threshold=0.3,
    ),
    data=VocData(
        folder="VOCdataset",
        input_size=600,
        train_splits=("VOC2007/trainval",),
        val_splits=("VOC2007/test",),
        train_transforms=(Call(RandomHorizontalFlip), Call(ShortSideResize, short=SIZE, long_cap=Scaled(1000, of=600))),
        val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=Scaled(1000, of=600)),),
        group_by_aspect=3,
    ),
    optimizer=SGDOptions(lr=1e-3, momentum=0.9, weight_decay=1e-4, decay_norm_and_bias=False),
    schedule=MultistepOptions(milestones=(20,), gamma=0.1),
)

CONFIGS = {
    "voc07": VOC07,
    "voc0712": replace(
        VOC07,
        name="voc0712",
        batch_size=1,
        data=replace(VOC07.data, train_splits=("VOC2007/trainval", "VOC2012/trainval"), group_by_aspect=None),
    ),
}
