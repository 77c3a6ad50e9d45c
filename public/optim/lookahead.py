"""Lookahead: slow weights that follow an optimizer's fast ones, and to which these return every few steps.

Paper: Zhang et al. 2019, https://arxiv.org/abs/1907.08610, algorithm 1: after every k steps of the inner optimizer
slow = slow + alpha (fast - slow), and then fast = slow. The inner optimizer keeps its momentum (the paper's section 4
finds that as good as resetting it).

The inner optimizer's learning rate schedule is not touched, and averaged weights (`public/optim/ema.py`) see the fast
weights as each step leaves them. Those are what is evaluated too: the slow ones wherever an epoch's end falls on a
k-th step.
"""

from typing import Any

import torch
from torch import Tensor


class Lookahead:
    """Attaches itself to an optimizer, in whose state the slow weights then lie: a checkpoint of it holds everything.

    Args:
        optimizer: the inner one; its weights are the slow weights' start.
        steps: k, from one return to the next.
        alpha: share of the way that the slow weights go towards the fast ones.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int, alpha: float) -> None:
        self.steps, self.alpha = steps, alpha
        # Kept apart until the inner optimizer has taken a step: AdamW takes a state that is not empty for its own.
        self.start = {p: p.detach().clone() for group in optimizer.param_groups for p in group["params"]}
        for group in optimizer.param_groups:
            group["lookahead_step"] = 0
        optimizer.register_step_post_hook(self._after_step)

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["lookahead_step"] += 1
            is_due = group["lookahead_step"] % self.steps == 0
            for fast in group["params"]:
                if fast.grad is not None:
                    slow = self._slow_of(fast, optimizer.state[fast])
                    if is_due:
                        fast.copy_(slow.lerp_(fast, self.alpha))

    def _slow_of(self, parameter: Tensor, state: dict[str, Any]) -> Tensor:
        start = self.start.pop(parameter, None)
        if "slow" not in state:  # else it is there from a step before, or from a checkpoint
            assert start is not None
            state["slow"] = start
        return state["slow"]
