"""ImageNet with DetNet-59, the backbone that keeps stride 16, and the ResNet-50 that it is compared with.

Paper: Li et al. 2018, https://arxiv.org/abs/1804.06215. Numbers: DetNet_Pytorch, single 224x224 centre crop:

    row         top-1 error %     python train.py <row>
    detnet59    23.8              the default (the paper: 23.5)
    resnet50    23.9              (torchvision's weights)

DetNet_Pytorch did not publish how it trained. The recipe is the one of the resnet50 beside it, torchvision's: 90
epochs of batches of 256, SGD at 0.1, a tenth of it after 30 and 60, weight decay 1e-4, random crops and flips.

Deviations from torchvision: as in ../resnet_imagenet_DataParallel_train_example from 2020.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.classification import ClassificationConfig, ClassificationDataConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig
from public.transforms.image import RandomResizedCrop

DETNET59 = ClassificationConfig(
    name="detnet59",
    network="detnet59",
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

CONFIGS = {"detnet59": DETNET59, "resnet50": replace(DETNET59, name="resnet50", network="resnet50")}
