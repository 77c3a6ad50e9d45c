"""ImageNet with ResNet-50 and ResNet-101, one process per GPU, in large batches.

Paper: He et al. 2015, https://arxiv.org/abs/1512.03385, with the stride on the 3x3 convolution of a bottleneck.
Recipe and numbers: ModelZoo.pytorch, 8 RTX 2080 Ti, fp16, single 224x224 center crop: 120 epochs of batches of 8 x
128 images, nesterov SGD at 0.4 with 5 epochs of warm-up and a cosine to 0, weight decay 1e-4, random crops, flips and
color jitter.

    row          top-1 / top-5 %     python train.py <row>
    resnet50     77.36 / -           the default; ../resnet50_tricks_imagenet starts from it
    resnet101    79.13 / 94.38

On one small GPU or a CPU: --batch-size 64, which the learning rate follows (0.025).

Deviations from ModelZoo: the classifier starts as torchvision's, not with standard deviation 0.045; batch norm sees
the images of its own GPU, which are 128 on 8 GPUs alone; pixels are decoded by OpenCV and resized as uint8 tensors by
torch; precision is bf16 where the device is faster in it. Its page does not say of which epoch the numbers are: ours
are the last one's.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

RESNET50 = ClassificationConfig(
    name="resnet50",
    network="resnet50",
    epochs=120,
    batch_size=1024,
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
    optimizer=SGDOptions(lr=0.4, momentum=0.9, nesterov=True, weight_decay=1e-4),
    schedule=CosineOptions(warmup_epochs=5),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {"resnet50": RESNET50, "resnet101": replace(RESNET50, name="resnet101", network="resnet101")}
