"""RetinaNet with ResNet-101 on COCO 2017 at 667 x 667.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002. Recipe and numbers: the 2020 monorepo,
two RTX 2080 Ti, mixed precision:

    epoch   AP     AR (100)  training loss
    5       0.254  0.362     0.60
    10      0.290  0.398     0.51
    12      0.296  0.402     0.48

The same recipe with some of these defects mended a month later: AP 0.306.

    python train.py

The whole image is scaled so that its long side is 667 and laid into the top left corner of a square of that size;
with 667 this costs about what the papers' short side of 400 does.

Deviations from 2020, each a defect there: pixels are normalized with ImageNet's mean and std, as the backbone's
weights expect, and empty canvas is the mean pixel; random crops cut any side; the focal and box losses divide by the
positives of the global batch (images without objects count as background); no anchor is dropped at the border and
every object has at least its best anchor; weight decay leaves out norms and biases; the learning rate is constant
where theirs waited for a plateau of the training loss that 12 epochs never reached; every class over the threshold is
a detection, suppressed class by class, in float pixels. Precision is bf16 where the device is faster in it.
"""

from public.config.calls import SIZE, Call
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.retinanet.options import RetinaNetOptions
from public.optim.options import AdamWOptions, ConstantOptions
from public.transforms.detection import RandomCrop, RandomHorizontalFlip, RandomTranslate, SquareResize

CONFIGS = {
    "resnet101_retinanet": DetectionConfig(
        name="resnet101_retinanet",
        backbone_weights="torchvision:resnet101",
        epochs=12,
        batch_size=16,
        clip_grad_norm=0.1,
        evaluate_every=5,
        best_metric="AP",
        channels_last=True,
        detector=RetinaNetOptions(backbone="resnet101"),
        data=CocoData(
            folder="COCO2017",
            input_size=667,
            train_splits=("train2017",),
            val_splits=("val2017",),
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
