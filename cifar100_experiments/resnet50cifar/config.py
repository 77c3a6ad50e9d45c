"""CIFAR-100 with the five CIFAR ResNets: 3x3 stem, no pooling before the first stage.

Paper: He et al. 2015, https://arxiv.org/abs/1512.03385, in the form that
https://github.com/weiaicunzai/pytorch-cifar100 made common. Recipe and numbers: the 2020 monorepo, one RTX 2080 Ti,
best top-1 error over all epochs, taken on the test set:

    row               top-1 error %     python train.py <row>
    resnet18cifar     21.59
    resnet34cifar     21.16
    resnet50cifar     22.12             the default
    resnet101cifar    19.84
    resnet152cifar    19.01

best.pth is chosen on the test split, as those numbers were: CIFAR-100 has no validation split. metrics.jsonl holds
the last epoch's number too, which no choice has flattered.

Deviations from 2020: the last, incomplete batch of an epoch (80 of 50,000 images) is skipped and other images fall
to it in the next epoch; precision is bf16 where the device is faster in it (--precision fp32 for theirs).
"""

from dataclasses import replace

from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.cifar100 import Cifar100Data
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.batch import BatchRandomCrop, BatchRandomHorizontalFlip

RESNET50 = ClassificationConfig(
    name="resnet50cifar",
    network="resnet50cifar",
    epochs=200,
    batch_size=128,
    channels_last=True,
    data=Cifar100Data(
        folder="CIFAR100",
        train_transforms=(Call(BatchRandomHorizontalFlip), Call(BatchRandomCrop, size=SIZE, padding=4)),
        mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
        std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
    ),
    optimizer=SGDOptions(lr=0.1, momentum=0.9, weight_decay=5e-4),
    schedule=MultistepOptions(milestones=(60, 120, 160), gamma=0.2),
    runtime=RuntimeConfig(num_workers=0),  # the images are in memory
)

CONFIGS = {"resnet50cifar": RESNET50} | {
    name: replace(RESNET50, name=name, network=name)
    for name in ("resnet18cifar", "resnet34cifar", "resnet101cifar", "resnet152cifar")
}
