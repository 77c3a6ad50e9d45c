"""ImageNet with RegNetY, one process driving all visible GPUs (in 2020: regnet_imagenet_Dataparallel_train_example).

Paper: Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678. Recipe and numbers: the 2020 monorepo, 4 RTX 2080
Ti, last epoch, single 224x224 center crop: 100 epochs of batches of 256, SGD at 0.2 with 5 epochs of warm-up and a
cosine to 0, weight decay 5e-5, random crops, flips and color jitter.

    row               top-1 error %       the paper     python train.py <row>
    regnet_y_800mf    24.006              23.7          the default
    regnet_y_200mf    29.904              29.6
    regnet_y_400mf    26.210              25.9
    regnet_y_600mf    25.276              24.5
    regnet_y_1_6gf    22.692              22.0
    regnet_y_3_2gf    21.092              21.0
    regnet_y_4gf      21.684              20.6
    regnet_y_6_4gf    21.230              20.1
    regnet_y_8gf      none                20.1
    regnet_y_12gf     none                19.7
    regnet_y_16gf     none                19.6
    regnet_y_32gf     none                19.0

The paper's numbers are of 100 epochs too.

Deviations from 2020: its networks took the group width for the number of groups (4gf then had 16.3 M parameters
instead of 20.6 M, which is why it did not beat 3_2gf) and squeezed behind the third convolution; the learning rate
rises from step to step instead of being 0 for the first epoch. Otherwise as in
../resnet_imagenet_DataParallel_train_example.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

REGNET_Y_800MF = ClassificationConfig(
    name="regnet_y_800mf",
    network="regnet_y_800mf",
    epochs=100,
    batch_size=256,
    parallel="data_parallel",
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
    optimizer=SGDOptions(lr=0.2, momentum=0.9, weight_decay=5e-5),
    schedule=CosineOptions(warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {"regnet_y_800mf": REGNET_Y_800MF} | {
    name: replace(REGNET_Y_800MF, name=name, network=name)
    for name in (
        "regnet_y_200mf",
        "regnet_y_400mf",
        "regnet_y_600mf",
        "regnet_y_1_6gf",
        "regnet_y_3_2gf",
        "regnet_y_4gf",
        "regnet_y_6_4gf",
        "regnet_y_8gf",
        "regnet_y_12gf",
        "regnet_y_16gf",
        "regnet_y_32gf",
    )
}
