"""ImageNet with ResNeXts, one process per GPU.

Paper: Xie et al. 2016, https://arxiv.org/abs/1611.05431. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16,
single 224x224 centre crop: 120 epochs of batches of 8 x 128 images, nesterov SGD at 0.4 with 5 epochs of warm-up and
a cosine to 0, weight decay 1e-4, random crops, flips and colour jitter.

    row                 top-1 / top-5 %     python train.py <row>
    resnext50_32x4d     79.00 / 94.39       the default
    resnext101_32x8d    none

Deviations from ModelZoo: as in ../resnet_imagenet.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.classification import ClassificationConfig, ClassificationDataConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig
from public.transforms.image import RandomResizedCrop

RESNEXT50 = ClassificationConfig(
    name="resnext50_32x4d",
    network="resnext50_32x4d",
    input_size=224,
    epochs=120,
    batch_size=1024,
    data=ClassificationDataConfig(
        dataset="imagenet",
        folder="ILSVRC2012",
        train_transforms=(RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)),
        val_transforms=(v2.Resize(256), v2.CenterCrop(224)),
    ),
    optimizer=OptimizerConfig(name="sgd", lr=0.4, momentum=0.9, nesterov=True, weight_decay=1e-4),
    schedule=ScheduleConfig(kind="cosine", warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {
    "resnext50_32x4d": RESNEXT50,
    "resnext101_32x8d": replace(RESNEXT50, name="resnext101_32x8d", network="resnext101_32x8d"),
}
