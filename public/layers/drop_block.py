"""DropBlock: dropout of whole squares of a feature map.

Paper: Ghiasi, Lin, Le 2018, https://arxiv.org/abs/1810.12890, algorithm 1: a mask of its own for each image and
channel; squares that lie wholly within the map; a share of dropped units that grows linearly over the training.
Reference: torchvision.ops.drop_block2d for odd squares. (It fails where a map of even size is smaller than the square.)
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from public.layers.switch_norm import SwitchNorm2d


def seed_rate(rate: Tensor | float, block_size: int, height: int, width: int) -> Tensor | float:
    """The probability that a square begins at a place, so that `rate` of the units drop if squares do not overlap.

    The paper's gamma: each of the (H - b + 1)(W - b + 1) places, b the side of the square, drops b x b of H x W units.
    """
    places = (height - block_size + 1) * (width - block_size + 1)
    return rate * (height * width / (block_size**2 * places))


def keep_mask(seeds: Tensor, block_size: int) -> Tensor:
    """1 for units that stay and 0 for those in a square: [B, C, H - b + 1, W - b + 1] -> [B, C, H, W].

    Args:
        seeds: 1 where a square has its top left corner, else 0.
        block_size: b, the side of the squares.
    """
    padded = functional.pad(seeds, [block_size - 1] * 4)  # [B, C, H + b - 1, W + b - 1]
    return 1 - functional.max_pool2d(padded, block_size, stride=1)  # [B, C, H, W]


class DropBlock(nn.Module):
    """In training zeroes squares of its input and scales up what is left; in evaluation gives it as it is.

    Args:
        block_size: side of the squares; on a map that is smaller, the map's shorter side.
    """

    rate: Tensor
    """Share of the units that drop, to be set before each step. A tensor, so that a compiled network sees it change;
    not persistent, as it depends on the step alone."""

    def __init__(self, block_size: int) -> None:
        super().__init__()
        self.block_size = block_size
        self.register_buffer("rate", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if not self.training:
            return x
        batch, channels, height, width = x.shape
        size = min(self.block_size, height, width)
        draws = torch.rand(batch, channels, height - size + 1, width - size + 1, device=x.device)
        mask = keep_mask((draws < seed_rate(self.rate, size, height, width)).float(), size)  # [B, C, H, W]
        return x * (mask * (mask.numel() / mask.sum().clamp(min=1))).to(x.dtype)


def add_drop_block(module: nn.Module, block_size: int) -> list[DropBlock]:
    """Puts a DropBlock behind every norm within a module.

    In the paper's ResNet that is behind every convolution and its norm, in the blocks and in their shortcuts; whether
    before or behind a ReLU makes no difference. The norms keep their names and their keys.

    Returns:
        The new layers, whose `rate` is 0.
    """
    return [_hang_behind(norm, block_size) for norm in _norms(module)]


def _norms(module: nn.Module) -> Iterator[nn.Module]:
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm, SwitchNorm2d)
    return (layer for layer in module.modules() if isinstance(layer, kinds))


def _hang_behind(norm: nn.Module, block_size: int) -> DropBlock:
    layer = DropBlock(block_size).to(next(norm.parameters()).device)
    # As a child of the norm, which a hook looks up at each call: so each replica of nn.DataParallel finds its own.
    norm.add_module("drop_block", layer)
    norm.register_forward_hook(_drop)
    return layer


def _drop(norm: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return norm.get_submodule("drop_block")(output)
