"""CenterNet with ResNet-101 on COCO 2017 at 512 x 512.

Paper: Zhou et al. 2019, "Objects as Points", https://arxiv.org/abs/1904.07850. Recipe and numbers: the 2020 monorepo,
four RTX 2080 Ti (the table of 2020 states 40 images on two), mixed precision:

    (the table of 2020 is empty: no result was published)

No later number either.

    python train.py

The whole image is scaled so that its long side is 512 and laid into the top left corner of a square of that size.

Deviations from 2020, each a defect there: pixels are normalised with ImageNet's mean and std, as the backbone's
weights expect, and empty canvas is the mean pixel; random crops cut any side; the losses divide by the peaks and
objects of the global batch; any number of objects; the deformable convolutions are torchvision's on a GPU and plain
tensor code on a CPU, nothing is compiled; weight decay leaves out norms and biases; boxes are float pixels, cut at
the image's edges. Precision is bf16 where the device has it.
"""

from public.config.detection import DetectionConfig, DetectionDataConfig, DetectorConfig
from public.config.sections import OptimizerConfig, ScheduleConfig
from public.transforms.detection import RandomCrop, RandomHorizontalFlip, RandomTranslate, SquareResize

CONFIGS = {
    "resnet101_centernet": DetectionConfig(
        name="resnet101_centernet",
        network="centernet",
        backbone_weights="torchvision:resnet101",
        canvas_size=(512, 512),
        epochs=150,
        batch_size=128,
        clip_grad_norm=0.1,
        evaluate_every=10,
        best_metric="AP",
        channels_last=True,
        detector=DetectorConfig(backbone="resnet101"),
        data=DetectionDataConfig(
            dataset="coco",
            folder="COCO2017",
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(RandomHorizontalFlip(), RandomCrop(), RandomTranslate(), SquareResize(size=512)),
            val_transforms=(SquareResize(size=512),),
        ),
        optimizer=OptimizerConfig(name="adamw", lr=5e-4, weight_decay=0.01, decay_norm_and_bias=False),
        schedule=ScheduleConfig(kind="multistep", milestones=(90, 120), gamma=0.1),
    )
}
