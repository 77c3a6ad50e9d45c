"""EvoNorm-B0: normalization and activation in one formula, found by evolution.

Paper: Liu et al. 2020, https://arxiv.org/abs/2004.02967, table 1. Reference: timm's EvoNorm2dB0 (key names, values).
Deviation from the authors' code, as in timm and in every batch norm of torch: the running variance is the unbiased one.
"""

import torch
from torch import Tensor, nn


class EvoNormB0(nn.Module):
    """x / max(std of the batch, v * x + std of the image) * weight + bias, for each channel by itself.

    The variances are computed in float32, also under autocast. In evaluation mode the batch's is a running mean, and in
    stages that do not train, whose weights need no gradient.
    """

    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        """Takes the number of channels, what is added to variances, and the share of a new batch's in the mean."""
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same."""
        weight, bias, v, of_batch = (t.view(-1, 1, 1) for t in (self.weight, self.bias, self.v, self._variance(x)))
        of_image = x.float().var((2, 3), correction=0, keepdim=True)  # [B, channels, 1, 1]
        divisor = torch.maximum((of_batch + self.eps).sqrt(), v * x + (of_image + self.eps).sqrt())
        return (x / divisor * weight + bias).to(x.dtype)

    def _variance(self, x: Tensor) -> Tensor:
        """Of each channel over the batch: [channels]."""
        if not (self.training and self.weight.requires_grad):
            return self.running_var
        variance = x.float().var((0, 2, 3), correction=0)
        count = x.numel() / x.shape[1]
        self.running_var.lerp_(variance.detach() * count / max(count - 1, 1), self.momentum)
        return variance
