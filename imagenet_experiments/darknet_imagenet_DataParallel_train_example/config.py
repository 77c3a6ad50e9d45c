"""ImageNet at 256x256 with the DarkNets, one process driving all visible GPUs through nn.DataParallel.

Papers: Redmon and Farhadi 2016, https://arxiv.org/abs/1612.08242 (19), and 2018, https://arxiv.org/abs/1804.02767
(53). Recipe and numbers: the 2020 monorepo, 4 RTX 2080 Ti, last epoch, single 256x256 center crop: 100 epochs of
batches of 256, SGD at 0.1, a tenth of it after 30, 60 and 90, weight decay 1e-4, random crops and flips.

    row             top-1 error %     python train.py <row>
    darknet53       22.992            the default
    darknet19       26.132
    darknet_tiny    41.93             (the monorepo's successor, in 2026, with its recipe)

The authors' own weights reach 22.8 and 25.9 (YOLOv3's table 2).

Deviations from 2020: as in ../resnet_imagenet_DataParallel_train_example.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

DARKNET53 = ClassificationConfig(
    name="darknet53",
    network="darknet53",
    epochs=100,
    batch_size=256,
    channels_last=True,
    parallel="data_parallel",
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=256,
        train_transforms=(Call(RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip)),
        val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),  # 256 x 256 / 224
    ),
    optimizer=SGDOptions(lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=MultistepOptions(milestones=(30, 60, 90), gamma=0.1),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {"darknet53": DARKNET53} | {
    name: replace(DARKNET53, name=name, network=name) for name in ("darknet19", "darknet_tiny")
}
