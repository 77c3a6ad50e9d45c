"""The gradients of weights as matrix products: of a 3x3 convolution with stride 2 nine of them, of a 1x1 one.

Where vectors are AVX2's, oneDNN computes them from maps in NHWC at a fifth to a third of the processor's speed, and at
two thirds those of 1x1 kernels.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


def strided_weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Of a kernel with a padding of 1, in torch.channels_last.

    Each place of the kernel meets the pixels of one of four maps: those of even or odd rows and columns. A row and a
    column of zeros behind each are what lies around the image.

    Args:
        grad: of the outputs, [B, K, h, w] with h = ceil(H / 2), w = ceil(W / 2).
        x: [B, C, H, W].

    Returns:
        [K, C, 3, 3].
    """
    height, width = grad.shape[2] + 1, grad.shape[3] + 1
    slopes = _pixels(grad, height, width)
    parts = {(i, j): _pixels(x[:, :, i::2, j::2], height, width) for i, j in product(range(2), repeat=2)}
    out = x.new_empty(3, 3, grad.shape[1], x.shape[1])
    for row, column in product(range(3), repeat=2):
        pixels = parts[(row + 1) % 2, (column + 1) % 2]
        shift = (row == 0) * width + (column == 0)  # the row above, and the column before
        torch.mm(slopes[shift:].T, pixels[: len(pixels) - shift], out=out[row, column])
    return out.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


def _pixels(x: Tensor, height: int, width: int) -> Tensor:
    """[B, C, H, W] -> [B * height * width, C], with zeros behind its rows and columns."""
    rows = x.permute(0, 2, 3, 1)
    return F.pad(rows, (0, 0, 0, width - rows.shape[2], 0, height - rows.shape[1])).flatten(0, 2)


def pointwise_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Of a 1x1 kernel, in its memory format.

    Args:
        grad: of the outputs, [B, K, h, w] with h = ceil(H / stride), w = ceil(W / stride).
        x: [B, C, H, W].
        weight: [K, C, 1, 1].
        stride: of the convolution.

    Returns:
        [K, C, 1, 1].
    """
    out = torch.empty_like(weight)
    slopes, pixels = (one.permute(0, 2, 3, 1).flatten(0, 2) for one in (grad, x[:, :, ::stride, ::stride]))
    torch.mm(slopes.T, pixels, out=out[:, :, 0, 0])
    return out
