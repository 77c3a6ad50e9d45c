"""Key names of timm and of 2020 for RegNet, EfficientNet, MobileNetV3, GhostNet, DarkNet and VoVNet, renamed to ours.

timm's DarkNet-53, VoVNets and MobileNet (v1), and the published ProxylessNAS files, have our names already. As in
`key_maps.py`, each function gives back what it does not know.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import accumulate


def timm_regnet(key: str) -> str:
    """timm's `regnetx_...` and `regnety_...` -> torchvision's.

    `s2.b1.conv1.conv.weight` -> `trunk_output.block2.block2-0.f.a.0.weight`.
    """
    if key.startswith("head.fc."):
        return key.removeprefix("head.")
    key = re.sub(r"\.conv\.(?=\w+$)", ".0.", key)
    key = re.sub(r"\.bn\.(?=\w+$)", ".1.", key)
    block = re.fullmatch(r"s(\d)\.b(\d+)\.(.+)", key)
    if block is None:
        return key
    inner = block[3].replace("downsample.", "proj.").replace("se.", "f.se.")
    inner = re.sub(r"conv([123])\.", lambda conv: f"f.{'abc'[int(conv[1]) - 1]}.", inner)
    return f"trunk_output.block{block[1]}.block{block[1]}-{int(block[2]) - 1}.{inner}"


@cache
def _inverted_residual(*, expands: bool, has_se: bool) -> dict[str, str]:
    """timm's names of the layers in an inverted residual -> torchvision's, which count them."""
    convs = ["conv_pw", "conv_dw", "conv_pwl"] if expands else ["conv_dw", "conv_pw"]
    places = [*range(len(convs) - 1), len(convs) - 1 + has_se]
    names = {}
    for norm, (conv, place) in enumerate(zip(convs, places, strict=True), start=1):
        names |= {conv: f"{place}.0", f"bn{norm}": f"{place}.1"}
    return names | {"se.conv_reduce": f"{len(convs) - 1}.fc1", "se.conv_expand": f"{len(convs) - 1}.fc2"}


def timm_efficientnet(key: str) -> str:
    """timm's `efficientnet_b0` ... -> torchvision's.

    `blocks.1.0.conv_pwl.weight` -> `features.2.0.block.3.0.weight`.
    """
    name, _, tensor = key.rpartition(".")
    outer = {
        "conv_stem": "features.0.0",
        "bn1": "features.0.1",
        "conv_head": "features.8.0",
        "bn2": "features.8.1",
        "classifier": "classifier.1",
    }
    block = re.fullmatch(r"blocks\.(\d)\.(\d+)\.(.+)", name)
    if block is None:
        return f"{outer[name]}.{tensor}" if name in outer else key
    layers = _inverted_residual(expands=block[1] != "0", has_se=True)
    place = f"features.{int(block[1]) + 1}.{block[2]}.block"
    return f"{place}.{layers[block[3]]}.{tensor}" if block[3] in layers else key


def _timm_mobilenet_v3(key: str, depths: tuple[int, ...], with_se: set[int]) -> str:
    """As `timm_mobilenet_v3_large`, for the number of blocks in each of timm's stages, and the stages with SE."""
    name, _, tensor = key.rpartition(".")
    head = f"features.{sum(depths) + 1}"
    outer = {
        "conv_stem": "features.0.0",
        "bn1": "features.0.1",
        f"blocks.{len(depths)}.0.conv": f"{head}.0",
        f"blocks.{len(depths)}.0.bn1": f"{head}.1",
        "conv_head": "classifier.0",
        "classifier": "classifier.3",
    }
    block = re.fullmatch(r"blocks\.(\d)\.(\d)\.(.+)", name)
    if block is None or name in outer or int(block[1]) >= len(depths):
        return f"{outer[name]}.{tensor}" if name in outer else key
    stage, position = int(block[1]), int(block[2])
    layers = _inverted_residual(expands=stage != 0, has_se=stage in with_se)
    number = 1 + list(accumulate(depths, initial=0))[stage] + position
    return f"features.{number}.block.{layers[block[3]]}.{tensor}" if block[3] in layers else key


def timm_mobilenet_v3_large(key: str) -> str:
    """timm's `mobilenetv3_large_100` -> torchvision's.

    `blocks.2.0.se.conv_reduce.bias` -> `features.4.block.2.fc1.bias`.
    """
    return _timm_mobilenet_v3(key, depths=(1, 2, 3, 4, 2, 3), with_se={2, 4, 5})


def timm_mobilenet_v3_small(key: str) -> str:
    """timm's `mobilenetv3_small_100` -> torchvision's."""
    return _timm_mobilenet_v3(key, depths=(1, 2, 3, 2, 3), with_se={0, 2, 3, 4})


def timm_ghostnet(key: str) -> str:
    """timm's `ghostnet_100` ... -> ours: `blocks.3.0.se.conv_reduce.bias` -> `blocks.3.0.se.fc1.bias`."""
    return key.replace(".se.conv_reduce.", ".se.fc1.").replace(".se.conv_expand.", ".se.fc2.")


def darknet_2020(key: str) -> str:
    """The DarkNets of 2020 -> ours: `block3.1.conv2.bn.bias` -> `stages.2.blocks.1.conv2.bn.bias`."""
    place = re.fullmatch(r"(conv|layer|block)(\d)\.(?:Darknet19Block\.)?(.+)", key)
    if place is None:
        return f"head.{key}" if key.startswith("fc.") else key
    kind, number, rest = place[1], int(place[2]), place[3]
    if kind == "conv":
        return f"stem.conv1.{rest}" if number == 1 else f"stages.{number - 2}.conv_down.{rest}"
    if kind == "block":
        return f"stages.{number - 1}.blocks.{rest}"
    if number == 7:
        return rest.replace("conv.", "classifier.")
    return f"stages.{number - 1}.blocks.{'0.' if number == 1 else ''}{rest}"


def vovnet_2020(key: str) -> str:
    """The VoVNets of 2020 -> ours.

    `stages.1.OSAStageblocks.0.OSABlocklayers.2.conv.0.weight` -> `stages.1.blocks.0.conv_mid.2.conv_dw.weight`.
    """
    if key.startswith("fc."):
        return f"head.{key}"
    for theirs, ours in (
        (".conv.0.", ".conv_dw."),
        (".conv.1.", ".conv_pw."),
        (".OSAStageblocks.", ".blocks."),
        (".OSABlocklayers.", ".conv_mid."),
        (".reduce_conv.", ".conv_reduction."),
        (".concat_conv.", ".conv_concat."),
        (".ese.conv.", ".attn.fc."),
    ):
        key = key.replace(theirs, ours)
    return key


KEY_MAPS_MOBILE: tuple[Callable[[str], str], ...] = (
    timm_regnet,
    timm_efficientnet,
    timm_mobilenet_v3_large,
    timm_mobilenet_v3_small,
    timm_ghostnet,
    darknet_2020,
    vovnet_2020,
)
