"""Cascade R-CNN with DetNet-59 and DetNet's pyramid on Pascal VOC, tested on VOC2007 test, short side 600.

Papers: Cai and Vasconcelos 2018, https://arxiv.org/abs/1712.00726; Li et al. 2018, https://arxiv.org/abs/1804.06215.
Recipe and numbers: cascade-rcnn_Pytorch, the successor of DetNet_Pytorch; AP by VOC's rules, the mean over ten
overlaps:

    row       trained on            batch    AP      AP50    AP75    python train.py <row>
    voc07     2007 trainval         2        48.9    75.9    53.0    the default (46.9 is what a user reports)
    voc0712   2007 + 12 trainval    1        55.6    80.1    61.0

The backbone starts from the best weights of our own imagenet_experiments/detnet59_imagenet, which has to be trained
first, or from --backbone-weights FILE.

Deviations from 2018: those of ../detnet59_faster_rcnn_voc, whose card lists them (24 epochs for their 12, the long side
at most 1000, difficult objects ignored, ...). Also: box codes are multiplied by more from head to head, as in the
paper, and the heads' losses by 1, 1/2 and 1/4, as in its authors' code, where theirs were alike in all three; the first
head's sample serves all of them; each head scores its own boxes, where theirs scored the last ones. Precision is bf16
where the device is faster in it.
"""

from dataclasses import replace

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.voc import VocData
from public.detectors.cascade_rcnn.options import CascadeRCNNOptions
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.detection import RandomHorizontalFlip, ShortSideResize

VOC07 = DetectionConfig(
    name="voc07",
    backbone_weights="../../imagenet_experiments/detnet59_imagenet/runs/detnet59/checkpoints/best.pth",
    epochs=24,
    batch_size=2,
    evaluate_every=2,
    best_metric="mAP50_95",
    channels_last=True,
    detector=CascadeRCNNOptions(
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
