"""Depthwise convolutions with a stride, which train slowly in bf16 on a CPU as they come.

oneDNN has a fast bf16 kernel for everything about them but the gradient of the input: that runs 20 to 200 times as
long, a fifth of a training step of MobileNetV2. That gradient is also a convolution with stride 1, of the outputs'
gradient with zeros in between, for which there is a fast kernel. Where oneDNN has no bf16, torch's own way is faster.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from public.runtime.device import has_bf16_kernels

_HAS_KERNELS = has_bf16_kernels()
"""Asked once: a graph's compiler cannot look into the question."""


def has_depthwise(network: nn.Module) -> bool:
    """Whether a network has convolutions of each channel by itself, of any class and kernel."""
    convolutions = (one for one in network.modules() if isinstance(one, nn.Conv2d))
    return any(one.groups == one.in_channels > 1 for one in convolutions)


class DepthwiseConv2d(nn.Conv2d):
    """A 3x3 convolution of each channel by itself; keys and values are those of nn.Conv2d.

    It has no bias until a batch norm is folded into it (`folding.py`).
    """

    def __init__(self, channels: int, stride: int) -> None:
        """Takes the number of channels, and the stride."""
        super().__init__(channels, channels, 3, stride, padding=1, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)]."""
        trains_slowly = _HAS_KERNELS and self.stride != (1, 1) and self.bias is None  # with a bias: folded
        is_tensor = isinstance(input, Tensor)  # torch.fx traces with what is none
        if is_tensor and input.device.type == "cpu" and input.dtype == torch.bfloat16 and trains_slowly:
            return _StridedDepthwise.apply(input, self.weight.to(input.dtype), self.stride)  # pyright: ignore
        return super().forward(input)


class _StridedDepthwise(torch.autograd.Function):
    """A 3x3 depthwise convolution with padding 1; the gradient of its input by a convolution with stride 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        """[B, C, H, W], [C, 1, 3, 3] -> [B, C, ceil(H / stride), ceil(W / stride)]."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, stride=stride, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore
        """The gradients of x and weight."""
        x, weight = ctx.saved_tensors
        (slopes,), of_x, of_weight = grads, None, None
        if ctx.needs_input_grad[0]:
            spread = torch.zeros_like(x)  # [B, C, H, W]
            spread[:, :, :: ctx.stride[0], :: ctx.stride[1]] = slopes
            of_x = F.conv2d(spread, weight.flip(2, 3), padding=1, groups=len(weight))
        if ctx.needs_input_grad[1]:
            of_weight = conv2d_weight(x, weight.shape, slopes, ctx.stride, 1, groups=len(weight))
        return of_x, of_weight, None
