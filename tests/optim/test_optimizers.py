"""Optimizers by hand, and which parameters are decayed."""

from typing import Any

import pytest
import torch
from torch import nn

from public.backbones.catalog import build_backbone
from public.config.sections import OptimizerConfig
from public.optim.optimizers import build_optimizer, parameter_groups


def steps_of(config: OptimizerConfig, gradients: list[float]) -> list[float]:
    """The weight after each step, from 1."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    optimizer = build_optimizer(module, config)
    weights = []
    for gradient in gradients:
        module.weight.grad = torch.full_like(module.weight, gradient)
        optimizer.step()
        weights.append(module.weight.item())
    return weights


def test_sgd_with_momentum_and_decay() -> None:
    """lr 0.1, decay 0.1, momentum 0.9, gradient 0.5 twice from w = 1.

    step 1: d = 0.5 + 0.1 x 1 = 0.6,     v = 0.6,                        w = 1 - 0.06 = 0.94
    step 2: d = 0.5 + 0.1 x 0.94 = 0.594, v = 0.9 x 0.6 + 0.594 = 1.134, w = 0.94 - 0.1134 = 0.8266
    """
    config = OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.1)
    assert steps_of(config, [0.5, 0.5]) == pytest.approx([0.94, 0.8266])


def test_nesterov() -> None:
    """The same with d + 0.9 v as the step.

    step 1: d = 0.6,                       v = 0.6,                 step 1.14,    w = 1 - 0.114 = 0.886
    step 2: d = 0.5 + 0.0886 = 0.5886, v = 0.54 + 0.5886 = 1.1286, step 1.60434, w = 0.886 - 0.160434 = 0.725566
    """
    config = OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.1, nesterov=True)
    assert steps_of(config, [0.5, 0.5]) == pytest.approx([0.886, 0.725566])


def test_momentum_zero_is_kept() -> None:
    """0 is a value, not 'unset': two plain steps of 0.1 x 0.5."""
    config = OptimizerConfig(name="sgd", lr=0.1, weight_decay=0, momentum=0.0)
    assert steps_of(config, [0.5, 0.5]) == pytest.approx([0.95, 0.9])


def test_adamw_decays_apart_from_the_gradient() -> None:
    """lr 0.1, decay 0.1: w = 1 - 0.1 x 0.1 x 1 = 0.99, then minus lr x m / sqrt(v) = 0.1 x 0.5 / 0.5: 0.89."""
    assert steps_of(OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.1), [0.5]) == pytest.approx([0.89])


@pytest.mark.parametrize(("betas", "expected"), [(None, (0.9, 0.999)), ((0.8, 0.99), (0.8, 0.99))])
def test_betas(betas: tuple[float, float] | None, expected: tuple[float, float]) -> None:
    """torch's usual ones unless stated."""
    optimizer = build_optimizer(nn.Linear(1, 1), OptimizerConfig(name="adamw", lr=0.1, weight_decay=0, betas=betas))
    assert optimizer.defaults["betas"] == expected


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_on_the_cpu(name: Any) -> None:
    """torch has fused kernels for both on CPUs."""
    optimizer = build_optimizer(nn.Linear(1, 1), OptimizerConfig(name=name, lr=0.1, weight_decay=0))
    assert optimizer.defaults["fused"] is True


def test_all_parameters_are_decayed_by_default() -> None:
    """One group with everything."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    (group,) = parameter_groups(module, 0.01, decay_norm_and_bias=True)
    assert group["weight_decay"] == 0.01
    assert [p.shape for p in group["params"]] == [p.shape for p in module.parameters()]


def test_norm_and_bias_can_be_exempt() -> None:
    """ResNet-18: 20 convolutions + 1 linear weight are decayed; 20 x 2 batch norm + 1 bias are not."""
    network = build_backbone("resnet18", num_classes=10)
    decayed, exempt = parameter_groups(network, 0.01, decay_norm_and_bias=False)
    assert (len(decayed["params"]), decayed["weight_decay"]) == (21, 0.01)
    assert (len(exempt["params"]), exempt["weight_decay"]) == (41, 0.0)
    optimizer = build_optimizer(
        network, OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.01, decay_norm_and_bias=False)
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    """A frozen bias is not optimised, and no group is empty."""
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    (group,) = parameter_groups(module, 0.01, decay_norm_and_bias=False)
    assert group["params"] == [module.weight]
