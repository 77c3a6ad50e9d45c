"""What autograd is about, where torch has no public name for the question."""

import torch


def is_graph_retained() -> bool:
    """Whether the backward pass that runs now may run again: what was kept for it must stay."""
    return torch._C._autograd._get_current_graph_task_keep_graph()  # pyright: ignore[reportAttributeAccessIssue]


def is_transformed() -> bool:
    """Whether this is called by torch.func.grad, vmap or another of them."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]
