"""DropBlock: masks by hand, and how often units drop."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from public.backbones.catalog import build_backbone
from public.evaluation.complexity import count
from public.layers.drop_block import DropBlock, add_drop_block, keep_mask, seed_rate


@pytest.mark.parametrize(
    ("rate", "block_size", "height", "width", "expected"),
    [
        (0.1, 7, 14, 14, 0.00625),  # 0.1 x 196 / (49 x 64)
        (0.1, 7, 7, 7, 0.1),  # one place, which drops the whole map
        (0.3, 1, 5, 9, 0.3),  # dropout
        (0.2, 2, 3, 5, 0.2 * 15 / (4 * 2 * 4)),
    ],
)
def test_seed_rate_by_hand(rate: float, block_size: int, height: int, width: int, expected: float) -> None:
    """Rate x units / (units of a square x places)."""
    assert seed_rate(rate, block_size, height, width) == pytest.approx(expected)


def test_masks_by_hand() -> None:
    """Squares of 3 in a 5x5 map, with corners at (1, 0), then at (0, 0) and (2, 2); squares of 2 in 2x3."""
    seeds = torch.zeros(1, 2, 3, 3)
    seeds[0, 0, 1, 0] = seeds[0, 1, 0, 0] = seeds[0, 1, 2, 2] = 1
    one = [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
    two = [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]
    assert keep_mask(seeds, 3)[0].int().tolist() == [one, two]
    assert keep_mask(torch.tensor([[[[0.0, 1.0]]]]), 2)[0, 0].int().tolist() == [[1, 0, 0], [1, 0, 0]]


def test_what_is_left_is_scaled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 25 units 9 drop: the others become 25 / 16. Evaluation and a rate of 0 change nothing."""
    draws = torch.full((1, 1, 3, 3), 0.5)
    draws[0, 0, 1, 1] = 0.0
    monkeypatch.setattr(torch, "rand", lambda *shape, device: draws)
    layer = DropBlock(3)
    x = torch.ones(1, 1, 5, 5)
    assert torch.equal(layer(x), x)
    layer.rate.fill_(0.1)
    assert layer(x)[0, 0].tolist()[1] == [25 / 16, 0.0, 0.0, 0.0, 25 / 16]
    assert layer(x).sum() == 25
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize(("block_size", "side"), [(1, 8), (3, 9), (7, 14), (7, 4)])
def test_how_much_drops(block_size: int, side: int) -> None:
    """A unit stays if no square begins at the places that would cover it: (1 - gamma) ** (number of such places).

    A square that is larger than the map is as large as the map. Channels and images have masks of their own.
    """
    torch.manual_seed(0)
    layer = DropBlock(block_size)
    layer.rate.fill_(0.2)
    dropped = layer(torch.ones(40, 50, side, side)) == 0
    size = min(block_size, side)
    covering = torch.tensor([min(i + 1, size, side - i, side - size + 1) for i in range(side)], dtype=torch.float64)
    stays = (1 - float(seed_rate(0.2, size, side, side))) ** (covering[:, None] * covering)
    assert dropped.double().mean().item() == pytest.approx(1 - stays.mean().item(), abs=0.02)
    assert len({tuple(row) for row in dropped.flatten(2).flatten(0, 1).int().tolist()}) > 1


@pytest.mark.slow
def test_behind_every_norm_of_a_level() -> None:
    """ResNet-18's last layer has 2 x 2 norms and one in the shortcut; keys, outputs in evaluation and size stay."""
    network = build_backbone("resnet18", num_classes=2)
    images = torch.rand(2, 3, 64, 64)
    expected, keys, size = network.eval()(images), list(network.state_dict()), count(network, 64)
    layers = add_drop_block(network.get_submodule("layer4"), 1)
    assert len(layers) == 5
    assert torch.equal(network(images), expected)
    assert list(network.state_dict()) == keys
    assert count(network, 64) == size


def maps_of(norm: nn.Module, seed: int) -> Tensor:
    """What comes out of a norm in training."""
    torch.manual_seed(seed)
    return norm.train()(torch.rand(4, 8, 6, 6, generator=torch.Generator().manual_seed(1)))


def test_a_copy_has_a_rate_of_its_own() -> None:
    """As the averaged weights and the replicas of nn.DataParallel need it: a hook finds the layer of its own norm."""
    norm = nn.BatchNorm2d(8)
    (layer,) = add_drop_block(norm, 2)
    again = copy.deepcopy(norm)
    layer.rate.fill_(0.5)
    assert (maps_of(norm, 0) == 0).any()
    assert not (maps_of(again, 0) == 0).any()


def test_a_relu_before_or_behind_makes_no_difference() -> None:
    """norm, DropBlock, ReLU as ours; norm, ReLU, DropBlock as the authors'."""
    norm = nn.BatchNorm2d(8)
    (layer,) = add_drop_block(norm, 2)
    layer.rate.fill_(0.3)
    ours = maps_of(norm, 5).relu()
    plain = maps_of(nn.BatchNorm2d(8), 5).relu()
    torch.manual_seed(5)
    torch.testing.assert_close(ours, layer(plain))


@pytest.mark.slow
def test_synchronized_norms_have_it_too() -> None:
    """Put there after torch's conversion, which would lose it; ResNet-18's last layer has five norms."""
    network = nn.SyncBatchNorm.convert_sync_batchnorm(build_backbone("resnet18", num_classes=2))
    assert isinstance(network, nn.Module)
    assert len(add_drop_block(network.get_submodule("layer4"), 1)) == 5


@pytest.mark.slow
def test_a_compiled_network_is_not_compiled_again_for_a_new_rate() -> None:
    """One graph for three rates, and the last one's units drop."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    (layer,) = add_drop_block(network, 2)
    counter = CompileCounter()
    compiled = torch.compile(network, backend=counter)
    for rate in (0.0, 0.1, 0.5):
        layer.rate.fill_(rate)
        dropped = (compiled(torch.rand(4, 3, 8, 8)) == 0).float().mean().item()
    assert counter.frame_count == 1
    assert dropped > 0.3
