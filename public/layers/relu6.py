"""ReLU6 that keeps its result alone.

Reference: `nn.ReLU6(inplace=True)`, whose numbers and gradients these are. For its gradient torch needs the input, and
in training copies each map before it overwrites it: one more in memory, and one more pass. The result tells as well
where the gradient passes: where it is neither 0 nor 6.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from public.layers.autograd_state import is_followed


def relu6_(x: Tensor) -> Tensor:
    """min(max(x, 0), 6) in the place of x: float [...], no leaf that requires a gradient."""
    if has_torch_function_unary(x):  # so that `public.layers.recompute` sees it
        return handle_torch_function(relu6_, (x,), x)
    return _ReLU6.apply(x)  # pyright: ignore[reportReturnType]


class ReLU6(nn.ReLU6):
    """`nn.ReLU6` in place; in graphs and under torch.func, which cannot have a function of ours, torch's own."""

    def __init__(self) -> None:
        super().__init__(inplace=True)

    def forward(self, input: Tensor) -> Tensor:
        """Float [...] -> the same tensor."""
        if is_followed():
            return super().forward(input)
        return relu6_(input)


class _ReLU6(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """See `relu6_`."""
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x.clamp_(0, 6)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Passes where the result is neither 0 nor 6."""
        (result,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grads[0], result, 0, 6)
