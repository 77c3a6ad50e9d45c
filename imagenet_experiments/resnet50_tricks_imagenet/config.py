"""ImageNet with ResNet-50 and one trick at a time, each against the same baseline, one process per GPU.

Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16, single 224x224 center crop: 120 epochs of batches of 8 x 128
images, nesterov SGD at 0.4 with 5 epochs of warm-up and a cosine to 0, weight decay 1e-4, random crops, flips and
color jitter. The table below is its ablation, and the tricks that it names or has without a number.

    row                       top-1 / top-5 %     python train.py <row>
    baseline                  77.36 / -           the default; 77.00 in a second script, of the rows marked *
    label_smoothing           77.78 / 93.80
    no_decay_bias             77.28 / 93.61       and * 77.74 / 93.77
    sync_batch_norm           77.31 / 93.49       (GPUs only)
    mixup                     77.49 / 93.73
    cutmix                    none
    random_rotation           76.64 / 93.28
    cutout                    77.44 / 93.62
    random_erasing            none
    no_color_jitter           none
    auto_augment              76.50 / 93.23       *
    rand_augment              76.44 / 93.18       *
    trivial_augment           none
    repeated_augmentation     none
    progressive_size          none
    dropout                   77.11 / 93.58
    stochastic_depth          none
    drop_block                none
    lookahead                 77.23 / 93.39
    gradient_centralization   77.40 / 93.57       *
    ema                       none
    zero_gamma                77.24 / -           *
    relu6                     77.28 / 93.5
    swish                     none                (out of memory)
    switch_norm               none                (out of memory)
    pre_activation            77.06 / 93.44
    oct_conv                  none
    lip_pooling               none
    evo_norm                  none
    lambda_layer              none

Any row in miniature, on the generated images (no_decay_bias as an example):

    DATA_ROOT=data/sample python train.py no_decay_bias --network resnet18 --epochs 1 --batch-size 64

Deviations from ModelZoo, beside those of ../resnet_imagenet: each trick is as in its paper. Its label smoothing spread
0.1 over the 999 other classes; its mixup paired images front to back; its cutout was random erasing in one shade of
red; its gradient centralization left the classifier out; its RandAugment and its auto_augment had magnitudes of their
own. Its page printed -1.15 for random_rotation, which is -0.72.
"""

from dataclasses import replace
from typing import Any

from torchvision.transforms import v2

from public.backbones.residual_network import ResNetOptions
from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig, MixingConfig
from public.config.options import NetworkOptions
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import Cutout, RandomErasing, RandomResizedCrop

CROP, FLIP, JITTER = (
    Call(RandomResizedCrop, size=SIZE),
    Call(v2.RandomHorizontalFlip),
    Call(v2.ColorJitter, brightness=0.4, contrast=0.4, saturation=0.4),
)

DATA = ImageFolderData(
    folder="ILSVRC2012",
    input_size=224,
    train_transforms=(CROP, FLIP, JITTER),
    val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),
)
OPTIMIZER = SGDOptions(lr=0.4, momentum=0.9, nesterov=True, weight_decay=1e-4)

BASELINE = ClassificationConfig(
    name="baseline",
    network="resnet50",
    epochs=120,
    batch_size=1024,
    channels_last=True,
    data=DATA,
    optimizer=OPTIMIZER,
    schedule=CosineOptions(warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

# The one setting in which each row differs from the baseline.
TRICKS: dict[str, dict[str, Any]] = {
    "label_smoothing": {"label_smoothing": 0.1},
    "no_decay_bias": {"optimizer": replace(OPTIMIZER, decay_norm_and_bias=False)},
    "sync_batch_norm": {"sync_batch_norm": True},
    "mixup": {"mixing": MixingConfig(mixup_alpha=0.2)},
    "cutmix": {"mixing": MixingConfig(cutmix_alpha=1.0)},
    "random_rotation": {
        "data": replace(DATA, train_transforms=(CROP, Call(v2.RandomRotation, degrees=(-15, 15)), FLIP, JITTER))
    },
    "cutout": {"data": replace(DATA, train_transforms=(CROP, FLIP, JITTER, Call(Cutout, size=112)))},
    "random_erasing": {"data": replace(DATA, train_transforms=(CROP, FLIP, JITTER, Call(RandomErasing)))},
    "no_color_jitter": {"data": replace(DATA, train_transforms=(CROP, FLIP))},
    "auto_augment": {"data": replace(DATA, train_transforms=(CROP, FLIP, Call(v2.AutoAugment)))},
    "rand_augment": {
        "data": replace(DATA, train_transforms=(CROP, FLIP, Call(v2.RandAugment, num_ops=2, magnitude=9)))
    },
    "trivial_augment": {"data": replace(DATA, train_transforms=(CROP, FLIP, Call(v2.TrivialAugmentWide)))},
    "repeated_augmentation": {"data": replace(DATA, repeated_augmentation=2)},
    "progressive_size": {"start_size": 128},
    "dropout": {"network_options": NetworkOptions(dropout=0.3)},
    "stochastic_depth": {"network_options": ResNetOptions(drop_path=0.1)},
    "drop_block": {"drop_block": 0.1},
    "lookahead": {"optimizer": replace(OPTIMIZER, lookahead_steps=5, lookahead_alpha=0.5)},
    "gradient_centralization": {"optimizer": replace(OPTIMIZER, gradient_centralization=True)},
    "ema": {"ema_decay": 0.9999},
    "zero_gamma": {"network_options": ResNetOptions(zero_init_residual=True)},
    "relu6": {"network_options": NetworkOptions(activation="relu6")},
    "swish": {"network_options": NetworkOptions(activation="swish")},
    "switch_norm": {"network_options": NetworkOptions(norm="switch")},
    "pre_activation": {"network": "resnet50_v2"},
    "oct_conv": {"network": "oct_resnet50_alpha0125"},
    "lip_pooling": {"network": "lip_resnet50"},
    "evo_norm": {"network": "evonorm_resnet50"},
    "lambda_layer": {"network": "lambda_resnet50"},
}

CONFIGS = {"baseline": BASELINE} | {name: replace(BASELINE, name=name, **trick) for name, trick in TRICKS.items()}
