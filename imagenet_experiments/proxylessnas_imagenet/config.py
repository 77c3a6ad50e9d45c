"""ImageNet with the three ProxylessNAS networks, one process per GPU.

Paper: Cai et al. 2018, https://arxiv.org/abs/1812.00332. ModelZoo.pytorch had these networks and trained none of
them; the recipe is the one of its MobileNetV2: 150 epochs of batches of 8 x 256 images, nesterov SGD at 0.4 with 5
epochs of warm-up and a cosine to 0, weight decay 3e-5, random crops, flips and color jitter.

    row                    top-1 %     python train.py <row>
    proxylessnas_gpu       75.1        the default
    proxylessnas_cpu       75.3
    proxylessnas_mobile    74.6

The numbers are the paper's, with its own recipe. A data set of fewer than 2048 images, as data/sample, needs a
smaller batch: --batch-size 64.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

PROXYLESSNAS_GPU = ClassificationConfig(
    name="proxylessnas_gpu",
    network="proxylessnas_gpu",
    epochs=150,
    batch_size=2048,
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

CONFIGS = {"proxylessnas_gpu": PROXYLESSNAS_GPU} | {
    name: replace(PROXYLESSNAS_GPU, name=name, network=name) for name in ("proxylessnas_cpu", "proxylessnas_mobile")
}
