"""Lookahead by hand, around both optimizers, saved and taken up."""

from typing import Any

import pytest
import torch
from torch import nn

from public.config.run import OptimizerOptions
from public.optim.optimizers import build_optimizer
from public.optim.options import OPTIMIZERS, AdamWOptions, SGDOptions


def weights_of(config: OptimizerOptions, num_steps: int) -> list[float]:
    """The weight after each step with a gradient of 1, from 1."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    optimizer = build_optimizer(module, config)
    weights = []
    for _ in range(num_steps):
        module.weight.grad = torch.ones_like(module.weight)
        optimizer.step()
        weights.append(module.weight.item())
    return weights


def test_by_hand() -> None:
    """lr 0.1, k 2, alpha 1/2: fast 0.9, 0.8, slow half of the way from 1 to 0.8 = 0.9; then 0.8, 0.7 and 0.8."""
    config = SGDOptions(lr=0.1, weight_decay=0, momentum=0.0, lookahead_steps=2)
    assert weights_of(config, 4) == pytest.approx([0.9, 0.9, 0.8, 0.8])


def test_alpha_and_momentum_by_hand() -> None:
    """alpha 1/4, k 3, momentum 0.9, which is kept: v = 1, 1.9, 2.71, 3.439.

    fast 0.9, 0.71, 0.439; slow 1 + (0.439 - 1) / 4 = 0.85975; next step 0.85975 - 0.3439 = 0.51585.
    """
    config = SGDOptions(lr=0.1, weight_decay=0, lookahead_steps=3, lookahead_alpha=0.25)
    assert weights_of(config, 4) == pytest.approx([0.9, 0.71, 0.85975, 0.51585])


def run(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Steps on a function of their number."""
    for step in steps:
        loss = (module(torch.full((1, 3), float(step))) - step).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("num_before", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_saved_state_goes_on_bit_for_bit(options: Any, num_before: int) -> None:
    """Stopped between two returns or at one, into a module and an optimizer that started from other weights."""
    config = options(lr=0.01, weight_decay=0.1, decay_norm_and_bias=False, lookahead_steps=3)
    results = []
    for stops in (False, True):
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        optimizer = build_optimizer(module, config)
        run(module, optimizer, range(num_before))
        if stops and num_before:
            saved = module.state_dict(), optimizer.state_dict()
            module = nn.Linear(3, 2)
            optimizer = build_optimizer(module, config)
            module.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
        run(module, optimizer, range(num_before, 9))
        results.append(torch.cat([module.weight.flatten(), module.bias]))
    assert torch.equal(*results)


def test_around_adamw_the_inner_steps_are_adamws() -> None:
    """The first k - 1 steps are those without Lookahead; the k-th is half-way between it and the start."""
    plain = AdamWOptions(lr=0.1, weight_decay=0.1)
    ahead = AdamWOptions(lr=0.1, weight_decay=0.1, lookahead_steps=3)
    expected, got = weights_of(plain, 3), weights_of(ahead, 3)
    assert got[:2] == expected[:2]
    assert got[2] == pytest.approx((1 + expected[2]) / 2)


def test_a_parameter_whose_gradient_comes_late() -> None:
    """Its slow weight starts where it started; without a gradient it is left alone."""
    module = nn.Linear(1, 1)
    nn.init.ones_(module.weight)
    nn.init.ones_(module.bias)
    config = SGDOptions(lr=0.1, weight_decay=0, momentum=0.0, lookahead_steps=2)
    optimizer = build_optimizer(module, config)
    for step in range(4):
        module.weight.grad = torch.ones_like(module.weight)
        module.bias.grad = torch.ones_like(module.bias) if step >= 2 else None
        optimizer.step()
    assert (module.weight.item(), module.bias.item()) == (pytest.approx(0.8), pytest.approx(0.9))
