"""RetinaNet with ResNet-50 on Pascal VOC (2007 + 2012 trainval, tested on 2007 test) at 667 x 667.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002. Recipe and numbers: the 2020 monorepo, two RTX 2080 Ti, mixed
precision; mAP at IoU 0.5, 11-point interpolated:

    epoch   mAP50 (11-point)  training loss
    5       0.660             0.62
    10      0.705             0.44
    15      0.723             0.35
    20      0.732             0.30

A month later: 0.741.

    python train.py

Deviations from 2020, each a defect there: pixels are normalized with ImageNet's mean and std, as the backbone's
weights expect, and empty canvas is the mean pixel; random crops cut any side; the focal and box losses divide by the
positives of the global batch (images without objects count as background); no anchor is dropped at the border and
every object has at least its best anchor; weight decay leaves out norms and biases; the learning rate is constant
where theirs waited for a plateau of the training loss that hardly came; every class over the threshold is a
detection, suppressed class by class, in float pixels. Difficult objects are ignored, in training and in evaluation as
the devkit does, where theirs counted detections of them as wrong. Precision is bf16 where the device is faster in it.
"""

from public.config.calls import SIZE, Call
from public.config.detection import DetectionConfig
from public.datasets.voc import VocData
from public.detectors.retinanet.options import RetinaNetOptions
from public.optim.options import AdamWOptions, ConstantOptions
from public.transforms.detection import RandomCrop, RandomHorizontalFlip, RandomTranslate, SquareResize

CONFIGS = {
    "resnet50_retinanet": DetectionConfig(
        name="resnet50_retinanet",
        backbone_weights="torchvision:resnet50",
        epochs=20,
        batch_size=24,
        clip_grad_norm=0.1,
        evaluate_every=5,
        best_metric="mAP50_11point",
        channels_last=True,
        detector=RetinaNetOptions(backbone="resnet50", focal_gamma=1.5),
        data=VocData(
            folder="VOCdataset",
            input_size=667,
            train_splits=("VOC2007/trainval", "VOC2012/trainval"),
            val_splits=("VOC2007/test",),
            train_transforms=(
                Call(RandomHorizontalFlip),
                Call(RandomCrop),
                Call(RandomTranslate),
                Call(SquareResize, size=SIZE),
            ),
            val_transforms=(Call(SquareResize, size=SIZE),),
        ),
        optimizer=AdamWOptions(lr=1e-4, weight_decay=0.01, decay_norm_and_bias=False),
        schedule=ConstantOptions(),
    )
}
