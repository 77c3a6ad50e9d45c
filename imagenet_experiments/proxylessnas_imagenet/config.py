"""ImageNet with the three ProxylessNAS networks, one process per GPU.

Paper: Cai et al. 2018, https://arxiv.org/abs/1812.00332. ModelZoo.pytorch had these networks and trained none of
them; the recipe is the one of its MobileNetV2: 150 epochs of batches of 8 x 256 images, nesterov SGD at 0.4 with 5
epochs of warm-up and a cosine to 0, weight decay 3e-5, random crops, flips and colour jitter.

    row                    top-1 %     python train.py <row>
    proxylessnas_gpu       75.1        the default
    proxylessnas_cpu       75.3
    proxylessnas_mobile    74.6

The numbers are the paper's, with its own recipe. A data set of fewer than 2048 images, as data/sample, needs a
smaller batch: --batch-size 64.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.classification import ClassificationConfig, ClassificationDataConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig
from public.transforms.image import RandomResizedCrop

PROXYLESSNAS_GPU = ClassificationConfig(
    name="proxylessnas_gpu",
    network="proxylessnas_gpu",
    input_size=224,
    epochs=150,
    batch_size=2048,
    data=ClassificationDataConfig(
        dataset="imagenet",
        folder="ILSVRC2012",
        train_transforms=(RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)),
        val_transforms=(v2.Resize(256), v2.CenterCrop(224)),
    ),
    optimizer=OptimizerConfig(name="sgd", lr=0.4, momentum=0.9, nesterov=True, weight_decay=3e-5),
    schedule=ScheduleConfig(kind="cosine", warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {"proxylessnas_gpu": PROXYLESSNAS_GPU} | {
    name: replace(PROXYLESSNAS_GPU, name=name, network=name) for name in ("proxylessnas_cpu", "proxylessnas_mobile")
}
