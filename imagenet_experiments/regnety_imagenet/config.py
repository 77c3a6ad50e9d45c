"""ImageNet with two RegNetY, one process per GPU, in large batches.

Paper: Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti,
fp16, single 224x224 center crop: 120 epochs of batches of 8 x 128 images, nesterov SGD at 0.4 with 5 epochs of
warm-up and a cosine to 0, weight decay 1e-4, random crops, flips and color jitter.

    row               top-1 / top-5 %     python train.py <row>
    regnet_y_4gf      79.22 / 94.57       the default
    regnet_y_6_4gf    79.69 / 94.82

All sizes with the recipe of 2020: ../regnet_imagenet_DataParallel_train_example.

Deviations from ModelZoo: squeeze-and-excitation squeezes to a quarter of the block's input, as in the paper, not of
its own width (20.6 M parameters instead of 21.1 M in 4gf); otherwise as in ../resnet_imagenet.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

REGNET_Y_4GF = ClassificationConfig(
    name="regnet_y_4gf",
    network="regnet_y_4gf",
    epochs=120,
    batch_size=1024,
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

CONFIGS = {
    "regnet_y_4gf": REGNET_Y_4GF,
    "regnet_y_6_4gf": replace(REGNET_Y_4GF, name="regnet_y_6_4gf", network="regnet_y_6_4gf"),
}
