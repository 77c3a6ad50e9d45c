"""CIFAR-100's layout with ResNet-18 in 10 epochs: what a CPU trains in half an hour, with and without five tricks.

    row                     python train.py <row>
    resnet18cifar           the default
    resnet18cifar_tricks    label smoothing 0.1, CutMix in half of the steps, an average of the weights, no decay of
                            norms and biases, residual branches that begin at zero

Both: batches of 128, nesterov SGD that rises to 0.1 in 3 epochs and falls by a cosine, mirrored and cropped at random.
A data set in CIFAR-100's layout that is not the published archive is trained on by

    python train.py --data.folder FOLDER --data.published-archive False

Recorded of 10,000 training images in ten epochs: top-1 0.304, deviation 0.010 over three seeds; a bare torch loop with
the same settings 0.322, one seed (`python -m benchmarks.peer_runs bare_loop`); with the tricks 0.186, one seed: they
are for long runs. `python -m public.apps.results --add runs/NAME` records a run.
"""

from dataclasses import replace

from public.backbones.residual_network import ResNetOptions
from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig, MixingConfig
from public.config.run import RuntimeConfig
from public.datasets.cifar100 import Cifar100Data
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.batch import BatchRandomCrop, BatchRandomHorizontalFlip

RESNET18 = ClassificationConfig(
    name="resnet18cifar",
    network="resnet18cifar",
    epochs=10,
    batch_size=128,
    channels_last=True,
    data=Cifar100Data(
        folder="CIFAR100",
        train_transforms=(Call(BatchRandomHorizontalFlip), Call(BatchRandomCrop, size=SIZE, padding=4)),
        mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
        std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
    ),
    optimizer=SGDOptions(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=CosineOptions(warmup_epochs=3),
    runtime=RuntimeConfig(num_workers=0),  # the images are in memory
)

TRICKS = replace(
    RESNET18,
    name="resnet18cifar_tricks",
    label_smoothing=0.1,
    mixing=MixingConfig(cutmix_alpha=1.0, probability=0.5),
    ema_decay=0.99,
    optimizer=replace(RESNET18.optimizer, decay_norm_and_bias=False),
    network_options=ResNetOptions(zero_init_residual=True),
)

CONFIGS = {"resnet18cifar": RESNET18, "resnet18cifar_tricks": TRICKS}
