"""ImageNet with the ResNet family, one process driving all visible GPUs through nn.DataParallel.

Paper: He et al. 2015, https://arxiv.org/abs/1512.03385, with the stride on the 3x3 convolution of a bottleneck
(torchvision's "v1.5"); the half variants have half of every width. Recipe and numbers: the 2020 monorepo, 4 RTX
2080 Ti (resnet152: 8), last epoch, single 224x224 center crop:

    row               top-1 error %     python train.py <row>
    resnet18          29.684
    resnet34_half     32.528
    resnet34          26.264
    resnet50_half     27.934
    resnet50          23.488            the default
    resnet101         22.276
    resnet152         21.436

torchvision reaches 30.24 / 26.69 / 23.87 / 22.63 / 21.69 for the five full networks with 90 epochs of nearly this
recipe.

Deviations from 2020: pixels are decoded by OpenCV and resized as uint8 tensors by torch (--data.decoder pil for the PIL
pixels); precision is bf16 where the device is faster in it; the last, incomplete batch of an epoch is skipped.
`--parallel distributed` runs one process per GPU instead, which is faster.
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
    parallel="data_parallel",
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

CONFIGS = {"resnet50": RESNET50} | {
    name: replace(RESNET50, name=name, network=name)
    for name in ("resnet18", "resnet34_half", "resnet34", "resnet50_half", "resnet101", "resnet152")
}
