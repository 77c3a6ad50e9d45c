"""The focal loss of sigmoid outputs, summed, made for maps where nearly every entry is background.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002. Reference: torchvision.ops.sigmoid_focal_loss.

A RetinaNet has tens of millions of logits and a few thousand positives a batch. So every logit is first taken for
background, piece by piece so that what lies in between stays in the cache, and the few entries that are not are put
right afterwards: by their indices on a CPU, by masks where shapes are fixed (`public.geometry.fixed_shapes`). Nothing
of the logits' size is kept for the backward pass but the logits themselves.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from public.geometry.fixed_shapes import shapes_are_fixed
from public.geometry.labels import IGNORED
from public.layers.autograd_state import differentiable_once

_CPU_PIECE = 2**16  # logits for each thread: two to three times as fast as everything at once
_GPU_PIECE = 2**26  # bounds the extra memory, at 256 MiB an array


def sigmoid_focal_loss_sum(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """The focal loss, summed over all positions and classes that are not ignored.

    With p the probability given to what is right (the class where it is the target, its absence elsewhere), the loss
    of an entry is -a (1 - p)^gamma log p, where a is alpha for the target class and 1 - alpha elsewhere.

    Args:
        logits: float [B, ..., C] of any strides: a permuted view of a convolution's output is not copied.
        targets: int64 [B, ...], the class, BACKGROUND or IGNORED (`public.geometry.labels`).
        alpha: the weight of the positives, 0 to 1.
        gamma: 0 or more; 2 and 1.5 are faster than others.

    Returns:
        A scalar, float32 whatever the logits are (float64 for float64).
    """
    return sigmoid_focal_loss_sums(logits, targets, alpha=alpha, gamma=gamma).sum()


def sigmoid_focal_loss_sums(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """As `sigmoid_focal_loss_sum`, but one sum for each index of the first dimension: [B]."""
    assert logits.ndim >= 2, logits.shape
    assert targets.shape == logits.shape[:-1], (targets.shape, logits.shape)
    if torch.compiler.is_compiling():
        return _graph_sums(logits, targets, alpha, gamma)
    if shapes_are_fixed(logits.device):
        return _FixedSums.apply(targets.flatten(1), alpha, gamma, logits)  # pyright: ignore[reportReturnType]
    return _SigmoidFocalLossSums.apply(logits, targets, alpha, gamma)  # pyright: ignore[reportReturnType]


def sigmoid_focal_loss_sums_of_levels(
    levels: Sequence[Tensor], targets: Tensor, *, alpha: float, gamma: float
) -> Tensor:
    """As `sigmoid_focal_loss_sums`, of the logits of a pyramid's levels, which are not joined: that would copy them.

    Args:
        levels: float [B, ..., C] of each level.
        targets: int64 [B, N], level after level.
        alpha: see there.
        gamma: see there.

    Returns:
        [K, B], K rows to add up: one of each level, or where shapes are fixed one of all.
    """
    if torch.compiler.is_compiling() or not shapes_are_fixed(targets.device):
        of_levels = [part.squeeze(-1) for part in _split_like(targets, levels)]
        pairs = zip(levels, of_levels, strict=True)
        return torch.stack([sigmoid_focal_loss_sums(x, own, alpha=alpha, gamma=gamma) for x, own in pairs])
    return _FixedSums.apply(targets, alpha, gamma, *levels)[None]  # pyright: ignore[reportReturnType, reportOptionalSubscript]


def _graph_sums(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """The same as plain operators. A compiler fuses them, and computes again in the backward pass what lies between the
    logits and the sums; it can do neither with an autograd.Function, which DDP's cutting of graphs refuses as well."""
    classes = torch.arange(logits.shape[-1], device=logits.device)
    x = _computable(logits)
    is_class = targets[..., None] == classes  # [B, ..., C]
    x = torch.where(is_class, -x, x)
    # Below -80 the loss is 0 in float32, and so is its slope; a root of 0 would have none.
    of_all = torch.sigmoid(x.clamp(min=-80)) ** gamma * F.softplus(x) * torch.where(is_class, alpha, 1 - alpha)
    of_all = torch.where((targets == IGNORED)[..., None], 0, of_all)
    return of_all.flatten(1).sum(1, dtype=torch.float64).to(x.dtype)


class _SigmoidFocalLossSums(torch.autograd.Function):
    """In the forward pass the loss, in the backward pass its derivative, each from the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
        """See `sigmoid_focal_loss_sums`."""
        if not _by_stride(logits).is_contiguous():  # gaps, overlaps, or the first dimension not the outermost
            logits = logits.contiguous()
        # One index [P] for each dimension of the logits: the positives; and [I] for each of the targets: the ignored.
        positive = torch.nonzero(targets >= 0, as_tuple=True)
        positive = (*positive, targets[positive])
        ignored = torch.nonzero(targets == IGNORED, as_tuple=True)
        ctx.save_for_backward(logits, *positive, *ignored)
        ctx.alpha, ctx.gamma = alpha, gamma

        # In float64, because what is taken off again below may be far more than what stays.
        background = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
        in_memory_order = _by_stride(logits).flatten(1)  # [B, n]
        for piece in _pieces(in_memory_order):
            background[piece[0]] += _background_loss(_computable(in_memory_order[piece]), gamma).sum(
                1, dtype=torch.float64
            )
        x = _computable(logits[positive])  # [P]
        background.index_add_(0, positive[0], -_background_loss(x, gamma).double())
        of_ignored = _background_loss(_computable(logits[ignored]), gamma)  # [I, C]
        background.index_add_(0, ignored[0], -of_ignored.double().sum(1))
        # A positive's loss is that of background at the negative of its logit.
        sums = (1 - alpha) * background
        return sums.index_add_(0, positive[0], alpha * _background_loss(-x, gamma).double()).to(x.dtype)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, None, None, None]:
        """The derivative with respect to the logits, in their type and order of memory."""
        logits, *indices = ctx.saved_tensors
        positive, ignored = tuple(indices[: logits.ndim]), tuple(indices[logits.ndim :])
        grad = grads[0]  # [B]
        slopes = torch.empty_like(logits)
        inputs, outputs = _by_stride(logits).flatten(1), _by_stride(slopes).flatten(1)  # [B, n]
        for piece in _pieces(inputs):
            factor = (1 - ctx.alpha) * grad[piece[0], None]
            _background_slope(_computable(inputs[piece]), ctx.gamma, factor, into=outputs[piece])
        x = -_computable(logits[positive])  # [P]
        of_positives = torch.empty_like(x)
        _background_slope(x, ctx.gamma, -ctx.alpha * grad[positive[0]], into=of_positives)
        slopes[positive] = of_positives.to(slopes.dtype)
        slopes[ignored] = 0
        return slopes, None, None, None


class _FixedSums(torch.autograd.Function):
    """The same in shapes that depend on no value: one class of every position is put right, where it has any.

    What is of a position, and not of each class, is done for all levels at once.
    """

    @staticmethod
    def forward(ctx: Any, targets: Tensor, alpha: float, gamma: float, *levels: Tensor) -> Tensor:
        """Targets [B, N], logits [B, ..., C] of each level -> [B]; see `sigmoid_focal_loss_sums`."""
        classes = _split_like(targets.clamp(min=0), levels)
        found = zip(levels, classes, strict=True)
        x = _computable(torch.cat([logits.gather(-1, own).flatten(1) for logits, own in found], dim=1))  # [B, N]
        x, has_none, is_ignored = torch.stack([x, -x]), targets < 0, targets == IGNORED  # [2, B, N], [B, N] each
        ctx.save_for_backward(x, has_none, is_ignored, *classes, *levels)
        ctx.alpha, ctx.gamma = alpha, gamma

        at_class = _background_loss(x, gamma).masked_fill_(has_none, 0)
        taken_off, put_in = at_class.unbind()  # [B, N] each
        # In float64, because what is taken off again may be far more than what stays.
        background = torch.cat([_background_sums(logits, gamma) for logits in levels], dim=1)  # [B, N]
        background = background.sub_(taken_off).masked_fill_(is_ignored, 0)
        return ((1 - alpha) * background.sum(1) + alpha * put_in.sum(1, dtype=torch.float64)).to(x.dtype)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The derivative with respect to the logits, in their type and order of memory."""
        x, has_none, is_ignored, *rest = ctx.saved_tensors
        classes, levels = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        factors = torch.stack([(1 - ctx.alpha) * grads[0], -ctx.alpha * grads[0]])[..., None]  # [2, B, 1]
        at_class = _background_slope(x, ctx.gamma, factors)
        as_background, as_class = at_class.unbind()  # [B, N] each
        at_class = torch.where(has_none, as_background, as_class).masked_fill_(is_ignored, 0)
        factor = _split_like(factors[0].masked_fill(is_ignored, 0), levels)
        found = zip(levels, classes, factor, _split_like(at_class, levels), strict=True)
        return None, None, None, *(_slopes(x, own, by, at, ctx.gamma) for x, own, by, at in found)


def _background_sums(logits: Tensor, gamma: float) -> Tensor:
    """The loss of each position as background, over all classes: [B, ..., C] -> float64 [B, n]."""
    sums = [_background_loss(_computable(x), gamma).sum(-1, dtype=torch.float64).flatten(1) for x in _parts(logits)]
    return sums[0] if len(sums) == 1 else torch.cat(sums)


def _slopes(logits: Tensor, classes: Tensor, factor: Tensor, at_class: Tensor, gamma: float) -> Tensor:
    """Those of a level [B, ..., C] as background times factors [B, ..., 1]; at one class [B, ..., 1] the given ones."""
    parts = _parts(logits)
    if len(parts) > 1:
        slopes = torch.empty_like(logits)
        for x, own, into in zip(parts, _parts(factor, logits), _parts(slopes), strict=True):
            _background_slope(_computable(x), gamma, own, into=into)
    else:
        slopes = _background_slope(_computable(logits), gamma, factor).to(logits.dtype)
    return slopes.scatter_(-1, classes, at_class.to(slopes.dtype))


def _split_like(values: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
    """[B, N] -> for each level [B, ..., C] its part [B, ..., 1]."""
    parts = values.split([x.shape[1:-1].numel() for x in levels], dim=1)
    return [part.view(*x.shape[:-1], 1) for part, x in zip(parts, levels, strict=True)]


def _parts(values: Tensor, like: Tensor | None = None) -> Sequence[Tensor]:
    """Some images at a time, with not too many logits; of what is no logit as many images as of those."""
    size = max(1, _GPU_PIECE // max(1, (values if like is None else like).shape[1:].numel()))
    return [values] if size >= len(values) else values.split(size)


def _background_loss(x: Tensor, gamma: float) -> Tensor:
    """p^gamma * -log(1 - p) with p = sigmoid(x); not through 1 - p, which is 0 in float32 from x = 17 on."""
    return _power(torch.sigmoid(x), gamma).mul_(F.softplus(x))


def _background_slope(x: Tensor, gamma: float, factor: Tensor, *, into: Tensor | None = None) -> Tensor:
    """`factor` times the derivative of `_background_loss`: p^gamma * (gamma * (1 - p) * -log(1 - p) + p)."""
    p = torch.sigmoid(x)
    power = _power(p, gamma).mul_(factor)
    return torch.mul(power, torch.addcmul(p, F.softplus(x), 1 - p, value=gamma), out=into)


def _power(p: Tensor, gamma: float) -> Tensor:
    if gamma == 2:
        return p * p
    if gamma == 1.5:
        return torch.sqrt(p).mul_(p)
    return p**gamma


def _computable(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _pieces(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """What to cut [B, n] into: a part of a row, or some rows where they are short."""
    num_rows, num_columns = x.shape
    size = _CPU_PIECE * torch.get_num_threads() if x.device.type == "cpu" else _GPU_PIECE
    rows, columns = max(1, size // max(1, num_columns)), min(size, num_columns)
    for row in range(0, num_rows, rows):
        for column in range(0, num_columns, max(1, columns)):
            yield slice(row, row + rows), slice(column, column + columns)


def _by_stride(x: Tensor) -> Tensor:
    """[B, ...] with the dimensions behind the first in the order in which they lie in memory."""
    return x.permute(0, *sorted(range(1, x.ndim), key=lambda dim: (-x.stride(dim), dim)))
