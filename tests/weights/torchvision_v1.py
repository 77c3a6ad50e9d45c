"""Files as torchvision published them before its release 0.13, with random weights."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import retinanet_resnet50_fpn


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Present names to those of then, written down the other way round; frozen batch norms counted no batches."""
    old = {}
    for key, tensor in state.items():
        name = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", key)
        name = re.sub(r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", name)
        name = re.sub(r"^(head\.\w+\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", name)
        if not key.endswith("num_batches_tracked"):
            old[name] = tensor
    return old


def random_detector(build: Callable[..., nn.Module] = retinanet_resnet50_fpn, seed: int = 0) -> Any:
    """One of torchvision's detectors of COCO in evaluation mode, its batch norms as its COCO_V1 weights want them.

    Statistics so small that an epsilon would tell, residual branches so weak that no map explodes, towers in which none
    vanishes.
    """
    torch.manual_seed(seed)
    network = build(weights=None, weights_backbone=None).eval()
    for name, layer in network.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean, std=1e-3)
            nn.init.uniform_(layer.running_var, 1e-5, 2e-5)
            nn.init.constant_(layer.weight, 1e-3 if name.endswith("bn3") else 4e-3)
            layer.eps = torch.finfo(torch.float32).tiny  # in place of 0, which not every release of torch takes
        elif isinstance(layer, nn.Conv2d) and re.match(r"head\.\w+\.conv\.", name):
            nn.init.kaiming_normal_(layer.weight)
    return network
