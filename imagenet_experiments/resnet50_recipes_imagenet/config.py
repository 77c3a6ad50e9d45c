"""ImageNet with ResNet-50 by two recipes of 2021 that reach more than the predecessors', one process per GPU.

    row               top-1 %    epochs    python train.py <row>
    a3                78.1       100       the default; Wightman et al. 2021, https://arxiv.org/abs/2110.00476, table 2
    torchvision_v2    80.858     600       https://pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision-latest-primitives

On a single 224 x 224 center crop, the last epoch's. No row was trained to its end here. Each setting with its source's:

    setting                         A3 (timm)                           here
    images: training, evaluation    160; 224 of 235 bicubic (0.95)      the same
    random crop, mirrored           8 to 100 %, bilinear or bicubic     bilinear
    RandAugment                     rand-m6-mstd0.5-inc1                torchvision's 14 operations at 18 of 30, which
                                    2 of 15 at 6 of 10, deviation       is 6 of 10 and does not vary; each with a
                                    0.5, each with a probability of .5  probability of .5 too
    mixup, CutMix                   0.1, 1.0, either at each step       the same, of neighbors instead of first and last
    loss                            binary cross entropy, not smoothed; the same, where they are the shares, as in
                                    both classes of a mixed image are 1 mmpretrain (below)
    optimizer                       LAMB 0.008, batches of 2048         the same
    clipped gradient                1.0, within timm's LAMB             clip_grad_norm
    weight decay                    0.02, of weights alone              the same
    last norm of a block            starts at 0                         the same
    schedule                        5 epochs from 1e-4, cosine to 1e-6, by steps, from 0.008 / warm-up's steps, cosine
                                    one rate an epoch                   over the 95 epochs that follow, to 0

    setting                         torchvision's references            here
    images: training, evaluation    176; 224 of 232                     the same
    augmentation                    crop, mirrored, ta_wide             the same, bilinear
    random erasing                  0.1, with the mean color            before normalization: 0.4 levels off at most
    mixup, CutMix                   0.2, 1.0, either at each step       the same, of neighbors instead of the one before
    loss                            cross entropy, smoothed by 0.1      the same
    repeated augmentation           4, over all processes               the same
    optimizer                       SGD 0.5, batches of 8 x 128         the same
    weight decay                    2e-5, norms 0                       0 of the classifier's bias too
    schedule                        5 epochs from 1 %, cosine to 0      by steps, from 0.5 / warm-up's steps
    averaged weights                every 32 steps 0.99891, of which    every step 0.999966, which is 0.99891 in 32
                                    the warm-up's are forgotten

0.99891: 1 - (1 - 0.99998) x 8 x 128 x 32 / 600, as its script makes of its option. A3's settings are as mmpretrain's
resnet50_8xb256-rsb-a3-100e_in1k repeats them (78.30 there), with timm's defaults of 2021 for what it leaves out.
Precision is bf16 where the device is faster in it.

    DATA_ROOT=data/sample python train.py a3 --network resnet18 --epochs 1 --batch-size 64    # in miniature
"""

from torchvision.transforms import InterpolationMode, v2

from public.backbones.residual_network import ResNetOptions
from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig, MixingConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, LAMBOptions, SGDOptions
from public.transforms.image import IMAGENET_MEAN_COLOR, RandomResizedCrop

FLIP = Call(v2.RandomHorizontalFlip)
A3_OPERATION = Call(
    v2.RandomApply,
    transforms=(
        Call(
            v2.RandAugment,
            num_ops=1,
            magnitude=18,
            interpolation=InterpolationMode.BILINEAR,
            fill=IMAGENET_MEAN_COLOR,
        ),
    ),
    p=0.5,
)
RUNTIME = RuntimeConfig(num_workers=8, log_every=100)

A3 = ClassificationConfig(
    name="a3",
    network="resnet50",
    epochs=100,
    batch_size=2048,
    channels_last=True,
    clip_grad_norm=1.0,
    loss="binary_cross_entropy",
    network_options=ResNetOptions(zero_init_residual=True),
    mixing=MixingConfig(mixup_alpha=0.1, cutmix_alpha=1.0),
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=224,
        train_transforms=(
            Call(RandomResizedCrop, size=Scaled(160, of=224)),
            FLIP,
            A3_OPERATION,
            A3_OPERATION,
        ),
        val_transforms=(
            Call(v2.Resize, size=Scaled(235, of=224), interpolation=InterpolationMode.BICUBIC),
            Call(v2.CenterCrop, size=SIZE),
        ),
    ),
    optimizer=LAMBOptions(lr=0.008, weight_decay=0.02, decay_norm_and_bias=False),
    schedule=CosineOptions(warmup_epochs=5),
    runtime=RUNTIME,
)

TORCHVISION_V2 = ClassificationConfig(
    name="torchvision_v2",
    network="resnet50",
    epochs=600,
    batch_size=1024,
    channels_last=True,
    label_smoothing=0.1,
    mixing=MixingConfig(mixup_alpha=0.2, cutmix_alpha=1.0),
    ema_decay=0.999966,
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=224,
        repeated_augmentation=4,
        train_transforms=(
            Call(RandomResizedCrop, size=Scaled(176, of=224)),
            FLIP,
            Call(v2.TrivialAugmentWide, interpolation=InterpolationMode.BILINEAR),
            Call(v2.RandomErasing, p=0.1, value=IMAGENET_MEAN_COLOR),
        ),
        val_transforms=(Call(v2.Resize, size=Scaled(232, of=224)), Call(v2.CenterCrop, size=SIZE)),
    ),
    optimizer=SGDOptions(lr=0.5, momentum=0.9, weight_decay=2e-5, decay_norm_and_bias=False),
    schedule=CosineOptions(warmup_epochs=5),
    runtime=RUNTIME,
)

CONFIGS = {"a3": A3, "torchvision_v2": TORCHVISION_V2}
