"""ImageNet with GhostNets, one process per GPU.

Paper: Han et al. 2020, https://arxiv.org/abs/1911.11907. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16,
single 224x224 center crop: 360 epochs of batches of 8 x 400 images, nesterov SGD at 2.6 with 5 epochs of warm-up and
a cosine to 0, weight decay 3e-5, random crops, flips and color jitter, label smoothing, dropout, no decay of norms
and biases. (Its example command has 8 x 256 images.)

    row             top-1 / top-5 %     python train.py <row>
    ghostnet_130    75.78 / 92.77       the default
    ghostnet_100    none

A data set of fewer than 3200 images, as data/sample, needs a smaller batch: --batch-size 64.

Deviations from ModelZoo: label smoothing is the paper's, over all 1000 classes instead of the 999 others; otherwise
as in ../resnet_imagenet.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.backbones.ghostnet import GhostNetOptions
from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

GHOSTNET_130 = ClassificationConfig(
    name="ghostnet_130",
    network="ghostnet_130",
    epochs=360,
    batch_size=3200,
    label_smoothing=0.1,
    network_options=GhostNetOptions(dropout=0.2),
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
    optimizer=SGDOptions(lr=2.6, momentum=0.9, nesterov=True, weight_decay=3e-5, decay_norm_and_bias=False),
    schedule=CosineOptions(warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {
    "ghostnet_130": GHOSTNET_130,
    "ghostnet_100": replace(GHOSTNET_130, name="ghostnet_100", network="ghostnet_100"),
}
