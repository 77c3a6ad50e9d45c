"""ImageNet with the pre-activation ResNets ("v2"), one process per GPU.

Paper: He et al. 2016, https://arxiv.org/abs/1603.05027. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16,
single 224x224 center crop: 120 epochs of batches of 8 x 128 images, nesterov SGD at 0.4 with 5 epochs of warm-up and
a cosine to 0, weight decay 1e-4, random crops, flips and color jitter.

    row             top-1 / top-5 %     python train.py <row>
    resnet50_v2     77.06 / 93.44       the default
    resnet18_v2     none
    resnet34_v2     none
    resnet101_v2    78.90 / 94.39       (of a network with post-activation blocks, by mistake)
    resnet152_v2    none

Deviations from ModelZoo: resnet101_v2 has the blocks of its name; otherwise as in ../resnet_imagenet.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

RESNET50 = ClassificationConfig(
    name="resnet50_v2",
    network="resnet50_v2",
    epochs=120,
    batch_size=1024,
    channels_last=True,
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

CONFIGS = {"resnet50_v2": RESNET50} | {
    name: replace(RESNET50, name=name, network=name)
    for name in ("resnet18_v2", "resnet34_v2", "resnet101_v2", "resnet152_v2")
}
