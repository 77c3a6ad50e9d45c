"""Batch norms that no longer move, against torchvision's and against those they were."""

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d as Reference

from public.layers.frozen_batch_norm import FrozenBatchNorm2d, freeze_batch_norm, set_batch_norm_eps


def random_norm(channels: int = 5) -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        assert tensor is not None
        nn.init.normal_(tensor)
    assert norm.running_var is not None
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm


def test_by_hand() -> None:
    """Mean 3, variance 4, weight 10, bias 1: 5 -> 10 * (5 - 3) / 2 + 1 = 11, whatever else is in the batch."""
    norm = FrozenBatchNorm2d(1)
    set_batch_norm_eps(norm, 0.0)
    values = {"weight": 10.0, "bias": 1.0, "running_mean": 3.0, "running_var": 4.0}
    norm.load_state_dict({k: torch.tensor([v]) for k, v in values.items()}, strict=False)
    assert norm.train()(torch.tensor([5.0, 3.0]).view(2, 1, 1, 1)).flatten().tolist() == [11, 1]


def test_equals_torchvisions_in_either_mode() -> None:
    norm = random_norm()
    reference = Reference(5)
    reference.load_state_dict(norm.state_dict())
    freeze_batch_norm(norm)
    x = torch.randn(3, 5, 4, 6, requires_grad=True)
    for training in (True, False):
        ours, theirs = norm.train(training)(x), reference.train(training)(x)
        torch.testing.assert_close(ours, theirs)
        (slope,) = torch.autograd.grad(ours.square().sum(), x)
        torch.testing.assert_close(slope, torch.autograd.grad(theirs.square().sum(), x)[0])


def test_nothing_moves_and_the_keys_stay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Sequential(random_norm(), nn.ReLU()))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.randn(2, 3, 4, 4)
    expected = network.eval()(images)
    freeze_batch_norm(network)
    freeze_batch_norm(network)  # once more changes nothing
    network.train()
    assert network.training
    assert not network.get_submodule("1.0").training
    assert torch.equal(network(images), expected)
    network(images).sum().backward()
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained == ["0.weight", "0.bias"]
    assert all(p.grad is None for p in network.get_submodule("1.0").parameters())


@pytest.mark.parametrize("kind", [nn.GroupNorm, nn.BatchNorm1d])
def test_other_norms_are_left_alone(kind: type[nn.Module]) -> None:
    norm = nn.GroupNorm(1, 4) if kind is nn.GroupNorm else nn.BatchNorm1d(4)
    freeze_batch_norm(norm)
    assert type(norm) is kind
    assert all(p.requires_grad for p in norm.parameters())


def test_the_module_itself_can_be_the_norm() -> None:
    norm = random_norm()
    freeze_batch_norm(norm)
    assert type(norm) is FrozenBatchNorm2d
    assert not norm.training


def test_epsilon_by_hand() -> None:
    """Variance 3 and epsilon 1 make the standard deviation 2: (5 - 3) / 2 = 1, frozen or not; no other norm changes."""
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Sequential(FrozenBatchNorm2d(1)), nn.GroupNorm(1, 1)).eval()
    for norm in (network[0], network.get_submodule("1.0")):
        norm.load_state_dict({"running_mean": torch.tensor([3.0]), "running_var": torch.tensor([3.0])}, strict=False)
    set_batch_norm_eps(network, 1.0)
    for norm in (network[0], network.get_submodule("1.0")):
        assert norm(torch.tensor([5.0]).view(1, 1, 1, 1)).item() == 1
    assert network.get_submodule("2").eps == 1e-5
