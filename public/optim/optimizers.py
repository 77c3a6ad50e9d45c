"""Optimizers from their config, torch's in their fused form where the device has one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from public.config.run import OptimizerOptions
from public.optim.lamb import LAMB
from public.optim.lookahead import Lookahead
from public.optim.options import AdamWOptions, LAMBOptions, SGDOptions

FUSED_DEVICES = ("cpu", "cuda")


def parameter_groups(module: nn.Module, weight_decay: float, decay_norm_and_bias: bool) -> list[dict[str, Any]]:
    """Splits the trainable parameters into decayed ones and, unless all are decayed, those of one dimension.

    Parameters of one dimension are exactly the scales and shifts of normalization layers and all biases.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if decay_norm_and_bias:
        return [{"params": parameters, "weight_decay": weight_decay}]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, options: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimizer of a module that already lies on its device, with what the options attach to it."""
    groups = parameter_groups(module, options.weight_decay, options.decay_norm_and_bias)
    fused = next(module.parameters()).device.type in FUSED_DEVICES
    optimizer = _BUILD[type(options)](groups, options, fused)
    if options.gradient_centralization:
        decays_in_gradient = isinstance(optimizer, torch.optim.SGD)
        optimizer.register_step_pre_hook(lambda *_: centralize_gradients_(optimizer, decays_in_gradient))
    if options.lookahead_steps is not None:
        Lookahead(optimizer, options.lookahead_steps, options.lookahead_alpha)
    return optimizer


def _sgd(groups: list[dict[str, Any]], options: SGDOptions, fused: bool) -> torch.optim.Optimizer:
    momentum, nesterov = options.momentum, options.nesterov
    optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=momentum, nesterov=nesterov, fused=fused)
    if momentum > 0:
        _start_momentum(optimizer)
    return optimizer


def _adamw(groups: list[dict[str, Any]], options: AdamWOptions, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, fused=fused)


def _lamb(groups: list[dict[str, Any]], options: LAMBOptions, fused: bool) -> torch.optim.Optimizer:
    return LAMB(groups, lr=options.lr, betas=options.betas)


_BUILD: dict[type[OptimizerOptions], Callable[..., torch.optim.Optimizer]] = {
    SGDOptions: _sgd,
    AdamWOptions: _adamw,
    LAMBOptions: _lamb,
}
"""How each kind of `public.optim.options` is made."""


def _start_momentum(optimizer: torch.optim.SGD) -> None:
    """Gives every parameter a momentum of zero, from which the first step is the same as from none.

    torch's fused step makes the missing ones with `empty_like`, and its kernel returns before writing to them where
    fp16 gradients overflowed: after an overflow in the very first step, memory as it was found would be the momentum.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


@torch.no_grad()
def centralize_gradients_(optimizer: torch.optim.Optimizer, decays_in_gradient: bool) -> None:
    """Takes from each weight's gradient the mean over all its dimensions but the first (the output channels), in place.

    Yong et al. 2020, https://arxiv.org/abs/2004.01461, equation 1: of weights with more than one dimension. Where the
    optimizer adds weight decay to the gradient, both are centralized, as in the paper's section 3.3.

    Args:
        optimizer: about to take a step.
        decays_in_gradient: whether it adds weight_decay x weight to the gradient itself.
    """
    for group in optimizer.param_groups:
        decay = group["weight_decay"] if decays_in_gradient else 0.0
        for weight in group["params"]:
            if weight.grad is not None and weight.ndim > 1:
                total = weight.grad.add(weight, alpha=decay) if decay else weight.grad
                weight.grad.sub_(total.mean(dim=tuple(range(1, weight.ndim)), keepdim=True))
