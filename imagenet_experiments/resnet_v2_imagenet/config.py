"""ImageNet with the pre-activation ResNets ("v2"), one process per GPU.

Paper: He et al. 2016, https://arxiv.org/abs/1603.05027. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16,
single 224x224 centre crop: 120 epochs of batches of 8 x 128 images, nesterov SGD at 0.4 with 5 epochs of warm-up and
a cosine to 0, weight decay 1e-4, random crops, flips and colour jitter.

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

from public.config.classification import ClassificationConfig, ClassificationDataConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig
from public.transforms.image import RandomResizedCrop

RESNET50 = ClassificationConfig(
    name="resnet50_v2",
    network="resnet50_v2",
    input_size=224,
    epochs=120,
    batch_size=1024,
    channels_last=True,
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

CONFIGS = {"resnet50_v2": RESNET50} | {
    name: replace(RESNET50, name=name, network=name)
    for name in ("resnet18_v2", "resnet34_v2", "resnet101_v2", "resnet152_v2")
}
