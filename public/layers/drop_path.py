"""Stochastic depth ("drop path"): in training, a residual block is at random its shortcut alone.

Paper: Huang et al. 2016, https://arxiv.org/abs/1603.09382. The operation is torchvision's `StochasticDepth`: one draw
for each image, and what survives is divided by its probability, so that nothing changes in evaluation mode (the paper
multiplies there instead). Every residual block here holds one, under the name `drop_path`, which starts at rate 0.
"""

from torch import nn
from torchvision.ops import StochasticDepth


def drop_path_layer() -> StochasticDepth:
    """A new one, whose rate `linear_drop_path_` sets. It takes the branch [B, ...], just before the sum."""
    return StochasticDepth(0.0, "row")


def linear_drop_path_(network: nn.Module, rate: float) -> None:
    """Sets the rates of all drop paths in place: block l of L is skipped with probability rate * l / L.

    That is the paper's linear decay (its p_L is 1 - rate). timm and torchvision start at 0 in the first block instead.

    Args:
        network: its blocks count in the order in which they were registered.
        rate: of the last block.

    Raises:
        ValueError: the rate is not within [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path={rate} must lie within [0, 1): the share of images that skip the last block.")
    layers = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    for position, layer in enumerate(layers, start=1):
        layer.p = rate * position / len(layers)
