"""The focal loss of sigmoid outputs, summed, made for maps where nearly every entry is background.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002. Referee: torchvision.ops.sigmoid_focal_loss.

A RetinaNet has tens of millions of logits and a few thousand positives a batch. So every logit is first taken for
background, piece by piece so that what lies in between stays in the cache, and the few entries that are not are put
right afterwards. Nothing of the logits' size is kept for the backward pass but the logits themselves.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BACKGROUND = -1
"""Target of a position where no class is right."""
IGNORE = -2
"""Target of a position that takes no part."""

_CPU_PIECE = 2**15  # logits for each thread: four arrays of float32 fill half a MiB of its cache
_GPU_PIECE = 2**26  # bounds the extra memory, at 256 MiB an array


def sigmoid_focal_loss_sum(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """The focal loss, summed over all positions and classes that are not ignored.

    With p the probability of the right answer (of the class where it is the target, of its absence elsewhere) an
    entry's loss is -a (1 - p)^gamma log p, where a is alpha for the target class and 1 - alpha elsewhere.

    Args:
        logits: float [..., C] of any strides: a permuted view of a convolution's output is not copied.
        targets: int64 [...], the class, BACKGROUND or IGNORE.
        alpha: the weight of the positives, 0 to 1.
        gamma: 0 or more; 2 and 1.5 are faster than others.

    Returns:
        A scalar, float32 (float64 for float64 logits), computed in that type whatever the logits are.
    """
    assert targets.shape == logits.shape[:-1], (targets.shape, logits.shape)
    return _SigmoidFocalLossSum.apply(logits, targets, alpha, gamma)  # pyright: ignore[reportReturnType]


class _SigmoidFocalLossSum(torch.autograd.Function):
    """In the forward pass the loss, in the backward pass its derivative, each from the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
        """See `sigmoid_focal_loss_sum`."""
        logits = logits if _is_dense(logits) else logits.contiguous()
        # [P] for each dimension of targets: where the positives are, then the class; [I] for each: the ignored rows.
        positive = torch.nonzero(targets >= 0, as_tuple=True)
        positive = (*positive, targets[positive])
        ignored = torch.nonzero(targets == IGNORE, as_tuple=True)
        ctx.save_for_backward(logits, *positive, *ignored)
        ctx.alpha, ctx.gamma = alpha, gamma

        dtype = _compute_dtype(logits)
        background = torch.zeros((), dtype=torch.float64, device=logits.device)
        for piece in _in_memory_order(logits).split(_piece_size(logits)):
            background += _background_loss(piece.to(dtype), gamma).sum()
        x = logits[positive].to(dtype)  # [P]
        background -= _background_loss(x, gamma).double().sum()
        background -= _background_loss(logits[ignored].to(dtype), gamma).double().sum()  # of [I, C]
        # The loss of a positive is that of background at the logit's negative.
        return ((1 - alpha) * background + alpha * _background_loss(-x, gamma).double().sum()).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """The derivative with respect to the logits, in their type and memory layout."""
        logits, *indices = ctx.saved_tensors
        positive, ignored = tuple(indices[: logits.ndim]), tuple(indices[logits.ndim :])
        dtype = _compute_dtype(logits)
        factor = grads[0] * (1 - ctx.alpha)
        slopes = torch.empty_like(logits)
        size = _piece_size(logits)
        pieces = zip(_in_memory_order(logits).split(size), _in_memory_order(slopes).split(size), strict=True)
        for piece, into in pieces:
            _background_slope(piece.to(dtype), ctx.gamma, factor, into)
        x = -logits[positive].to(dtype)
        at_positives = torch.empty_like(x)
        _background_slope(x, ctx.gamma, -ctx.alpha * grads[0], at_positives)
        slopes[positive] = at_positives.to(slopes.dtype)
        slopes[ignored] = 0
        return slopes, None, None, None


def _background_loss(x: Tensor, gamma: float) -> Tensor:
    """p^gamma * -log(1 - p) with p = sigmoid(x), without 1 - p, which is 0 from x = 17 on."""
    return _power(torch.sigmoid(x), gamma).mul_(F.softplus(x))


def _background_slope(x: Tensor, gamma: float, factor: Tensor, into: Tensor) -> None:
    """`factor` (a scalar) times the derivative of `_background_loss`, p^gamma * (gamma (1 - p) -log(1 - p) + p)."""
    p = torch.sigmoid(x)
    power = _power(p, gamma).mul_(factor)
    inner = torch.addcmul(p, F.softplus(x), 1 - p, value=gamma)
    torch.mul(power, inner, out=into)


def _power(p: Tensor, gamma: float) -> Tensor:
    if gamma == 2:
        return p * p
    if gamma == 1.5:
        return torch.sqrt(p).mul_(p)
    return p**gamma


def _compute_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _piece_size(logits: Tensor) -> int:
    return _CPU_PIECE * torch.get_num_threads() if logits.device.type == "cpu" else _GPU_PIECE


def _is_dense(x: Tensor) -> bool:
    """Whether the entries fill a stretch of memory without gaps or overlaps, in whatever order."""
    return _by_stride(x).is_contiguous()


def _in_memory_order(x: Tensor) -> Tensor:
    """A dense tensor's entries as they lie in memory, [n], without a copy."""
    return _by_stride(x).view(-1)


def _by_stride(x: Tensor) -> Tensor:
    return x.permute(sorted(range(x.ndim), key=lambda dim: (-x.stride(dim), dim)))
