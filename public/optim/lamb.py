"""LAMB, which torch does not have."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-6


class LAMB(torch.optim.Optimizer):
    """Adam with each weight's step scaled to the length of the weight itself.

    You et al. 2019, https://arxiv.org/abs/1904.00962, algorithm 2, with bias correction and the length of a weight as
    it is (phi(z) = z). Reference: timm's `Lamb`, to whose steps these are equal, except that it clips the whole
    gradient to a norm of 1, which is `clip_grad_norm` here. Both leave the length of the step of what is not decayed
    (norms and biases, where `decay_norm_and_bias` is off) as Adam has it.

    Args:
        groups: of parameters, each with a weight_decay.
        lr: learning rate.
        betas: decay rates of the two moments.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also of what `load_state_dict` read: checkpoints of before have the number of steps in a tensor."""
        super().__setstate__(state)
        for one in self.state.values():
            one["step"] = int(one["step"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step by the gradients that there are; nothing of it waits for a GPU."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                direction = self._adam(weight, group["betas"])
                if group["weight_decay"]:
                    direction.add_(weight, alpha=group["weight_decay"])
                    direction.mul_(_ratio(weight, direction))
                weight.sub_(direction, alpha=group["lr"])

    def _adam(self, weight: Tensor, betas: tuple[float, float]) -> Tensor:
        """Adam's direction; takes the moments one step on."""
        state: dict[str, Any] = self.state[weight]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
        state["step"] += 1
        state["mean"].lerp_(weight.grad, 1 - betas[0])
        state["square"].mul_(betas[1]).addcmul_(weight.grad, weight.grad, value=1 - betas[1])
        first, second = (1 - beta ** state["step"] for beta in betas)
        return (state["mean"] / first).div_((state["square"] / second).sqrt_().add_(EPSILON))


def _ratio(weight: Tensor, direction: Tensor) -> Tensor:
    """Length of the weight / length of the direction, a scalar; 1 where one of them is 0."""
    lengths = weight.norm(), direction.norm()
    return torch.where((lengths[0] > 0) & (lengths[1] > 0), lengths[0] / lengths[1], 1.0)
