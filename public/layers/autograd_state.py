"""What autograd is about, where torch has no public name for the question; and what a step of ours owes to it."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook


def is_graph_retained() -> bool:
    """Whether the backward pass that runs now may run again: what was kept for it must stay."""
    return torch._C._autograd._get_current_graph_task_keep_graph()  # pyright: ignore[reportAttributeAccessIssue]


def is_transformed() -> bool:
    """Whether this is called by torch.func.grad, vmap or another of them."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]


def is_batched(grad: Tensor) -> bool:
    """Whether this is many gradients at once, of `torch.autograd.grad(..., is_grads_batched=True)`."""
    return torch._C._functorch.is_legacy_batchedtensor(grad)  # pyright: ignore[reportAttributeAccessIssue]


def is_followed() -> bool:
    """Whether more than a gradient follows what is computed: a graph made of it, torch.func, a forward derivative.

    Those know torch's own operators alone.
    """
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return is_traced or is_transformed() or torch.autograd.forward_ad._current_level >= 0


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Of an autograd.Function whose backward pass has no derivative: as torch's `once_differentiable`, never silent.

    That raises where what comes in needs a gradient and `.backward()` asks for it; otherwise this part of the second
    derivative is left out without a word (`findings/torch_once_differentiable_is_mostly_silent.sh`).

    Raises:
        RuntimeError: from the first backward pass, where it was asked for a graph of itself.
    """

    @functools.wraps(backward)
    def first(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            where = f"{backward.__module__}.{backward.__qualname__.removesuffix('.backward')}"
            raise RuntimeError(f"create_graph=True asks for second derivatives, and {where} has first ones alone.")
        return backward(ctx, *grads)

    return first


def is_one_step(x: Tensor, *parts: nn.Module) -> bool:
    """Whether autograd may take for one step what modules do with `x`: a gradient is asked for, and nobody looks on."""
    return torch.is_grad_enabled() and is_unseen(x, *parts)


def is_unseen(x: Tensor, *parts: nn.Module) -> bool:
    """Whether nobody looks on at what modules do with `x`.

    A graph is made of the modules, which its compiler joins as it likes; torch.fx makes it of what is no tensor. Of
    shapes alone (the meta device, which knows no autocast) the modules' operators are counted.
    """
    if not isinstance(x, Tensor) or x.is_meta or is_followed():
        return False
    return not (_has_any_global_hook() or any(_is_seen(one) for part in parts for one in part.modules()))


def _is_seen(module: nn.Module) -> bool:
    """Whether somebody hooked into this module, or gave it a `forward` of its own."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooks) or "forward" in vars(module)
