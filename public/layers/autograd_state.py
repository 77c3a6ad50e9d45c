"""What autograd is about, where torch has no public name for the question."""

import torch
from torch import Tensor, nn


def is_graph_retained() -> bool:
    """Whether the backward pass that runs now may run again: what was kept for it must stay."""
    return torch._C._autograd._get_current_graph_task_keep_graph()  # pyright: ignore[reportAttributeAccessIssue]


def is_transformed() -> bool:
    """Whether this is called by torch.func.grad, vmap or another of them."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]


def is_one_step(x: Tensor, *parts: nn.Module) -> bool:
    """Whether autograd may take for one step what modules do with `x`: a gradient is asked for, and nobody looks on.

    A graph is made of the modules, which its compiler joins as it likes, and so is what torch.func transforms. Of
    shapes alone (the meta device, which knows no autocast) the modules' operators are counted.
    """
    if x.is_meta or not torch.is_grad_enabled() or torch.compiler.is_compiling() or is_transformed():
        return False
    modules = [one for part in parts for one in part.modules()]
    return not any(
        one._forward_hooks or one._forward_pre_hooks or one._backward_hooks or one._backward_pre_hooks
        for one in modules
    )
