"""Key names of published residual networks, renamed to ours.

torchvision's and timm's ResNets of all kinds carry our names as they are. What is left are two authors' own. Each
function takes a key of theirs to ours; what it does not know it gives back.
"""

import re
from collections.abc import Callable


def detnet_2018(key: str) -> str:
    """DetNet_Pytorch's `detnet59` -> ours: `layer4.0.extra_conv.0.weight` -> `layer4.0.downsample.0.weight`."""
    return re.sub(r"^(layer[45]\.0)\.extra_conv\.", r"\1.downsample.", key)


_FIRST_PROJECTION = {"conv": "0", "bn": "1"}


def lip_resnet_2019(key: str) -> str:
    """The LIP authors' `resnet50` -> ours: `layer1.0.downsample.conv.weight` -> `layer1.0.downsample.0.weight`."""
    projection = re.fullmatch(r"layer1\.0\.downsample\.(conv|bn)\.(\w+)", key)
    return f"layer1.0.downsample.{_FIRST_PROJECTION[projection[1]]}.{projection[2]}" if projection else key


KEY_MAPS_RESIDUAL: tuple[Callable[[str], str], ...] = (detnet_2018, lip_resnet_2019)
