"""FCOS with ResNet-50 on COCO 2017, short side 800: the improved 1x recipe of its authors.

Paper: Tian et al. 2019, https://arxiv.org/abs/1904.01355, table 3, and 2020, https://arxiv.org/abs/2006.09214. Recipe
and number: https://github.com/tianzhi0549/FCOS, fcos_imprv_R_50_FPN_1x, 8 GPUs with 2 images each, 90,000 steps:
AP 38.7 on val2017 (there COCO 2014's minival, the same images). It was not trained to its end here.

    python train.py

    setting                          FCOS_imprv                           here
    short side, long one at most     800, 1333                            the same
    mirrored                         half of the images                   the same
    images without objects           left out                             take part, as background
    crowds                           left out: background                 nothing is learned in them
    batches                          16, by upright or not                the same
    backbone                         MSRA's, stride on the 1x1            torchvision's V1, stride on the 3x3
    pixels                           BGR, mean subtracted, as its         RGB, by mean and deviation, as its weights
                                     weights want
    stem, c2; all batch norms        fixed                                the same
    P6 from                          P5                                   the same
    distances                        relu of a learned factor, strides    relu, strides; detectron2 found the factor
                                                                          to have no benefit
    positives                        1.5 strides around the center,       the same
                                     a square; ranges 64, 128, 256, 512
    loss of classes                  focal, 0.25, 2.0, by positives       the same
    loss of boxes                    GIoU, weighted by centerness,        by positives, times 2; the mean centerness of
                                     by the sum of centerness             positives is about a half
    centerness                       beside the boxes, by positives       the same
    SGD                              0.01, 0.9, decay 1e-4                the same
    biases                           twice the rate, no decay             not decayed, like the norms
    schedule                         500 steps at a third, a tenth        a linear warm-up of 500 steps, in 12 epochs:
                                     after 60,000 and 80,000 of 90,000    88,700 steps
    threshold, candidates of levels  class 0.05, 1000                     sqrt(class x centerness) 0.05, 1000
    suppression, at most             0.6, 100                             the same

Precision is bf16 where the device is faster in it.
"""

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.fcos.options import FCOSOptions
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.detection import RandomHorizontalFlip, ShortSideResize

RESIZE = Call(ShortSideResize, short=SIZE, long_cap=Scaled(1333, of=800))

CONFIGS = {
    "resnet50_fcos": DetectionConfig(
        name="resnet50_fcos",
        backbone_weights="torchvision:resnet50.IMAGENET1K_V1",
        epochs=12,
        batch_size=16,
        evaluate_every=2,
        best_metric="AP",
        channels_last=True,
        detector=FCOSOptions(
            backbone="resnet50",
            frozen_stages=2,
            frozen_batch_norm=True,
            distances="relu",
            center_sampling="square",
            score_threshold=0.05,
        ),
        data=CocoData(
            folder="COCO2017",
            input_size=800,
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(Call(RandomHorizontalFlip), RESIZE),
            val_transforms=(RESIZE,),
            group_by_aspect=0,
        ),
        optimizer=SGDOptions(lr=0.01, momentum=0.9, weight_decay=1e-4, decay_norm_and_bias=False),
        schedule=MultistepOptions(warmup_epochs=0.068, milestones=(8, 10.667), gamma=0.1),
    )
}
