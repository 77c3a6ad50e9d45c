"""RetinaNet with ResNet-50 on COCO 2017, short side 640 to 800: the 1x recipe of detectron2.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002. Recipe and number: detectron2's retinanet_R_50_FPN_1x, 8 GPUs
with 2 images each, 90,000 steps: AP 37.4 on val2017. It was not trained to its end here.

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
    P6 from                          C5                                   the same
    anchors                          32 to 512, times 2^(0, 1/3, 2/3)     the same, around the middles of their cells
    an anchor learns from, not to    0.5, 0.4; each object's best too     the same
    loss of classes                  focal, 0.25, 2.0                     the same
    loss of boxes                    L1, of deltas times 1, 1, 1, 1       the same
    divided by                       average of positives over steps      positives of this step
    SGD                              0.01, 0.9, decay 1e-4                the same
    schedule                         1,000 steps of warm-up, a tenth      the same in epochs, of which there are 12:
                                     after 60,000 and 80,000 of 90,000    88,700 steps
    threshold, candidates of levels  0.05, 1000                           the same
    suppression, at most             0.5, 100                             the same

Precision is bf16 where the device is faster in it.
"""

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.retinanet.options import RetinaNetOptions
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.detection import RandomHorizontalFlip, RandomShortSideResize, ShortSideResize

SHORTS = tuple(Scaled(short, of=800) for short in (640, 672, 704, 736, 768, 800))
LONG_CAP = Scaled(1333, of=800)

CONFIGS = {
    "resnet50_retinanet": DetectionConfig(
        name="resnet50_retinanet",
        backbone_weights="torchvision:resnet50.IMAGENET1K_V1",
        epochs=12,
        batch_size=16,
        evaluate_every=2,
        best_metric="AP",
        channels_last=True,
        detector=RetinaNetOptions(
            backbone="resnet50",
            frozen_stages=2,
            frozen_batch_norm=True,
            p6_from="c5",
            box_loss="l1",
            box_weights=(1.0, 1.0, 1.0, 1.0),
        ),
        data=CocoData(
            folder="COCO2017",
            input_size=800,
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(
                Call(RandomHorizontalFlip),
                Call(RandomShortSideResize, shorts=SHORTS, long_cap=LONG_CAP),
            ),
            val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=LONG_CAP),),
            group_by_aspect=0,
        ),
        optimizer=SGDOptions(lr=0.01, momentum=0.9, weight_decay=1e-4),
        schedule=MultistepOptions(warmup_epochs=0.135, milestones=(8, 10.667), gamma=0.1),
    )
}
