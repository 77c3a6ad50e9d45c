"""ImageNet with ResNeXts, one process per GPU.

Paper: Xie et al. 2016, https://arxiv.org/abs/1611.05431. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16,
single 224x224 center crop: 120 epochs of batches of 8 x 128 images, nesterov SGD at 0.4 with 5 epochs of warm-up and
a cosine to 0, weight decay 1e-4, random crops, flips and color jitter.

    row                 top-1 / top-5 %     python train.py <row>
    resnext50_32x4d     79.00 / 94.39       the default
    resnext101_32x8d    none

Deviations from ModelZoo: as in ../resnet_imagenet.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

RESNEXT50 = ClassificationConfig(
    name="resnext50_32x4d",
    network="resnext50_32x4d",
    epochs=120,
    batch_size=1024,
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=224,
        train_transforms=(
            Call(RandomResizedCrop, size=SIZE),
            Call(v2.RandomHorizontalFlip),
            Call(v2.ColorJitter, brightness=0.4, contrast=0.4, saturation=0.4),
        ),
        val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),
    ),
    optimizer=SGDOptions(lr=0.4, momentum=0.9, nesterov=True, weight_decay=1e-4),
    schedule=CosineOptions(warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {
    "resnext50_32x4d": RESNEXT50,
    "resnext101_32x8d": replace(RESNEXT50, name="resnext101_32x8d", network="resnext101_32x8d"),
}
