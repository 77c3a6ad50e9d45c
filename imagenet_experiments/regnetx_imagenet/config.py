"""ImageNet with RegNetX, one process per GPU.

Paper: Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti,
fp16, single 224x224 center crop: 120 epochs of batches of 8 x 128 images, nesterov SGD at 0.4 with 5 epochs of
warm-up and a cosine to 0, weight decay 1e-4, random crops, flips and color jitter.

    row               top-1 / top-5 %     the paper     python train.py <row>
    regnet_x_4gf      78.40 / 94.04       78.6          the default
    regnet_x_200mf    none                68.9
    regnet_x_400mf    none                72.7
    regnet_x_600mf    none                74.1
    regnet_x_800mf    none                75.2
    regnet_x_1_6gf    none                77.0
    regnet_x_3_2gf    none                78.3
    regnet_x_6_4gf    none                79.2
    regnet_x_8gf      none                79.3
    regnet_x_12gf     none                79.7
    regnet_x_16gf     none                80.0
    regnet_x_32gf     none                80.5

The paper's numbers are of 100 epochs. RegNetY with this recipe: ../regnety_imagenet.

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

REGNET_X_4GF = ClassificationConfig(
    name="regnet_x_4gf",
    network="regnet_x_4gf",
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

CONFIGS = {"regnet_x_4gf": REGNET_X_4GF} | {
    name: replace(REGNET_X_4GF, name=name, network=name)
    for name in (
        "regnet_x_200mf",
        "regnet_x_400mf",
        "regnet_x_600mf",
        "regnet_x_800mf",
        "regnet_x_1_6gf",
        "regnet_x_3_2gf",
        "regnet_x_6_4gf",
        "regnet_x_8gf",
        "regnet_x_12gf",
        "regnet_x_16gf",
        "regnet_x_32gf",
    )
}
