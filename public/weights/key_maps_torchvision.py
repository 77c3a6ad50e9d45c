"""Key names of the detector files that torchvision published before its release 0.13, renamed to its present ones.

torchvision renames them itself while it loads them, by a version number beside the tensors; here the names alone tell.
They are also those of other people's copies of its detectors of that time.
"""

import re


def torchvision_pyramid_v1(key: str) -> str:
    """A pyramid, with or without Faster R-CNN's proposals: `fpn.inner_blocks.0.bias` -> `fpn.inner_blocks.0.0.bias`."""
    key = re.sub(r"(\bfpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2", key)
    return re.sub(r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1", key)


def torchvision_retinanet_v1(key: str) -> str:
    """A pyramid and RetinaNet's towers, whose activations counted: `head.<name>.conv.6.bias` -> `.conv.3.0.bias`."""
    tower = re.fullmatch(r"(head\.(?:classification|regression)_head\.conv)\.([0246])\.(weight|bias)", key)
    return f"{tower[1]}.{int(tower[2]) // 2}.0.{tower[3]}" if tower else torchvision_pyramid_v1(key)


KEY_MAPS_TORCHVISION = (torchvision_pyramid_v1, torchvision_retinanet_v1)
