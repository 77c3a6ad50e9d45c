"""ImageNet with ResNeSt-50, one process per GPU.

Paper: Zhang et al. 2020, https://arxiv.org/abs/2004.08955. Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16,
single 224x224 center crop: 120 epochs of batches of 8 x 128 images, nesterov SGD at 0.4 with 5 epochs of warm-up and
a cosine to 0, weight decay 1e-4, random crops, flips and color jitter.

    row          top-1 / top-5 %     python train.py <row>
    resnest50    78.62 / 94.28       the default

The paper reaches 81.13 in 270 epochs with more regularization.

Deviations from ModelZoo: the network is the paper's (three 3x3s as a stem, average pooling; 5.4 G multiply-adds), not
its lighter build (7x7 stem, strided 3x3s; 4.1 G); otherwise as in ../resnet_imagenet.
"""

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

CONFIGS = {
    "resnest50": ClassificationConfig(
        name="resnest50",
        network="resnest50",
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
    ),
}
