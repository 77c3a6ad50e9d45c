"""Which modules count as activations, and what takes their place."""

from typing import Literal, get_args, get_type_hints

import pytest
import torch
from torch import nn

from public.backbones.catalog import build_backbone
from public.config.options import NetworkOptions
from public.layers.activations import ACTIVATIONS, replace_activations


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [0.0, 0.0, 1.0, 8.0]),
        ("relu6", [0.0, 0.0, 1.0, 6.0]),
        ("leaky_relu", [-0.08, -0.01, 1.0, 8.0]),
        ("prelu", [-2.0, -0.25, 1.0, 8.0]),
        ("elu", [-0.99966454, -0.63212056, 1.0, 8.0]),  # exp(x) - 1
        ("gelu", [0.0, -0.15865525, 0.84134475, 8.0]),  # x times the normal distribution's Phi(x)
        ("swish", [-0.00268280, -0.26894142, 0.73105858, 7.9973172]),  # x / (1 + exp(-x))
        ("hard_swish", [0.0, -1 / 3, 2 / 3, 8.0]),  # x min(max(x + 3, 0), 6) / 6
        ("mish", [-0.00268281, -0.30340146, 0.86509839, 7.9999982]),  # x tanh(ln(1 + exp(x)))
    ],
)
def test_each_by_hand(name: str, expected: list[float]) -> None:
    """At -8, -1, 1 and 8."""
    values = ACTIVATIONS[name]()(torch.tensor([-8.0, -1.0, 1.0, 8.0]))
    assert values.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_config_offers_them_all() -> None:
    """The names of NetworkOptions.activation are the table's."""
    literal, none = get_args(get_type_hints(NetworkOptions)["activation"])
    assert none is type(None)
    assert literal == Literal[tuple(ACTIVATIONS)]


@pytest.mark.slow
def test_all_of_a_network_are_replaced_and_gates_are_not() -> None:
    """ResNet-18 has one ReLU in the stem and one in each of 8 blocks; a sigmoid stays, a shared one is replaced too."""
    network = build_backbone("resnet18", num_classes=2)
    replace_activations(network, "swish")
    assert sum(isinstance(module, nn.SiLU) for module in network.modules()) == 9
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())
    shared = nn.ReLU6()
    module = nn.Sequential(nn.Sequential(shared, nn.Sigmoid()), nn.Hardsigmoid(), shared)
    replace_activations(module, "prelu")
    assert [type(child).__name__ for child in module.modules()][2:] == ["PReLU", "Sigmoid", "Hardsigmoid", "PReLU"]


def test_refusals() -> None:
    """An unknown name, and a network in which there is nothing to replace."""
    with pytest.raises(ValueError, match=r"no activation 'swosh'; there are: relu, relu6, .*, mish\."):
        replace_activations(nn.Sequential(nn.ReLU()), "swosh")
    with pytest.raises(ValueError, match=r"activation='relu': Linear has no activation"):
        replace_activations(nn.Linear(1, 1), "relu")
