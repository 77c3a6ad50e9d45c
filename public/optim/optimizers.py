"""Optimizers from their config, in torch's fused form where the device has one."""

from typing import Any

import torch
from torch import nn

from public.config.sections import OptimizerConfig

FUSED_DEVICES = ("cpu", "cuda")


def parameter_groups(module: nn.Module, weight_decay: float, decay_norm_and_bias: bool) -> list[dict[str, Any]]:
    """Splits the trainable parameters into decayed ones and, unless all are decayed, those of one dimension.

    Parameters of one dimension are exactly the scales and shifts of normalisation layers and all biases.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if decay_norm_and_bias:
        return [{"params": parameters, "weight_decay": weight_decay}]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of a module that already lies on its device."""
    groups = parameter_groups(module, config.weight_decay, config.decay_norm_and_bias)
    fused = next(module.parameters()).device.type in FUSED_DEVICES
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas or (0.9, 0.999), fused=fused)
    momentum = 0.9 if config.momentum is None else config.momentum
    return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=bool(config.nesterov), fused=fused)
