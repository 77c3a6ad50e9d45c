"""ImageNet with DetNet-59, the backbone that keeps stride 16, and the ResNet-50 that it is compared with.

Paper: Li et al. 2018, https://arxiv.org/abs/1804.06215. Numbers: DetNet_Pytorch, single 224x224 center crop:

    row         top-1 error %     python train.py <row>
    detnet59    23.8              the default (the paper: 23.5)
    resnet50    23.9              (torchvision's weights)

DetNet_Pytorch did not publish how it trained. The recipe is the one of the resnet50 beside it, torchvision's: 90
epochs of batches of 256, SGD at 0.1, a tenth of it after 30 and 60, weight decay 1e-4, random crops and flips.

Deviations from torchvision: as in ../resnet_imagenet_DataParallel_train_example from 2020.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

DETNET59 = ClassificationConfig(
    name="detnet59",
    network="detnet59",
    epochs=90,
    batch_size=256,
    channels_last=True,
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=224,
        train_transforms=(Call(RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip)),
        val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),
    ),
    optimizer=SGDOptions(lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=MultistepOptions(milestones=(30, 60), gamma=0.1),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {"detnet59": DETNET59, "resnet50": replace(DETNET59, name="resnet50", network="resnet50")}
