"""ImageNet with ResNets of twice the width in the 3x3 convolutions, one process per GPU.

Paper: Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146. The 2020 monorepo had these networks and
trained neither. Numbers: torchvision's first weights, single 224x224 center crop; recipe: its ResNets', 90 epochs of
batches of 256, SGD at 0.1, a tenth of it after 30 and 60, weight decay 1e-4, random crops and flips.

    row                 top-1 error %     python train.py <row>
    wide_resnet50_2     21.532            the default
    wide_resnet101_2    21.152

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

WIDE_RESNET50 = ClassificationConfig(
    name="wide_resnet50_2",
    network="wide_resnet50_2",
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

CONFIGS = {
    "wide_resnet50_2": WIDE_RESNET50,
    "wide_resnet101_2": replace(WIDE_RESNET50, name="wide_resnet101_2", network="wide_resnet101_2"),
}
