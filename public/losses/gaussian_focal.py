"""The focal loss of heatmaps with a peak at each object and a slope around it, summed.

Papers: Law and Deng 2018, https://arxiv.org/abs/1808.01244, equation 1 (alpha 2, beta 4); Zhou et al. 2019,
https://arxiv.org/abs/1904.07850. Reference: the formula in float64, by autograd.

The maps are large (80 classes of 128 x 128 places per image) and nearly all background. So loss and derivative come out
of one pass over the logits, some images at a time, and only the derivative is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from public.geometry.labels import IGNORED
from public.layers.autograd_state import differentiable_once

_CPU_PIECE = 2**20  # entries: a few arrays of float32 stay near the processor
_GPU_PIECE = 2**26  # bounds the extra memory, at 256 MiB an array


def gaussian_focal_loss_sum(logits: Tensor, targets: Tensor, *, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """The focal loss, summed over all places and classes.

    With p = sigmoid(logit) the loss is -(1 - p)^alpha log p where the target is exactly 1, a peak, and
    -(1 - target)^beta p^alpha log(1 - p) where it is less. Both logarithms come from the logit, so that nothing is
    clamped and a confident error still has a derivative.

    Args:
        logits: float [B, ...].
        targets: float32 [B, ...], 0 to 1, or IGNORED where a place takes no part.
        alpha: how much less what is right already counts.
        beta: how much less the surroundings of a peak count as background.

    Returns:
        A scalar, float32 (float64 for float64 logits), computed in that type whatever the logits are.
    """
    assert targets.shape == logits.shape, (targets.shape, logits.shape)
    if torch.compiler.is_compiling():  # plain operators, see `public.losses.focal`
        x = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return _loss(x, targets, alpha, beta, None).to(x.dtype)
    return _GaussianFocalLossSum.apply(logits, targets, alpha, beta)  # pyright: ignore[reportReturnType]


class _GaussianFocalLossSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, alpha: float, beta: float) -> Tensor:
        """See `gaussian_focal_loss_sum`."""
        dtype = torch.promote_types(logits.dtype, torch.float32)
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        wants_slopes = ctx.needs_input_grad[0]
        # In float32 even for float16 logits: most slopes are tiny before the loss scale multiplies them.
        slopes = torch.empty_like(logits, dtype=dtype) if wants_slopes else None
        piece = _CPU_PIECE if logits.device.type == "cpu" else _GPU_PIECE
        num_images = max(1, piece // max(1, logits[:1].numel()))
        for first in range(0, len(logits), num_images):
            part = slice(first, first + num_images)
            into = None if slopes is None else slopes[part]
            x = logits[part].to(dtype)
            total += _loss(x, _laid_out_like(x, targets[part]), alpha, beta, into)
        ctx.dtype = logits.dtype
        if slopes is not None:
            ctx.save_for_backward(slopes)
        return total.to(dtype)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, None, None, None]:
        """The derivative with respect to the logits, in their type."""
        (slopes,) = ctx.saved_tensors
        return (slopes * grads[0]).to(ctx.dtype), None, None, None


def _loss(x: Tensor, targets: Tensor, alpha: float, beta: float, slopes: Tensor | None) -> Tensor:
    """The sum of the loss, and its derivative into `slopes`."""
    is_peak = targets == 1
    weights = _power(1 - targets, beta).masked_fill_(is_peak, 1).masked_fill_(targets == IGNORED, 0)
    # The loss of a peak is that of background at the logit's negative: -p^alpha log(1 - p).
    wrong = torch.where(is_peak, -x, x)
    p = torch.sigmoid(wrong)
    surprise = F.softplus(wrong)  # -log(1 - p)
    weights *= _power(p, alpha)
    if slopes is not None:
        # d/dx of p^alpha * surprise = p^alpha * (p + alpha * (1 - p) * surprise)
        inner = torch.addcmul(p, 1 - p, surprise, value=alpha)
        torch.mul(weights, inner, out=slopes)
        torch.where(is_peak, -slopes, slopes, out=slopes)
    return (weights * surprise).sum(dtype=torch.float64)


def _laid_out_like(x: Tensor, targets: Tensor) -> Tensor:
    """The targets in the memory layout of `x`: one slow pass in place of many, where a network is channels_last."""
    same = targets.dtype == x.dtype and targets.stride() == x.stride()
    return targets if same else torch.empty_like(x).copy_(targets)


def _power(x: Tensor, exponent: float) -> Tensor:
    """Powers of 2 and 4 by multiplication, which takes a tenth of the time. Always a new tensor."""
    if exponent == 2:
        return x.square()
    if exponent == 4:
        return x.square().square()
    return x.pow(exponent)
