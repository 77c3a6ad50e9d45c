"""Switchable normalization: each layer learns how much of instance, layer and batch norm it wants.

Paper: Luo et al. 2018, https://arxiv.org/abs/1806.10779, equations 3 to 5.
Deviation from the paper: evaluation takes moving averages of the batch statistics, as batch norm does, instead of a
pass over training batches after the training.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from public.layers.batch_norm import only_normalizes


class SwitchNorm2d(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with statistics mixed from three kinds of norm.

    The means of an image's channel, of an image and of the batch's channel are mixed by a softmax over
    `mean_weight` [3], the variances by one over `var_weight` [3], in this order; both start at equal shares. The key
    names are batch norm's and these two.

    Args:
        channels: C.
        eps: added to the variance.
        momentum: share of a new batch in the moving averages.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W] of the same dtype; computed in float32."""
        wide = x.float()
        mean, var = self._mixed(*_instance_statistics(wide))  # [B, C, 1, 1]
        scale = self.weight.view(1, -1, 1, 1) * (var + self.eps).rsqrt()  # [B, C, 1, 1]
        return ((wide - mean) * scale + self.bias.view(1, -1, 1, 1)).to(x.dtype)

    def _mixed(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed statistics [B, C, 1, 1] from those of each image's channels [B, C, 1, 1]."""
        layer_mean, layer_var = _pooled(mean, var, 1)  # [B, 1, 1, 1]
        if self.training:
            batch_mean, batch_var = _pooled(mean, var, 0)  # [1, C, 1, 1]
            with torch.no_grad():
                self.running_mean.lerp_(batch_mean.flatten(), self.momentum)
                self.running_var.lerp_(batch_var.flatten(), self.momentum)
        else:
            batch_mean, batch_var = self.running_mean.view(1, -1, 1, 1), self.running_var.view(1, -1, 1, 1)
        a, b = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mixed_mean = a[0] * mean + a[1] * layer_mean + a[2] * batch_mean  # [B, C, 1, 1]
        return mixed_mean, b[0] * var + b[1] * layer_var + b[2] * batch_var


def _instance_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of each image's channels: [B, C, H, W] -> twice [B, C, 1, 1]."""
    var, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return mean, var


def _pooled(mean: Tensor, var: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of equally large groups taken together along a dimension, from those of each.

    The mean of the variances plus the variance of the means: unlike the paper's difference of squares (its equation
    5, the same number) it loses no digits.
    """
    spread, pooled = torch.var_mean(mean, dim, correction=0, keepdim=True)
    return pooled, var.mean(dim, keepdim=True) + spread


def replace_batch_norms(network: nn.Module) -> None:
    """Puts switchable norms in the place of the network's batch norms, with their weights, biases and settings.

    Args:
        network: changed in place.

    Raises:
        ValueError: it has no batch norm, or some that no switchable one can replace.
    """
    places = [
        (parent, child, module)
        for parent in network.modules()
        for child, module in parent.named_children()
        if isinstance(module, nn.BatchNorm2d)
    ]
    if not places:
        raise ValueError(f"norm='switch': {type(network).__name__} has no batch norm that could be a switchable one.")
    more = {type(norm).__name__ for _, _, norm in places if not only_normalizes(norm)}
    if more:
        raise ValueError(
            f"norm='switch': {', '.join(sorted(more))} does more than a batch norm, and cannot be replaced."
        )
    others = (one for one in network.modules() if isinstance(one, _BatchNorm) and not isinstance(one, nn.BatchNorm2d))
    left = {type(one).__name__ for one in others}
    if left:
        raise ValueError(
            f"norm='switch': {type(network).__name__} has {', '.join(sorted(left))} too, which would stay as it is."
        )
    for parent, child, norm in places:
        switch = SwitchNorm2d(norm.num_features, norm.eps, 0.1 if norm.momentum is None else norm.momentum)
        switch.weight, switch.bias = norm.weight, norm.bias
        setattr(parent, child, switch)
