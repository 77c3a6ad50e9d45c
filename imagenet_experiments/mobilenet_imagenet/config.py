"""ImageNet with MobileNet v1, v2 and v3, one process per GPU.

Papers: Howard et al. 2017, https://arxiv.org/abs/1704.04861; Sandler et al. 2018, https://arxiv.org/abs/1801.04381;
Howard et al. 2019, https://arxiv.org/abs/1905.02244. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16,
single 224x224 center crop: batches of 8 x 256 images, nesterov SGD with 5 epochs of warm-up and a cosine to 0, weight
decay 3e-5, random crops, flips and color jitter; v1 and v2 in 150 epochs at 0.4, v3 in 360 epochs at 2.6 with label
smoothing, dropout and no decay of norms and biases.

    row                   top-1 / top-5 %     python train.py <row>
    mobilenet_v2          71.94 / 90.59       the default
    mobilenet_v1          72.17 / 90.70
    mobilenet_v3_large    75.64 / 92.61
    mobilenet_v3_small    67.83 / 87.78

A data set of fewer than 2048 images, as data/sample, needs a smaller batch: --batch-size 64.

Deviations from ModelZoo: mobilenet_v3_small has the paper's 1024 channels before the classifier instead of 1280 (2.5
M parameters instead of 2.9 M); label smoothing is the paper's, over all 1000 classes instead of the 999 others;
otherwise as in ../resnet_imagenet.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.options import NetworkOptions
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

MOBILENET_V2 = ClassificationConfig(
    name="mobilenet_v2",
    network="mobilenet_v2",
    epochs=150,
    batch_size=2048,
    network_options=NetworkOptions(dropout=0.0),
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
    optimizer=SGDOptions(lr=0.4, momentum=0.9, nesterov=True, weight_decay=3e-5),
    schedule=CosineOptions(warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

MOBILENET_V3 = replace(
    MOBILENET_V2,
    name="mobilenet_v3_large",
    network="mobilenet_v3_large",
    epochs=360,
    label_smoothing=0.1,
    network_options=NetworkOptions(dropout=0.2),
    optimizer=replace(MOBILENET_V2.optimizer, lr=2.6, decay_norm_and_bias=False),
)

CONFIGS = {
    "mobilenet_v2": MOBILENET_V2,
    "mobilenet_v1": replace(MOBILENET_V2, name="mobilenet_v1", network="mobilenet_v1"),
    "mobilenet_v3_large": MOBILENET_V3,
    "mobilenet_v3_small": replace(MOBILENET_V3, name="mobilenet_v3_small", network="mobilenet_v3_small"),
}
