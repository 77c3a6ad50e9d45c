"""Faster R-CNN with ResNet-50 on COCO 2017, short side 640 to 800: the 1x recipe of detectron2.

Papers: Ren et al. 2015, https://arxiv.org/abs/1506.01497; Lin et al. 2016, https://arxiv.org/abs/1612.03144. Recipe and
number: detectron2's faster_rcnn_R_50_FPN_1x, 8 GPUs with 2 images each, 90,000 steps: AP 37.9 on val2017. It was not
trained to its end here.

    python train.py

    setting                          detectron2                           here
    short side, long one at most     640, 672, ... 800; 1333              the same, drawn for a batch, not an image
    mirrored                         half of the images                   the same
    images without objects           left out                             take part, as background
    crowds                           left out: background                 nothing is learned in them
    batches                          16, by upright or not                the same
    backbone                         MSRA's, stride on the 1x1            torchvision's V1, stride on the 3x3
    pixels                           BGR, mean subtracted, as its         RGB, by mean and deviation, as its weights
                                     weights want
    stem, c2; all batch norms        fixed                                the same
    anchors                          32 at P2 to 512 at P6; 1:2, 1:1, 2:1 the same, around the middles of their cells
    an anchor learns from, not to    0.7, 0.3; each object's best too     the same
    of an image learn                256 anchors, half positive; 512      the same
                                     regions, a quarter, from IoU 0.5
    proposals: of a level, after     2000 in training, else 1000; 1000;   the same
    suppression, from IoU            0.7
    regions                          7 x 7 of P2 to P5, aligned, as many  the same
                                     samples as pixels
    head                             2 layers of 1024, a box a class      the same
    losses of classes                cross entropy                        the same
    losses of boxes                  L1, of deltas times 1 (anchors) and  the same
                                     10, 10, 5, 5 (regions)
    divided by                       256; samples of a process's images   the samples of each image
    SGD                              0.02, 0.9, decay 1e-4                the same
    schedule                         1,000 steps of warm-up, a tenth      the same in epochs, of which there are 12:
                                     after 60,000 and 80,000 of 90,000    88,700 steps
    threshold, suppression, at most  0.05, 0.5, 100                       the same

Precision is bf16 where the device is faster in it.
"""

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.detection import RandomHorizontalFlip, RandomShortSideResize, ShortSideResize

CONFIGS = {
    "resnet50_faster_rcnn": DetectionConfig(
        name="resnet50_faster_rcnn",
        backbone_weights="torchvision:resnet50.IMAGENET1K_V1",
        epochs=12,
        batch_size=16,
        evaluate_every=2,
        best_metric="AP",
        channels_last=True,
        detector=FasterRCNNOptions(
            backbone="resnet50",
            frozen_stages=2,
            frozen_batch_norm=True,
            num_proposals=(1000, 1000),
            sampling_ratio=0,
            smooth_l1_beta=0.0,
        ),
        data=CocoData(
            folder="COCO2017",
            input_size=800,
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(
                Call(RandomHorizontalFlip),
                Call(
                    RandomShortSideResize,
                    shorts=(
                        Scaled(640, of=800),
                        Scaled(672, of=800),
                        Scaled(704, of=800),
                        Scaled(736, of=800),
                        Scaled(768, of=800),
                        SIZE,
                    ),
                    long_cap=Scaled(1333, of=800),
                ),
            ),
            val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=Scaled(1333, of=800)),),
            group_by_aspect=0,
        ),
        optimizer=SGDOptions(lr=0.02, momentum=0.9, weight_decay=1e-4),
        schedule=MultistepOptions(warmup_epochs=0.135, milestones=(8, 10.667), gamma=0.1),
    )
}
