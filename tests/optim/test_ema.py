"""Averaged weights by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from public.optim.ema import AveragedWeights


class Tiny(nn.Module):
    """One weight, one averaged buffer, one counter."""

    count: torch.Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("mean", torch.tensor([10 * value]))
        self.register_buffer("count", torch.tensor(0))

    def set(self, value: float, count: int) -> None:
        """New values, as a training step would leave them."""
        with torch.no_grad():
            self.weight.fill_(value)
            self.get_buffer("mean").fill_(10 * value)
            self.count.fill_(count)


def test_the_average_by_hand() -> None:
    """Decay 0.9, start 5: the first update copies 1; then 0.9 x 1 + 0.1 x 2 = 1.1, then 0.9 x 1.1 + 0.1 x 3 = 1.29."""
    network = Tiny(5.0)
    ema = AveragedWeights(network, 0.9)
    averages = []
    for count, value in enumerate([1.0, 2.0, 3.0], start=1):
        network.set(value, count)
        ema.update(network)
        averages.append((ema.state_dict()["weight"].item(), ema.state_dict()["mean"].item()))
    assert averages == [pytest.approx(pair) for pair in [(1, 10), (1.1, 11), (1.29, 12.9)]]
    assert (network.weight.item(), ema.num_averaged) == (3.0, 3)


def test_the_copy_is_a_network_of_its_own() -> None:
    """The network's own keys, nothing to train, no shared memory."""
    network = Tiny(1.0)
    ema = AveragedWeights(network, 0.5)
    assert list(ema.state_dict()) == list(network.state_dict()) == ["weight", "mean", "count"]
    assert not any(p.requires_grad for p in ema.network.parameters())
    assert network.weight.requires_grad
    network.set(7.0, 1)
    assert ema.state_dict()["weight"].item() == 1.0


def test_a_saved_average_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Saved and loaded after 0, 1 or 3 updates, the next updates give the same tensors."""
    for num_updates in (0, 1, 3):
        torch.manual_seed(num_updates)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        ema = AveragedWeights(network, 0.99)
        for _ in range(num_updates):
            ema.update(network)
        torch.save((ema.state_dict(), ema.num_averaged), tmp_path / "ema.pt")
        again = AveragedWeights(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 0.99)
        again.load_state_dict(*torch.load(tmp_path / "ema.pt", weights_only=True))
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        ema.update(network)
        again.update(network)
        assert again.num_averaged == num_updates + 1
        assert all(
            torch.equal(a, b) for a, b in zip(ema.state_dict().values(), again.state_dict().values(), strict=True)
        )
