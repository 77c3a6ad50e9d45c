"""Every row of the predecessors' classification tables, and where it is here.

`tests/test_experiments.py` looks for each number on the row's line of the folder's card.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A number that a predecessor published."""

    predecessor: str
    row: str
    """What the predecessor's table calls it."""
    folder: str
    """Of the experiment here."""
    name: str
    """The key in its CONFIGS."""
    numbers: tuple[str, ...]
    """Top-1 error, or top-1 and top-5 accuracy, as printed; none: its table has none either."""


_2020 = "training monorepo, 2020"
_ZOO = "ModelZoo.pytorch"
_ZOO_LATER = "ModelZoo.pytorch, last state"
_DETNET = "DetNet_Pytorch"
_CIFAR = "cifar100_experiments/resnet50cifar"
_IMAGENET = "imagenet_experiments/"
_RESNET = f"{_IMAGENET}resnet_imagenet_DataParallel_train_example"
_RESNET_DDP = f"{_IMAGENET}resnet_imagenet_DistributedDataParallel_train_example"
_EFFICIENTNET = f"{_IMAGENET}efficientnet_imagenet_DataParallel_train_example"
_DARKNET = f"{_IMAGENET}darknet_imagenet_DataParallel_train_example"
_VOVNET = f"{_IMAGENET}vovnet_imagenet_DataParallel_train_example"
_REGNET = f"{_IMAGENET}regnet_imagenet_DataParallel_train_example"
_MOBILENET = f"{_IMAGENET}mobilenet_imagenet"
_TRICKS = f"{_IMAGENET}resnet50_tricks_imagenet"
_DETNET59 = f"{_IMAGENET}detnet59_imagenet"

PUBLISHED = (
    # CIFAR-100
    Published(_2020, "ResNet-18", _CIFAR, "resnet18cifar", ("21.59",)),
    Published(_2020, "ResNet-34", _CIFAR, "resnet34cifar", ("21.16",)),
    Published(_2020, "ResNet-50", _CIFAR, "resnet50cifar", ("22.12",)),
    Published(_2020, "ResNet-101", _CIFAR, "resnet101cifar", ("19.84",)),
    Published(_2020, "ResNet-152", _CIFAR, "resnet152cifar", ("19.01",)),
    # ImageNet, nn.DataParallel
    Published(_2020, "ResNet-18", _RESNET, "resnet18", ("29.684",)),
    Published(_2020, "ResNet-34-half", _RESNET, "resnet34_half", ("32.528",)),
    Published(_2020, "ResNet-34", _RESNET, "resnet34", ("26.264",)),
    Published(_2020, "ResNet-50-half", _RESNET, "resnet50_half", ("27.934",)),
    Published(_2020, "ResNet-50", _RESNET, "resnet50", ("23.488",)),
    Published(_2020, "ResNet-101", _RESNET, "resnet101", ("22.276",)),
    Published(_2020, "ResNet-152", _RESNET, "resnet152", ("21.436",)),
    Published(_2020, "EfficientNet-b0", _EFFICIENTNET, "efficientnet_b0", ("24.492",)),
    Published(_2020, "EfficientNet-b1", _EFFICIENTNET, "efficientnet_b1", ("23.092",)),
    Published(_2020, "EfficientNet-b2", _EFFICIENTNET, "efficientnet_b2", ("22.224",)),
    Published(_2020, "EfficientNet-b3", _EFFICIENTNET, "efficientnet_b3", ("21.884",)),
    Published(_2020, "DarkNet-19", _DARKNET, "darknet19", ("26.132",)),
    Published(_2020, "DarkNet-53", _DARKNET, "darknet53", ("22.992",)),
    Published(_2020, "VovNet-19-slim-depthwise-se", _VOVNET, "vovnet19_slim_dw_se", ("33.276",)),
    Published(_2020, "VovNet-19-slim-se", _VOVNET, "vovnet19_slim_se", ("30.646",)),
    Published(_2020, "VovNet-19-se", _VOVNET, "vovnet19_se", ("25.364",)),
    Published(_2020, "VovNet-39-se", _VOVNET, "vovnet39_se", ("22.662",)),
    Published(_2020, "VovNet-57-se", _VOVNET, "vovnet57_se", ("22.014",)),
    Published(_2020, "VovNet-99-se", _VOVNET, "vovnet99_se", ("21.608",)),
    Published(_2020, "RegNetY-200MF", _REGNET, "regnet_y_200mf", ("29.904",)),
    Published(_2020, "RegNetY-400MF", _REGNET, "regnet_y_400mf", ("26.210",)),
    Published(_2020, "RegNetY-600MF", _REGNET, "regnet_y_600mf", ("25.276",)),
    Published(_2020, "RegNetY-800MF", _REGNET, "regnet_y_800mf", ("24.006",)),
    Published(_2020, "RegNetY-1.6GF", _REGNET, "regnet_y_1_6gf", ("22.692",)),
    Published(_2020, "RegNetY-3.2GF", _REGNET, "regnet_y_3_2gf", ("21.092",)),
    Published(_2020, "RegNetY-4.0GF", _REGNET, "regnet_y_4gf", ("21.684",)),
    Published(_2020, "RegNetY-6.4GF", _REGNET, "regnet_y_6_4gf", ("21.230",)),
    # ImageNet, nn.DistributedDataParallel
    Published(_2020, "ResNet-50", _RESNET_DDP, "resnet50", ("23.72",)),
    Published(_2020, "ResNet-50, sync-BN", _RESNET_DDP, "resnet50_syncbn", ("25.44",)),
    # baseline models
    Published(_ZOO, "resnet50", f"{_IMAGENET}resnet_imagenet", "resnet50", ("77.36",)),
    Published(_ZOO, "resnet101", f"{_IMAGENET}resnet_imagenet", "resnet101", ("79.13", "94.38")),
    Published(_ZOO, "resnet50v2", f"{_IMAGENET}resnet_v2_imagenet", "resnet50_v2", ("77.06", "93.44")),
    Published(_ZOO, "resnet101v2", f"{_IMAGENET}resnet_v2_imagenet", "resnet101_v2", ("78.90", "94.39")),
    Published(_ZOO, "ResNext50_32x4d", f"{_IMAGENET}resnext_imagenet", "resnext50_32x4d", ("79.00", "94.39")),
    Published(_ZOO, "RegNetX4_0GF", f"{_IMAGENET}regnetx_imagenet", "regnet_x_4gf", ("78.40", "94.04")),
    Published(_ZOO, "RegNetY4_0GF", f"{_IMAGENET}regnety_imagenet", "regnet_y_4gf", ("79.22", "94.57")),
    Published(_ZOO, "RegNetY6_4GF", f"{_IMAGENET}regnety_imagenet", "regnet_y_6_4gf", ("79.69", "94.82")),
    Published(_ZOO, "ResNeSt50", f"{_IMAGENET}resnest_imagenet", "resnest50", ("78.62", "94.28")),
    Published(_ZOO, "mobilenetv1", _MOBILENET, "mobilenet_v1", ("72.17", "90.70")),
    Published(_ZOO, "mobilenetv2", _MOBILENET, "mobilenet_v2", ("71.94", "90.59")),
    Published(_ZOO, "mobilenetv3 Large", _MOBILENET, "mobilenet_v3_large", ("75.64", "92.61")),
    Published(_ZOO, "mobilenetv3 Small", _MOBILENET, "mobilenet_v3_small", ("67.83", "87.78")),
    Published(_ZOO, "GhostNet1.3", f"{_IMAGENET}ghostnet_imagenet", "ghostnet_130", ("75.78", "92.77")),
    # ablation study on tricks
    Published(_ZOO, "-", _TRICKS, "baseline", ("77.36",)),
    Published(_ZOO, "Label smoothing", _TRICKS, "label_smoothing", ("77.78", "93.80")),
    Published(_ZOO, "No decay bias", _TRICKS, "no_decay_bias", ("77.28", "93.61")),
    Published(_ZOO, "Sync BN", _TRICKS, "sync_batch_norm", ("77.31", "93.49")),
    Published(_ZOO, "Mixup", _TRICKS, "mixup", ("77.49", "93.73")),
    Published(_ZOO, "RandomRotation", _TRICKS, "random_rotation", ("76.64", "93.28")),
    Published(_ZOO, "Cutout", _TRICKS, "cutout", ("77.44", "93.62")),
    Published(_ZOO, "Dropout", _TRICKS, "dropout", ("77.11", "93.58")),
    Published(_ZOO, "Lookahead-SGD", _TRICKS, "lookahead", ("77.23", "93.39")),
    Published(_ZOO, "pre-active", _TRICKS, "pre_activation", ("77.06", "93.44")),
    Published(_ZOO, "OctConv", _TRICKS, "oct_conv", ()),
    Published(_ZOO, "Relu6", _TRICKS, "relu6", ("77.28", "93.5")),
    Published(_ZOO, "Gradient Centralization", _TRICKS, "gradient_centralization", ("77.40", "93.57")),
    Published(_ZOO, "Zero gamma", _TRICKS, "zero_gamma", ("77.24",)),
    Published(_ZOO_LATER, "DDP baseline", _TRICKS, "baseline", ("77.00",)),
    Published(_ZOO_LATER, "No decay bias, DDP", _TRICKS, "no_decay_bias", ("77.74", "93.77")),
    Published(_ZOO_LATER, "RandAugment", _TRICKS, "rand_augment", ("76.44", "93.18")),
    Published(_ZOO_LATER, "AutoAugment", _TRICKS, "auto_augment", ("76.50", "93.23")),
    # ImageNet
    Published(_DETNET, "pytorch resnet50", _DETNET59, "resnet50", ("23.9",)),
    Published(_DETNET, "detnet59 in this code", _DETNET59, "detnet59", ("23.8",)),
    Published(_DETNET, "detnet59 in the original paper", _DETNET59, "detnet59", ("23.5",)),
)
