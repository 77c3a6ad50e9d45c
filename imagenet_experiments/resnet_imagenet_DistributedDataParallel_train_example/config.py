"""ImageNet with ResNet-50, one process per GPU, without and with synchronized batch norm.

Paper: He et al. 2015, https://arxiv.org/abs/1512.03385. Recipe and numbers: the 2020 monorepo, 4 RTX 2080 Ti, 64
images a GPU, last epoch, single 224x224 center crop:

    row               top-1 error %     python train.py <row>
    resnet50          23.72             the default
    resnet50_syncbn   25.44             (1.7 worse; the 2020 page gives no cause, and its code converted twice under
    apex)

Every launch of README.md works: python train.py (one process per visible GPU), torchrun, torch.distributed.launch.

Deviations from 2020: as in ../resnet_imagenet_DataParallel_train_example; batch_size is that of all GPUs together,
so the result does not depend on how many there are.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

RESNET50 = ClassificationConfig(
    name="resnet50",
    network="resnet50",
    epochs=100,
    batch_size=256,
    channels_last=True,
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=224,
        train_transforms=(Call(RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip)),
        val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),
    ),
    optimizer=SGDOptions(lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=MultistepOptions(milestones=(30, 60, 90), gamma=0.1),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {
    "resnet50": RESNET50,
    "resnet50_syncbn": replace(RESNET50, name="resnet50_syncbn", sync_batch_norm=True),
}
