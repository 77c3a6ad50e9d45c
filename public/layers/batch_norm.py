"""What batch norms of a whole network have in common."""

from torch import nn


def only_normalizes(norm: nn.BatchNorm2d) -> bool:
    """Whether a batch norm computes what torch's does and no more: those of timm's networks go on to an activation."""
    return type(norm).forward is nn.BatchNorm2d.forward


def set_batch_norms_(network: nn.Module, *, eps: float, momentum: float) -> None:
    """Sets every batch norm's epsilon and the share that a new batch has in the running statistics, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = eps, momentum
