"""ImageNet with two RegNetY, one process per GPU, in large batches.

Paper: Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti,
fp16, single 224x224 centre crop: 120 epochs of batches of 8 x 128 images, nesterov SGD at 0.4 with 5 epochs of
warm-up and a cosine to 0, weight decay 1e-4, random crops, flips and colour jitter.

    row               top-1 / top-5 %     python train.py <row>
    regnet_y_4gf      79.22 / 94.57       the default
    regnet_y_6_4gf    79.69 / 94.82

All sizes with the recipe of 2020: ../regnet_imagenet_DataParallel_train_example.

Deviations from ModelZoo: squeeze-and-excitation squeezes to a quarter of the block's input, as in the paper, not of
its own width (20.6 M parameters instead of 21.1 M in 4gf); otherwise as in ../resnet_imagenet.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.classification import ClassificationConfig, ClassificationDataConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig
from public.transforms.image import RandomResizedCrop

REGNET_Y_4GF = ClassificationConfig(
    name="regnet_y_4gf",
    network="regnet_y_4gf",
    input_size=224,
    epochs=120,
    batch_size=1024,
    data=ClassificationDataConfig(
        dataset="imagenet",
        folder="ILSVRC2012",
        train_transforms=(RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)),
        val_transforms=(v2.Resize(256), v2.CenterCrop(224)),
    ),
    optimizer=OptimizerConfig(name="sgd", lr=0.4, momentum=0.9, nesterov=True, weight_decay=1e-4),
    schedule=ScheduleConfig(kind="cosine", warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {
    "regnet_y_4gf": REGNET_Y_4GF,
    "regnet_y_6_4gf": replace(REGNET_Y_4GF, name="regnet_y_6_4gf", network="regnet_y_6_4gf"),
}
