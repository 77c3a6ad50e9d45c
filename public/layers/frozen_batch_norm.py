"""Batch norm that no longer moves.

A detector sees too few images at once for good batch statistics, so published detectors often keep those of the
classification run. torchvision.ops.FrozenBatchNorm2d does the same in two passes over the map; this is one.
"""

from functools import cache
from typing import Self

import torch
from torch import nn


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that always evaluates and never trains; key names and values are those of nn.BatchNorm2d."""

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever is asked."""
        return super().train(False)


def freeze_batch_norm(module: nn.Module) -> None:
    """Turns every batch norm within `module` into a frozen one, in place, with its weights and statistics."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = _frozen(type(layer))  # the same state and arithmetic, another behavior of train()
            layer.eval().requires_grad_(False)


@cache
def _frozen(kind: type[nn.BatchNorm2d]) -> type[nn.BatchNorm2d]:
    """The frozen class of a kind of batch norm: timm's have their activation inside, which must stay."""
    if issubclass(kind, FrozenBatchNorm2d):
        return kind
    return (
        FrozenBatchNorm2d if kind is nn.BatchNorm2d else type(f"Frozen{kind.__name__}", (FrozenBatchNorm2d, kind), {})
    )


def set_batch_norm_eps(module: nn.Module, eps: float) -> None:
    """Makes every batch norm within `module` add `eps` to its variances: what the weights that it gets trained with.

    Instead of 0, which torch 2.11 refuses, it is a number too small to change a variance above 1e-30.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = max(eps, torch.finfo(torch.float32).tiny)
