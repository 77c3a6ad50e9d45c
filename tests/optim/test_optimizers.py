"""Optimizers by hand, and which parameters are decayed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from public.backbones.catalog import build_backbone
from public.config.run import OptimizerOptions
from public.optim.optimizers import build_optimizer, parameter_groups
from public.optim.options import AdamWOptions, LAMBOptions, SGDOptions


def steps_of(config: OptimizerOptions, gradients: list[float]) -> list[float]:
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
    config = SGDOptions(lr=0.1, weight_decay=0.1)
    assert steps_of(config, [0.5, 0.5]) == pytest.approx([0.94, 0.8266])


def test_nesterov() -> None:
    """The same with d + 0.9 v as the step.

    step 1: d = 0.6,                       v = 0.6,                 step 1.14,    w = 1 - 0.114 = 0.886
    step 2: d = 0.5 + 0.0886 = 0.5886, v = 0.54 + 0.5886 = 1.1286, step 1.60434, w = 0.886 - 0.160434 = 0.725566
    """
    config = SGDOptions(lr=0.1, weight_decay=0.1, nesterov=True)
    assert steps_of(config, [0.5, 0.5]) == pytest.approx([0.886, 0.725566])


def test_momentum_zero_is_kept() -> None:
    """0 is a value, not 'unset': two plain steps of 0.1 x 0.5."""
    config = SGDOptions(lr=0.1, weight_decay=0, momentum=0.0)
    assert steps_of(config, [0.5, 0.5]) == pytest.approx([0.95, 0.9])


def trained(optimizer: torch.optim.Optimizer, module: nn.Linear, num_steps: int) -> list[Tensor]:
    """The parameters after some steps with gradients of their own, one of them a zero in the second step."""
    generator = torch.Generator().manual_seed(0)
    for step in range(num_steps):
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        if step == 1:
            module.bias.grad = torch.zeros_like(module.bias)
        optimizer.step()
    return [parameter.detach() for parameter in module.parameters()]


def linear() -> nn.Linear:
    """Always the same one."""
    torch.manual_seed(0)
    return nn.Linear(33, 17)


@pytest.mark.parametrize("num_steps", [1, 2, 5])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-4])
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_momentum_of_zero_is_none_bit_for_bit(nesterov: bool, weight_decay: float, num_steps: int) -> None:
    """torch's own start without one goes to the same weights."""
    config = SGDOptions(lr=0.1, weight_decay=weight_decay, nesterov=nesterov)
    module = linear()
    ours = trained(build_optimizer(module, config), module, num_steps)
    module = linear()
    without = torch.optim.SGD(
        module.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )
    expected = trained(without, module, num_steps)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("extras", [{}, {"gradient_centralization": True}])
def test_a_first_step_that_overflows_leaves_no_trace(extras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss scale skips it: momentum and weights stay, and the next steps are those of a run without it."""
    monkeypatch.setattr(torch, "empty_like", lambda tensor: torch.full_like(tensor, 1e6))  # memory as it is found
    config = SGDOptions(lr=0.1, weight_decay=1e-4, **extras)
    module, scaler = linear(), torch.amp.GradScaler("cpu", enabled=True)
    optimizer = build_optimizer(module, config)
    scaler.scale(torch.zeros(()))  # makes the scale
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**15, "halved: the step was skipped"
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), linear().parameters(), strict=True))
    assert all(not optimizer.state[p]["momentum_buffer"].any() for p in module.parameters())
    undisturbed = linear()
    expected = trained(build_optimizer(undisturbed, config), undisturbed, 3)
    assert all(torch.equal(a, b) for a, b in zip(trained(optimizer, module, 3), expected, strict=True))


def test_a_parameter_whose_first_gradient_comes_later() -> None:
    """lr 0.1, momentum 0.9, gradients of 1: bias 1 - 0.1; weight 1 - 0.1 - 0.19. torch alone mixes none and some."""
    module = nn.Linear(1, 1)
    nn.init.ones_(module.weight)
    nn.init.ones_(module.bias)
    optimizer = build_optimizer(module, SGDOptions(lr=0.1, weight_decay=0))
    module.weight.grad = torch.ones_like(module.weight)
    optimizer.step()
    module.bias.grad = torch.ones_like(module.bias)
    optimizer.step()
    assert (module.weight.item(), module.bias.item()) == pytest.approx((0.71, 0.9))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_which_parameters_have_a_momentum(momentum: float) -> None:
    """All that are trained, in the layout of the weights; without momentum there is nothing to keep."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), nn.Linear(4, 2))  # pyright: ignore
    module[1].requires_grad_(False)
    optimizer = build_optimizer(module, SGDOptions(lr=0.1, weight_decay=0, momentum=momentum))
    expected = list(module[0].parameters()) if momentum else []
    assert list(optimizer.state) == expected
    assert all(optimizer.state[p]["momentum_buffer"].stride() == p.stride() for p in expected)


@pytest.mark.parametrize("num_before", [0, 1, 2, 3])
@pytest.mark.parametrize("extras", [{}, {"gradient_centralization": True}, {"lookahead_steps": 2}])
def test_a_resumed_momentum(extras: Any, num_before: int) -> None:
    """Saved after some steps and taken up by another optimizer, it goes on bit for bit."""
    config = SGDOptions(lr=0.1, weight_decay=1e-4, **extras)
    module, again = linear(), linear()
    optimizer, resumed = build_optimizer(module, config), build_optimizer(again, config)
    trained(optimizer, module, num_before)
    again.load_state_dict(module.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for a, b in zip(trained(optimizer, module, 3), trained(resumed, again, 3), strict=True):
        assert torch.equal(a, b)


def test_adamw_decays_apart_from_the_gradient() -> None:
    """lr 0.1, decay 0.1: w = 1 - 0.1 x 0.1 x 1 = 0.99, then minus lr x m / sqrt(v) = 0.1 x 0.5 / 0.5: 0.89."""
    assert steps_of(AdamWOptions(lr=0.1, weight_decay=0.1), [0.5]) == pytest.approx([0.89])


def test_a_step_of_lamb_is_as_long_as_the_weight() -> None:
    """w = 1, gradient 0.5: Adam's direction 0.5 / 0.5 = 1, with decay 1 + 0.1 x 1 = 1.1; scaled by |w| / 1.1 it is 1.

    lr 0.1: w = 1 - 0.1 x 1 = 0.9. The next direction is 1 + 0.1 x 0.9, scaled to 0.9: w = 0.9 - 0.1 x 0.9 = 0.81.
    Without decay the steps are Adam's: 1 - 0.1 - 0.1.
    """
    assert steps_of(LAMBOptions(lr=0.1, weight_decay=0.1), [0.5, 0.5]) == pytest.approx([0.9, 0.81], rel=1e-5)
    assert steps_of(LAMBOptions(lr=0.1, weight_decay=0), [0.5, 0.5]) == pytest.approx([0.9, 0.8], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("decay_norm_and_bias", [False, True])
def test_lamb_steps_as_timms(decay_norm_and_bias: bool) -> None:
    """Of weights, of biases that are decayed or not, and of a weight of zeros, which has no length to follow."""
    options = LAMBOptions(lr=0.05, weight_decay=0.1, decay_norm_and_bias=decay_norm_and_bias, betas=(0.8, 0.99))
    ours, theirs = linear(), linear()
    for module in (ours, theirs):
        nn.init.zeros_(module.bias)
    groups = parameter_groups(theirs, options.weight_decay, decay_norm_and_bias)
    reference = pytest.importorskip("timm.optim").Lamb(groups, lr=0.05, betas=(0.8, 0.99), max_grad_norm=None)
    expected = trained(reference, theirs, 5)
    for a, b in zip(trained(build_optimizer(ours, options), ours, 5), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [int, float, torch.tensor])
def test_a_resumed_lamb(kind: Any) -> None:
    """As a resumed momentum: its number of steps is a plain one, also where a checkpoint of before has a tensor."""
    options = LAMBOptions(lr=0.1, weight_decay=0.1)
    module, again = linear(), linear()
    optimizer, resumed = build_optimizer(module, options), build_optimizer(again, options)
    trained(optimizer, module, 3)
    again.load_state_dict(module.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    for one in state["state"].values():
        one["step"] = kind(float(one["step"]))
    resumed.load_state_dict(state)
    steps = [resumed.state[parameter]["step"] for parameter in again.parameters()]
    assert [(type(step), step) for step in steps] == [(int, 3)] * 2
    for a, b in zip(trained(optimizer, module, 3), trained(resumed, again, 3), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("given", "expected"), [({}, (0.9, 0.999)), ({"betas": (0.8, 0.99)}, (0.8, 0.99))])
def test_betas(given: Any, expected: tuple[float, float]) -> None:
    """torch's usual ones unless stated."""
    optimizer = build_optimizer(nn.Linear(1, 1), AdamWOptions(lr=0.1, weight_decay=0, **given))
    assert optimizer.defaults["betas"] == expected


@pytest.mark.parametrize("options", [SGDOptions, AdamWOptions])
def test_fused_on_the_cpu(options: Any) -> None:
    """torch has fused kernels for both on CPUs."""
    optimizer = build_optimizer(nn.Linear(1, 1), options(lr=0.1, weight_decay=0))
    assert optimizer.defaults["fused"] is True


def test_all_parameters_are_decayed_by_default() -> None:
    """One group with everything."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    (group,) = parameter_groups(module, 0.01, decay_norm_and_bias=True)
    assert group["weight_decay"] == 0.01
    assert [p.shape for p in group["params"]] == [p.shape for p in module.parameters()]


@pytest.mark.slow
def test_norm_and_bias_can_be_exempt() -> None:
    """ResNet-18: 20 convolutions + 1 linear weight are decayed; 20 x 2 batch norm + 1 bias are not."""
    network = build_backbone("resnet18", num_classes=10)
    decayed, exempt = parameter_groups(network, 0.01, decay_norm_and_bias=False)
    assert (len(decayed["params"]), decayed["weight_decay"]) == (21, 0.01)
    assert (len(exempt["params"]), exempt["weight_decay"]) == (41, 0.0)
    optimizer = build_optimizer(network, SGDOptions(lr=0.1, weight_decay=0.01, decay_norm_and_bias=False))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]


def test_frozen_parameters_and_empty_groups_are_skipped() -> None:
    """A frozen bias is not optimized, and no group is empty."""
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    (group,) = parameter_groups(module, 0.01, decay_norm_and_bias=False)
    assert group["params"] == [module.weight]


def centralized_step(config: OptimizerOptions, weight: list[list[float]], gradient: list[list[float]]) -> Tensor:
    """The weights [2, 2] after one step."""
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weight))
        module.bias.fill_(1.0)
    module.weight.grad, module.bias.grad = torch.tensor(gradient), torch.tensor([1.0, 3.0])
    build_optimizer(module, config).step()
    if isinstance(config, SGDOptions):
        assert module.bias.tolist() == [0.0, -2.0], "of one dimension: its gradient stays"
    return module.weight.detach()


def test_gradient_centralization_by_hand() -> None:
    """lr 1: rows (1, 3) and (2, 6) lose their means 2 and 4; the weights (1, 3), (0, 2) become (2, 2), (2, 0)."""
    config = SGDOptions(lr=1.0, weight_decay=0, momentum=0.0, gradient_centralization=True)
    stepped = centralized_step(config, [[1.0, 3.0], [0.0, 2.0]], [[1.0, 3.0], [2.0, 6.0]])
    assert stepped.tolist() == [[2.0, 2.0], [2.0, 0.0]]


def test_weight_decay_is_centralized_with_the_gradient() -> None:
    """Decay 0.5 in sgd: (1.5, 4.5) and (2, 7) lose 3 and 4.5: steps (-1.5, 1.5) and (-2.5, 2.5)."""
    config = SGDOptions(lr=1.0, weight_decay=0.5, decay_norm_and_bias=False, momentum=0.0, gradient_centralization=True)
    stepped = centralized_step(config, [[1.0, 3.0], [0.0, 2.0]], [[1.0, 3.0], [2.0, 6.0]])
    assert stepped.tolist() == [[2.5, 1.5], [2.5, -0.5]]


def test_decoupled_decay_is_not_centralized() -> None:
    """adamw: weights times 1 - 0.1 x 0.5, then minus lr times the sign of the centralized gradient, (-1, 1) a row."""
    config = AdamWOptions(lr=0.1, weight_decay=0.5, gradient_centralization=True)
    stepped = centralized_step(config, [[1.0, 3.0], [0.0, 2.0]], [[1.0, 3.0], [2.0, 6.0]])
    torch.testing.assert_close(stepped, torch.tensor([[0.95 + 0.1, 2.85 - 0.1], [0.1, 1.9 - 0.1]]))


def test_the_mean_is_over_all_but_the_output_channels() -> None:
    """A convolution [2, 1, 1, 2] and a depthwise one: each filter's own mean; a parameter without gradient is left."""
    convolution, unused = nn.Conv2d(1, 2, (1, 2), bias=False), nn.Linear(2, 2)
    nn.init.zeros_(convolution.weight)
    convolution.weight.grad = torch.tensor([1.0, 3.0, 10.0, 30.0]).view(2, 1, 1, 2)
    config = SGDOptions(lr=1.0, weight_decay=0, momentum=0.0, gradient_centralization=True)
    build_optimizer(nn.Sequential(convolution, unused), config).step()
    assert convolution.weight.flatten().tolist() == [1.0, -1.0, 10.0, -10.0]
