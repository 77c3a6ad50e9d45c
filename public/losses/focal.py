"""The focal loss of sigmoid outputs, summed, made for maps where nearly every entry is background.

Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002. Reference: torchvision.ops.sigmoid_focal_loss.

A RetinaNet has tens of millions of logits and a few thousand positives a batch. So every logit is first taken for
background, piece by piece so that what lies in between stays in the cache, and the few entries that are not are put
right afterwards: by their indices on a CPU, by masks where shapes are fixed (`public.geometry.fixed_shapes`). Nothing
of the logits' size is kept for the backward pass but the logits themselves.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from public.geometry.fixed_shapes import shapes_are_fixed
from public.geometry.labels import IGNORED

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
    sums = _FixedSums if shapes_are_fixed(logits.device) else _SigmoidFocalLossSums
    return sums.apply(logits, targets, alpha, gamma)  # pyright: ignore[reportReturnType]


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
    @once_differentiable
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
    """The same in shapes that depend on no value: one class of every position is put right, where it has any."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
        """See `sigmoid_focal_loss_sums`."""
        ctx.save_for_backward(logits, targets)
        ctx.alpha, ctx.gamma = alpha, gamma
        x, is_positive = _at_classes(logits, targets)  # [B, ...] each
        positives = alpha * _background_loss(-x, gamma).double() - (1 - alpha) * _background_loss(x, gamma).double()
        positives = torch.where(is_positive, positives, 0).flatten(1).sum(1)  # [B]
        background = []
        for part in _image_parts(logits):
            of_part = _background_loss(_computable(logits[part]), gamma)
            of_part.masked_fill_((targets[part] == IGNORED)[..., None], 0)
            background.append(of_part.sum(tuple(range(1, of_part.ndim)), dtype=torch.float64))
        return ((1 - alpha) * torch.cat(background) + positives).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, None, None, None]:
        """The derivative with respect to the logits, in their type and order of memory."""
        logits, targets = ctx.saved_tensors
        grad = grads[0].view(-1, *[1] * targets.ndim)  # [B, 1, ..., 1]
        slopes = torch.empty_like(logits)
        for part in _image_parts(logits):
            _background_slope(_computable(logits[part]), ctx.gamma, (1 - ctx.alpha) * grad[part], into=slopes[part])
        slopes.masked_fill_((targets == IGNORED)[..., None], 0)
        x, is_positive = _at_classes(logits, targets)
        of_positives = torch.empty_like(x)
        _background_slope(-x, ctx.gamma, -ctx.alpha * grad[..., 0], into=of_positives)
        classes = targets.clamp(min=0)[..., None]
        of_classes = torch.where(
            is_positive[..., None], of_positives[..., None].to(slopes.dtype), slopes.gather(-1, classes)
        )
        return slopes.scatter_(-1, classes, of_classes), None, None, None


def _at_classes(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """[B, ..., C], [B, ...] -> the logit of each position's class [B, ...], and bool [B, ...], whether it has one."""
    return _computable(logits.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)), targets >= 0


def _image_parts(logits: Tensor) -> list[slice]:
    """Some images at a time, with not too many logits."""
    size = max(1, _GPU_PIECE // max(1, logits[:1].numel()))
    return [slice(first, first + size) for first in range(0, max(1, len(logits)), size)]


def _background_loss(x: Tensor, gamma: float) -> Tensor:
    """p^gamma * -log(1 - p) with p = sigmoid(x); not through 1 - p, which is 0 in float32 from x = 17 on."""
    return _power(torch.sigmoid(x), gamma).mul_(F.softplus(x))


def _background_slope(x: Tensor, gamma: float, factor: Tensor, *, into: Tensor) -> None:
    """`factor` times the derivative of `_background_loss`: p^gamma * (gamma * (1 - p) * -log(1 - p) + p)."""
    p = torch.sigmoid(x)
    power = _power(p, gamma).mul_(factor)
    torch.mul(power, torch.addcmul(p, F.softplus(x), 1 - p, value=gamma), out=into)


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
