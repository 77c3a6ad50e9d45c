"""ImageNet with ResNets of twice the width in the 3x3 convolutions, one process per GPU.

Paper: Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146. The 2020 monorepo had these networks and
trained neither. Numbers: torchvision's first weights, single 224x224 centre crop; recipe: its ResNets', 90 epochs of
batches of 256, SGD at 0.1, a tenth of it after 30 and 60, weight decay 1e-4, random crops and flips.

    row                 top-1 error %     python train.py <row>
    wide_resnet50_2     21.532            the default
    wide_resnet101_2    21.152

Deviations from torchvision: as in ../resnet_imagenet_DataParallel_train_example from 2020.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.classification import ClassificationConfig, ClassificationDataConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig
from public.transforms.image import RandomResizedCrop

WIDE_RESNET50 = ClassificationConfig(
    name="wide_resnet50_2",
    network="wide_resnet50_2",
    input_size=224,
    epochs=90,
    batch_size=256,
    channels_last=True,
    data=ClassificationDataConfig(
        dataset="imagenet",
        folder="ILSVRC2012",
        train_transforms=(RandomResizedCrop(224), v2.RandomHorizontalFlip()),
        val_transforms=(v2.Resize(256), v2.CenterCrop(224)),
    ),
    optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=ScheduleConfig(kind="multistep", milestones=(30, 60), gamma=0.1),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {
    "wide_resnet50_2": WIDE_RESNET50,
    "wide_resnet101_2": replace(WIDE_RESNET50, name="wide_resnet101_2", network="wide_resnet101_2"),
}
