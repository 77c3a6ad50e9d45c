"""ImageNet with EfficientNet B0 to B7, each at its own input size, one process driving all visible GPUs.

Paper: Tan and Le 2019, https://arxiv.org/abs/1905.11946. Recipe and numbers: the 2020 monorepo, 4 RTX 2080 Ti (b2,
b3: 8), last epoch, single center crop: 100 epochs of batches of 256, SGD at 0.1 with 5 epochs of warm-up and a cosine
to 0, weight decay 1e-4 but on norms, random crops and flips.

    row                size    top-1 error %     python train.py <row>
    efficientnet_b0    224     24.492            the default
    efficientnet_b1    240     23.092
    efficientnet_b2    260     22.224
    efficientnet_b3    300     21.884
    efficientnet_b4    380     none
    efficientnet_b5    456     none
    efficientnet_b6    528     none
    efficientnet_b7    600     none

The paper's own recipe (RMSProp, 350 epochs, AutoAugment, stochastic depth 0.2) reaches 22.9 to 15.7.

Deviations from 2020: its networks had hard swish and squeezed to a quarter of the expanded width (b0 had 8.4 M
parameters instead of 5.3 M); the learning rate rises from step to step instead of being 0 for the first epoch; biases
are not decayed either. As there, no stochastic depth; --network-options.drop-path 0.2 is the paper's. Otherwise as in
../resnet_imagenet_DataParallel_train_example. The large rows need --accumulation-steps 2 or more on most GPUs.
"""

from torchvision.transforms import v2

from public.backbones.efficientnet import EfficientNetOptions
from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

SIZES = {  # of the authors' code
    "efficientnet_b0": 224,
    "efficientnet_b1": 240,
    "efficientnet_b2": 260,
    "efficientnet_b3": 300,
    "efficientnet_b4": 380,
    "efficientnet_b5": 456,
    "efficientnet_b6": 528,
    "efficientnet_b7": 600,
}

CONFIGS = {
    name: ClassificationConfig(
        name=name,
        network=name,
        epochs=100,
        batch_size=256,
        parallel="data_parallel",
        network_options=EfficientNetOptions(drop_path=0.0),
        channels_last=True,
        data=ImageFolderData(
            folder="ILSVRC2012",
            input_size=size,
            train_transforms=(Call(RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip)),
            val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),
        ),
        optimizer=SGDOptions(lr=0.1, momentum=0.9, weight_decay=1e-4, decay_norm_and_bias=False),
        schedule=CosineOptions(warmup_epochs=5),
        runtime=RuntimeConfig(num_workers=8, log_every=100),
    )
    for name, size in SIZES.items()
}
