"""3x3 convolutions with half the multiplications, for training and evaluation in float32 on a CPU.

Four rows of outputs take six products of transformed rows instead of twelve of plain ones: Winograd's F(4, 3), along
the height alone. The products are six 1x3 convolutions, as fast for oneDNN as others, and the transforms are additions
of whole rows. Where vectors are AVX2's, oneDNN's gradients of weights run in NHWC at a third of the processor's speed:
there they are matrix products, of many more layers, strided and 1x1 ones among them.

Paper: Lavin and Gray 2015, https://arxiv.org/abs/1509.09308. It transforms both axes: a quarter of the
multiplications, but additions that take longer here than what that saves, and more rounding. As it is, results of 256
channels deviate from float64's by 1.6e-6 of their norm, those of `torch.conv2d` by 0.9e-6. What is not finite, or
larger than all else by orders of magnitude, is felt in up to two rows more than a 3x3 kernel reaches.

Shapes: B images, C channels in, K out, H and W of a map, S = ceil(H / 4) strips of four rows. Maps lie in memory as
[B, H, W, C] (torch.channels_last), and transformed ones as [6, B, S, W, C].
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from public.geometry.fixed_shapes import pieces, shapes_are_fixed
from public.layers.autograd_state import is_batched, is_unseen
from public.layers.shifted_products import pointwise_weight_gradient, strided_weight_gradient
from public.runtime.device import has_avx2_alone, has_x86_kernels

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of the input, the weight and the bias, as they are asked for."""


class Fewest(NamedTuple):
    """With fewer the additions take longer than the multiplications that they save."""

    channels: int
    """In and out."""
    rows: int
    """Of a map."""
    pixels: int = 1500
    """Of all maps."""


_FEWEST, _FEWEST_OF_AVX2 = Fewest(80, 16), Fewest(64, 4)
_FEWEST_OF_PRODUCTS, _LEAST_WORK = 48, 1 << 25
"""Channels in and out; multiplications for one of the kernel's nine places. As above, of products for AVX2; the latter
also of an image that is evaluated."""
_FEWEST_OF_POINTS = 128
"""Channels in and out of a 1x1 kernel, as above."""
_MULTIPLIED, _TRANSFORMED = 4 << 20, 2 << 20
"""Numbers of the maps that are worked on at a time: more would take memory, and leave the cache between additions."""
_OF_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
"""The paper's G: what each of the six kernels takes of the three rows of a 3x3 one."""


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As torch.conv2d with a padding of half the kernel, in less time where that is known; it has no gradient itself.

    Args:
        x: [B, C, H, W].
        weight: [K, C, k, k] with an odd k.
        bias: [K].

    Returns:
        [B, K, H, W].
    """
    if not _is_faster(x, weight):
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    batch, _, height, width = x.shape
    kernels, sides = _kernels(weight), (batch, len(weight), height + -height % 4, width)
    out = torch.empty(sides, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    strips = out.permute(0, 2, 3, 1).unflatten(1, (-1, 4))  # [B, S, 4, W, K]
    for some in _pieces(x, _MULTIPLIED):
        _of_products(_products(x[some], kernels, bias), out=strips[some])
    # No view: what follows may write into it, which autograd allows of none that a function of ours gives.
    return out if sides[2] == height else out[:, :, :height].clone(memory_format=torch.channels_last)


def convolve_backward(grad: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool], stride: int = 1) -> Gradients:
    """The gradients of what `convolve` took, from that of what it gave; or of torch's convolution with a stride of 2.

    Args:
        grad: [B, K, H, W], with a stride half as high and wide.
        x: as `convolve` took it; where only the gradient of x is asked for, its shape and layout count alone.
        weight: likewise.
        needs: whether the gradients of x, weight and bias are asked for.
        stride: 1 or 2.
    """
    if is_batched(grad) or not _trains_faster(x, weight, stride):
        return _torchs_backward(grad, x, weight, needs, stride)
    grad = grad.contiguous(memory_format=torch.channels_last)
    of_x = None
    if needs[0] and stride == 1 and _is_faster(x, weight):
        of_x = convolve(grad, weight.flip(2, 3).transpose(0, 1), None)
    elif needs[0]:
        of_x = _torchs_backward(grad, x, weight, (True, False, False), stride)[0]
    of_weight = _gradient_of_weight(grad, x, weight, stride) if needs[1] else None
    return of_x, of_weight, grad.sum((0, 2, 3)) if needs[2] else None


def _gradient_of_weight(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if weight.shape[-1] == 1:
        return pointwise_weight_gradient(grad, x, weight, stride)
    return _weight_gradient(grad, x) if stride == 1 else strided_weight_gradient(grad, x)


def _torchs_backward(grad: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool], stride: int) -> Gradients:
    sides = [stride] * 2, [weight.shape[-1] // 2] * 2, [1, 1], False, [0, 0], 1
    return torch.ops.aten.convolution_backward(grad, x, weight, [len(weight)], *sides, list(needs))


def run_convolution(layer: nn.Module, x: Tensor) -> Tensor:
    """What a convolution, or a sequence of one, gives for [B, C, H, W]: by `convolve` where nobody looks on."""
    conv = layer[0] if isinstance(layer, nn.Sequential) and len(layer) == 1 else layer
    # Where x lies is asked first: nothing else takes a GPU's host any time then.
    is_of_cpu = isinstance(x, Tensor) and x.is_cpu
    if is_of_cpu and type(conv) is nn.Conv2d and _is_plain(conv) and is_unseen(x, layer):
        stride = conv.stride[0]
        if torch.is_grad_enabled() and _trains_faster(x, conv.weight, stride):
            return trained_convolution(x, conv.weight, conv.bias, stride)
        if not torch.is_grad_enabled() and stride == 1:
            return evaluated_convolution(x, conv.weight, conv.bias)
    return layer(x)


class Convolutions(nn.Sequential):
    """A sequence that computes its convolutions by `run_convolution`."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[B, C, H, W] -> [B, K, H', W']."""
        for layer in self:
            x = run_convolution(layer, x)
        return x


def _is_plain(conv: nn.Conv2d) -> bool:
    sides = conv.kernel_size, conv.padding
    others = conv.dilation, conv.groups, conv.padding_mode
    is_known = sides in (((3, 3), (1, 1)), ((1, 1), (0, 0))) and conv.stride in ((1, 1), (2, 2))
    return is_known and others == ((1, 1), 1, "zeros")


def trained_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1) -> Tensor:
    """`convolve`, or torch's with a stride of 2, and its gradient; a `TorchFunctionMode` sees it as one function."""
    if has_torch_function((x,)):
        return handle_torch_function(trained_convolution, (x,), x, weight, bias, stride)
    return _Trained.apply(x, weight, bias, stride)  # pyright: ignore[reportReturnType]


def evaluated_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`convolve` without a gradient: each image has the same bits alone and among others."""
    one = x[:1]
    if one.numel() * len(weight) >= _LEAST_WORK and _is_faster(one, weight):
        return convolve(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


class _Trained(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return convolve(x, weight, bias) if stride == 1 else F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        # With a gradient of its own this pass is torch's.
        gradients = _torchs_backward if torch.is_grad_enabled() else convolve_backward
        return *gradients(grads[0], x, weight, ctx.needs_input_grad[:3], ctx.stride), None


def _is_faster(x: Tensor, weight: Tensor) -> bool:
    if weight.shape[-1] == 1 or not _is_known(x, weight):
        return False
    (batch, _, height, width), fewest = x.shape, _FEWEST_OF_AVX2 if has_avx2_alone() else _FEWEST
    is_large = height >= fewest.rows and batch * height * width >= fewest.pixels
    return is_large and min(weight.shape[:2]) >= fewest.channels


def _trains_faster(x: Tensor, weight: Tensor, stride: int = 1) -> bool:
    """Whether all that a step computes is faster, or the gradient of the weight alone."""
    if stride == 1 and _is_faster(x, weight):
        return True
    is_wide = min(weight.shape[:2]) >= (_FEWEST_OF_POINTS if weight.shape[-1] == 1 else _FEWEST_OF_PRODUCTS)
    is_many = x.numel() * len(weight) >= _LEAST_WORK * stride**2
    return is_wide and is_many and has_avx2_alone() and _is_known(x, weight)


def _is_known(x: Tensor, weight: Tensor) -> bool:
    is_plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    is_known = is_plain and x.ndim == 4 and weight.shape[2:] in ((3, 3), (1, 1)) and has_x86_kernels()
    if not is_known or torch.is_autocast_enabled("cpu") or shapes_are_fixed(x.device):
        return False  # a graph's compiler sees one convolution, and what is counted has a GPU's operators
    return x.is_contiguous(memory_format=torch.channels_last)


def _pieces(x: Tensor, numbers: int) -> list[slice]:
    return pieces(len(x), numbers // x[0].numel())


def _kernels(weight: Tensor) -> Tensor:
    """[K, C, 3, 3] -> [6, K, C, 1, 3]."""
    rows = weight.permute(2, 0, 3, 1)  # [3, K, 3, C]
    mixed = weight.new_tensor(_OF_KERNEL) @ rows.flatten(1)
    return mixed.view(6, *rows.shape[1:])[:, :, None].permute(0, 1, 4, 2, 3)


def _products(x: Tensor, kernels: Tensor, bias: Tensor | None) -> list[Tensor]:
    """[B, C, H, W] -> six [B, S, W, K], of which the second counts once in all rows of a strip: it has the bias."""
    rows = _of_rows(x).permute(0, 1, 4, 2, 3)  # [6, B, C, S, W]
    found = [F.conv2d(rows[i], kernels[i], bias if i == 1 else None, padding=(0, 1)) for i in range(6)]
    return [one.permute(0, 2, 3, 1) for one in found]


def _of_rows(x: Tensor, columns: int = 0) -> Tensor:
    """The paper's B^T of every six rows, a strip with its neighbours: [B, C, H, W] -> [6, B, S, W + columns, C]."""
    strips = _strips(x, columns)
    out = x.new_empty(6, *strips[0].shape)
    for some in _pieces(x, _TRANSFORMED):
        # d0 is the d4 of the strip above, and d5 the d1 of the strip below; at the ends they are 0.
        d1, d2, d3, d4 = (one[some] for one in strips)
        t = out[:, some]
        for number, near, far in ((1, -4, 1), (3, -1, 2)):
            even, odd = torch.add(d4, d2, alpha=near), torch.add(d3, d1, alpha=near)
            torch.add(even, odd, alpha=far, out=t[number])
            torch.sub(even, odd, alpha=far, out=t[number + 1])
        torch.add(d4, d2, alpha=-5, out=t[0])[:, 1:].add_(d4[:, :-1], alpha=4)
        torch.mul(d1, 4, out=t[5]).add_(d3, alpha=-5)[:, :-1].add_(d1[:, 1:])
    return out


def _strips(x: Tensor, columns: int) -> Sequence[Tensor]:
    """The first rows of all strips, the second, the third and the fourth, each with columns of zeros behind it.

    [B, C, H, W] -> four [B, S, W + columns, C].
    """
    rows = x.permute(0, 2, 3, 1)
    missing = -rows.shape[1] % 4
    padded = F.pad(rows, (0, 0, 0, columns, 0, missing)) if missing or columns else rows
    return padded.unflatten(1, (-1, 4)).unbind(2)


def _of_products(products: list[Tensor], *, out: Tensor) -> None:
    """The paper's A^T of six products, which makes the rows of a strip: six [B, S, W, K] -> [B, S, 4, W, K]."""
    for some in _pieces(out, _TRANSFORMED):
        m, rows = [one[some] for one in products], out[some].unbind(2)
        near, far = m[1] + m[2], m[3] + m[4]
        torch.add(m[0], near, out=rows[0]).add_(far)
        torch.add(near, far, alpha=4, out=rows[2])
        torch.sub(m[1], m[2], out=near)
        torch.sub(m[3], m[4], out=far)
        torch.add(near, far, alpha=2, out=rows[1])
        torch.add(near, far, alpha=8, out=rows[3]).add_(m[5])


def _of_slopes(grad: Tensor, columns: int) -> Tensor:
    """The paper's A of the four rows of each strip, the gradients of the products.

    [B, K, H, W] -> [6, B, S, W + columns, K].
    """
    strips = _strips(grad, columns)
    out = grad.new_empty(6, *strips[0].shape)
    for some in _pieces(grad, _TRANSFORMED):
        y0, y1, y2, y3 = (one[some] for one in strips)
        t = out[:, some]
        t[0].copy_(y0)
        t[5].copy_(y3)
        for number, factor in ((1, 1), (3, 2)):
            even, odd = torch.add(y0, y2, alpha=factor**2), torch.add(y1, y3, alpha=factor**2)
            torch.add(even, odd, alpha=factor, out=t[number])
            torch.sub(even, odd, alpha=factor, out=t[number + 1])
    return out


def _weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """[B, K, H, W] and [B, C, H, W] -> [K, C, 3, 3]."""
    of_row, columns = (_row_products, 1) if has_avx2_alone() else (_row_gradient, 0)
    total: list[Tensor] = []
    for some in _pieces(x, _MULTIPLIED):
        pairs = zip(_of_slopes(grad[some], columns), _of_rows(x[some], columns), strict=True)
        found = [of_row(*pair) for pair in pairs]
        total = [one.add_(new) for one, new in zip(total, found, strict=True)] if total else found
    mixed = x.new_tensor(_OF_KERNEL).T @ torch.stack(total).flatten(1)
    rows = mixed.view(3, *total[0].shape)  # [3, K, 3, C]
    return rows.permute(1, 3, 0, 2).contiguous(memory_format=torch.channels_last)


def _row_gradient(grad: Tensor, rows: Tensor) -> Tensor:
    """Of a 1x3 kernel: [B, S, W, K] and [B, S, W, C] -> [K, 3, C].

    Each row is an image for oneDNN, which computes the weight's gradient of many low maps a third faster than that of
    a few high ones.
    """
    grad, rows = (one.flatten(0, 1)[:, None].permute(0, 3, 1, 2) for one in (grad, rows))  # [B * S, K or C, 1, W]
    kernel = rows.new_empty(()).expand(grad.shape[1], rows.shape[1], 1, 3)  # whose shape counts alone
    sides = [1, 1], [0, 1], [1, 1], False, [0, 0], 1
    found: Any = torch.ops.aten.convolution_backward(grad, rows, kernel, None, *sides, [False, True, False])[1]
    return found[:, :, 0].transpose(1, 2)


def _row_products(grad: Tensor, rows: Tensor) -> Tensor:
    """As `_row_gradient`, of rows that end in a column of zeros, which is the neighbour of both rows that it parts."""
    grad, rows = grad.flatten(0, 2), rows.flatten(0, 2)  # [N, K or C]
    out = rows.new_empty(3, grad.shape[1], rows.shape[1])
    torch.mm(grad[1:].T, rows[:-1], out=out[0])
    torch.mm(grad.T, rows, out=out[1])
    torch.mm(grad[:-1].T, rows[1:], out=out[2])
    return out.transpose(0, 1)
