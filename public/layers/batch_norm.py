"""What batch norms of a whole network have in common."""

from torch import nn


def set_batch_norms_(network: nn.Module, *, eps: float, momentum: float) -> None:
    """Sets every batch norm's epsilon and the share that a new batch has in the running statistics, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = eps, momentum
