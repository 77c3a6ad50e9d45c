"""Parameters and multiply-adds by hand."""

import torch
from torch import nn

from public.evaluation.complexity import Complexity, count


def small() -> nn.Module:
    """A convolution 3 -> 4 of 3x3 and a linear layer on 8x8 maps."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 10, bias=False))


def test_by_hand() -> None:
    """3 x 9 x 4 + 4 = 112 and 256 x 10 = 2560 parameters; 64 places x 4 x 27 = 6912 and 2560 multiply-adds."""
    assert count(small(), 8) == Complexity(num_parameters=112 + 2560, macs=6912 + 2560)


def test_what_follows_is_added() -> None:
    assert count(small(), 8, macs_behind=100).macs == 6912 + 2560 + 100


def test_strides_and_groups() -> None:
    """Stride 2 on 8x8 leaves 16 places; 2 groups halve the inputs: 16 x 4 x (2 / 2 x 9) = 576; no bias."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 4, 3, 2, 1, groups=2, bias=False))
    assert count(network, 8) == Complexity(6 + 36, 64 * 2 * 3 + 576)


def test_the_network_is_left_as_it_was() -> None:
    """Mode, layout, state and hooks: thop works on a copy."""
    network = small().train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    keys = list(network.state_dict())
    count(network, 8)
    assert network.training
    assert list(network.state_dict()) == keys
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)  # pyright: ignore
    assert not any(module._forward_hooks for module in network.modules())


def test_frozen_parameters_count_too() -> None:
    """The size of a network does not depend on what is trained."""
    assert count(small().requires_grad_(False), 8).num_parameters == 2672


def test_as_text() -> None:
    """Millions of parameters, billions of multiply-adds, the unit of the tables."""
    assert str(Complexity(25_557_032, 4_089_184_256)) == "25.557 M parameters, 4.089 G MACs"
