"""CenterNet with ResNet-18 on COCO 2017 at 512 x 512.

Paper: Zhou et al. 2019, "Objects as Points", https://arxiv.org/abs/1904.07850. Recipe and numbers: the 2020 monorepo,
four RTX 2080 Ti (the table of 2020 states 96 images on two), mixed precision:

    (the table of 2020 is empty: no result was published)

The same network with a random scale in training and 140 epochs, a month later: AP 0.248.

    python train.py

The whole image is scaled so that its long side is 512 and laid into the top left corner of a square of that size.

Deviations from 2020, each a defect there: pixels are normalized with ImageNet's mean and std, as the backbone's
weights expect, and empty canvas is the mean pixel; random crops cut any side; the losses divide by the peaks and
objects of the global batch; any number of objects; the deformable convolutions are torchvision's on a GPU and plain
tensor code on a CPU, nothing is compiled; weight decay leaves out norms and biases; boxes are float pixels, cut at
the image's edges. Precision is bf16 where the device is faster in it.
"""

from public.config.calls import SIZE, Call
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.centernet.options import CenterNetOptions
from public.optim.options import AdamWOptions, MultistepOptions
from public.transforms.detection import RandomCrop, RandomHorizontalFlip, RandomTranslate, SquareResize

CONFIGS = {
    "resnet18_centernet": DetectionConfig(
        name="resnet18_centernet",
        backbone_weights="torchvision:resnet18",
        epochs=150,
        batch_size=128,
        clip_grad_norm=0.1,
        evaluate_every=10,
        best_metric="AP",
        channels_last=True,
        detector=CenterNetOptions(backbone="resnet18"),
        data=CocoData(
            folder="COCO2017",
            input_size=512,
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
        optimizer=AdamWOptions(lr=5e-4, weight_decay=0.01, decay_norm_and_bias=False),
        schedule=MultistepOptions(milestones=(90, 120), gamma=0.1),
    )
}
