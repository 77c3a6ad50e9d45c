"""Images of your own in a folder for each class, from 50 to 50,000 of them, with MobileNetV2 or ResNet-50.

    cd imagenet_experiments/own_images_finetune
    python train.py --data.folder ~/flowers

~/flowers holds one folder of images for each class, or train/ and val/ (also called valid or test) with such folders.
Without a validation split, 15 % of the images of each class become one, by a hash of their names: the same on every
machine, and the run keeps the list (--data.val-fraction). `python -m public.datasets.check` with this folder and the
same --data.folder looks at every image first and draws a page of statistics.

    row             starts from                        python train.py <row>
    mobilenet_v2    torchvision's ImageNet weights     the default; minutes on a CPU for a few hundred images
    resnet50        torchvision's ImageNet weights     for a GPU

torchvision fetches its weights; --initial-weights takes a file instead, or None for none. Classes that are far out of
balance: --data.balance 1. A larger --batch-size takes the learning rate along.

30 epochs are for 50 images. Steps are what counts: --epochs 8 for 500 images, 5 for 5,000, 3 for 50,000. On pictures
like ImageNet's, more steps wear off what the weights know. Tried, mobilenet_v2 on a CPU, top-1 after the last epoch:

    images                                     size   lr     epochs   steps   top-1
    51 crops of blood cells, 3 classes         224    2e-4   25 of 30    50   1.00 of 9, from epoch 13; 0.67 before 9
                                                      5e-4   30          60   1.00, from epoch 14
    435 photos of ImageNet, 12 kinds of things 128    2e-4   8          184   0.78 of 65, loss 0.72
                                                      5e-4   8          184   0.71, loss 0.88
                                                      5e-4   30         690   0.69, loss 0.95
    216 of them to train on                    128    5e-4   8          104   0.77 of 219; 0.72 with 1e-4
    4,886 crops of blood cells, 3 classes      64     5e-4   5        1,295   1.00 of 733, 0.98 after epoch 1

A linear classifier on the unchanged features has 0.83 of the 65. Of 50,000 generated pictures of 10 classes, at 64
pixels, 5e-4 and --epochs 3, the first 300 of 7,968 steps were run, all in the warm-up: the loss fell from 2.4 to 0.8.
Finding and dividing the files took 0.15 s and 12 MB. Nobody has run resnet50 for more than three steps.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import AdamWOptions, CosineOptions
from public.transforms.image import RandomResizedCrop

MOBILENET = ClassificationConfig(
    name="mobilenet_v2",
    network="mobilenet_v2",
    initial_weights="torchvision:mobilenet_v2",
    epochs=30,
    batch_size=16,
    label_smoothing=0.1,
    clip_grad_norm=5.0,
    channels_last=True,
    data=ImageFolderData(
        folder="own_images",
        val_fraction=0.15,
        input_size=224,
        train_transforms=(
            Call(RandomResizedCrop, size=SIZE, scale=(0.35, 1.0)),
            Call(v2.RandomHorizontalFlip),
            Call(v2.ColorJitter, brightness=0.2, contrast=0.2, saturation=0.2),
        ),
        val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),
    ),
    optimizer=AdamWOptions(lr=2e-4, weight_decay=0.02, decay_norm_and_bias=False),
    schedule=CosineOptions(warmup_epochs=2),
    runtime=RuntimeConfig(num_workers=4, log_every=10),
)

CONFIGS = {
    "mobilenet_v2": MOBILENET,
    "resnet50": replace(
        MOBILENET, name="resnet50", network="resnet50", initial_weights="torchvision:resnet50.IMAGENET1K_V2"
    ),
}
