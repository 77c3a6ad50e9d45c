"""Faster R-CNN with DetNet-59 and DetNet's pyramid on Pascal VOC, tested on VOC2007 test, short side 600.

Paper: Li et al. 2018, https://arxiv.org/abs/1804.06215. Recipe and numbers: DetNet_Pytorch of 2018, one GTX 1080 Ti;
mAP at IoU 0.5, 11-point interpolated:

    row       trained on            batch    mAP     python train.py <row>
    voc07     2007 trainval         2        75.9    the default
    voc0712   2007 + 12 trainval    1        80.7    (81.6 soft: ./test.sh voc0712 --detector.soft-nms linear)

Their later runs of the same network: AP 44.8 (mean over ten overlaps), AP50 76.1 and AP 53.0, AP50 80.7.

The backbone starts from the best weights of our own imagenet_experiments/detnet59_imagenet, which has to be trained
first, or from --backbone-weights FILE. The learning rate follows another batch: 8e-3 with --batch-size 16.

Deviations from 2018. Defects there: the long side is at most 1000 (theirs was defined, but not applied); each image of
a batch is clipped to its own size; proposals level by level, ranked by the logits that are trained; 256 anchors are
sampled whatever the number of positives; nothing is scored where there is no proposal; anchors at the border learn.
Choices: difficult objects are ignored in training too, where theirs were learned; all objects of an image count, not 20
at most; anchors lie around the middles of their cells, not at the corners; the proposals' hidden layer has 256
channels, not 512; RoI Align is torchvision's, theirs averaged a lattice of 15 x 15 points. Both losses of boxes turn at
1/9, where the second one of theirs turned at 1. Their data set held every image twice, once mirrored, and `--epochs 12`
ran 11 of it, which are 22 epochs in which images are mirrored at random; here they are 24, the rate falling after 20 as
theirs did after 10. Detections count from a score of 0.001 on. Precision is bf16 where the device is faster in it.
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
    backbone_weights="../../imagenet_experiments/detnet59_imagenet/runs/detnet59/checkpoints/best.pth",
    epochs=24,
    batch_size=2,
    evaluate_every=2,
    best_metric="mAP50_11point",
    channels_last=True,
    detector=FasterRCNNOptions(
        backbone="detnet59",
        frozen_stages=2,
        frozen_batch_norm=True,
        pyramid="detnet",
        pool_size=14,
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
