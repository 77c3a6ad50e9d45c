"""SwitchNorm: two images of two channels by hand, torch's three norms as references of its three ends."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from public.backbones.catalog import build_backbone
from public.layers.switch_norm import SwitchNorm2d, replace_batch_norms

# [2, 2, 1, 2]: means of each image's channels (1, 4) and (1, 4), variances (1, 0) and (0, 1).
IMAGES = torch.tensor([[[[0.0, 2.0]], [[4.0, 4.0]]], [[[1.0, 1.0]], [[3.0, 5.0]]]])


def test_equal_shares_by_hand() -> None:
    """Each third of instance, layer and batch norm.

    layer: mean (0 + 2 + 4 + 4) / 4 = 2.5, variance 36 / 4 - 6.25 = 2.75, and the same for the second image;
    batch: means 1 and 4, variances (1 + 1) / 4 = 0.5 and 0.5.
    mean: (1 + 2.5 + 1) / 3 = 1.5 and (4 + 2.5 + 4) / 3 = 3.5; variance of (0, 0): (1 + 2.75 + 0.5) / 3 = 4.25 / 3, of
    (0, 1): 3.25 / 3, then 3.25 / 3 and 4.25 / 3.
    """
    big, small = 1 / math.sqrt(4.25 / 3), 1 / math.sqrt(3.25 / 3)
    expected = [-1.5 * big, 0.5 * big, 0.5 * small, 0.5 * small, -0.5 * small, -0.5 * small, -0.5 * big, 1.5 * big]
    assert SwitchNorm2d(2, eps=0.0)(IMAGES).flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_weight_bias_and_the_order_of_the_shares() -> None:
    """Means of instance norm, variances of batch norm: (0 - 1) / sqrt(0.5) x 3 + 10 for the first pixel, ..."""
    norm = SwitchNorm2d(2, eps=0.0)
    with torch.no_grad():
        norm.mean_weight.copy_(torch.tensor([60.0, 0.0, 0.0]))
        norm.var_weight.copy_(torch.tensor([0.0, 0.0, 60.0]))
        norm.weight.fill_(3.0)
        norm.bias.copy_(torch.tensor([10.0, 20.0]))
    root = 3 * math.sqrt(2)
    expected = [10 - root, 10 + root, 20, 20, 10, 10, 20 - root, 20 + root]
    assert norm(IMAGES).flatten().tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("place", "build"), [(0, nn.InstanceNorm2d), (1, partial(nn.GroupNorm, 1)), (2, nn.BatchNorm2d)]
)
def test_each_end_is_one_of_torchs_norms(place: int, build: Callable[[int], nn.Module]) -> None:
    """A share of 1 for one of the three, two batches in training, then evaluation.

    Far from zero, where a difference of squares would fail.
    """
    norm, reference = SwitchNorm2d(4), build(4)
    with torch.no_grad():
        norm.mean_weight[place] = norm.var_weight[place] = 200.0
    batches = 300 + torch.randn(2, 3, 4, 50, 50, generator=torch.Generator().manual_seed(0))
    for images in batches:
        torch.testing.assert_close(norm(images), reference(images), rtol=1e-3, atol=2e-3)
    # Running variances: ours are those of the batch, torch's are 7500 / 7499 of that.
    torch.testing.assert_close(norm.eval()(batches[0]), reference.eval()(batches[0]), rtol=1e-3, atol=2e-3)


def test_running_statistics_by_hand() -> None:
    """A tenth of the new batch: means 0.1 and 0.4, variances 0.9 + 0.05; evaluation leaves them alone."""
    norm = SwitchNorm2d(2)
    norm(IMAGES)
    norm.eval()(IMAGES)
    assert norm.running_mean.tolist() == pytest.approx([0.1, 0.4])
    assert norm.running_var.tolist() == pytest.approx([0.95, 0.95])


def test_gradients_and_low_precision() -> None:
    """Gradients by finite differences, those of the shares too; bf16 in, bf16 out, computed in float32."""
    norm = SwitchNorm2d(2)
    images = torch.randn(3, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    low = norm(images.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), norm(images.bfloat16().float()), rtol=2**-7, atol=2**-7)

    def loss(shares: Tensor) -> Tensor:
        with torch.no_grad():
            norm.mean_weight.copy_(shares)
        return norm(images).pow(3).sum()

    start, small = torch.tensor([0.3, -0.2, 0.1]), 1e-2
    loss(start).backward()
    assert norm.mean_weight.grad is not None
    for place in range(3):
        move = torch.zeros(3)
        move[place] = small
        slope = (loss(start + move) - loss(start - move)) / (2 * small)
        assert norm.mean_weight.grad[place].item() == pytest.approx(slope.item(), rel=0.05, abs=0.02)


@pytest.mark.slow
def test_in_the_place_of_every_batch_norm() -> None:
    """ResNet-18 has 20; zero gamma, eps and momentum carry over, and the keys grow by two a norm."""
    network = build_backbone("resnet18", num_classes=2, zero_init_residual=True)
    before = set(network.state_dict())
    first = network.get_submodule("bn1")
    assert isinstance(first, nn.BatchNorm2d)
    first.eps, first.momentum = 1e-3, 0.3
    replace_batch_norms(network)
    norms = [module for module in network.modules() if isinstance(module, SwitchNorm2d)]
    assert len(norms) == 20
    assert sum(not norm.weight.any() for norm in norms) == 8
    assert (norms[0].eps, norms[0].momentum) == (1e-3, 0.3)
    kept = {key for key in before if not key.endswith("num_batches_tracked")}
    assert kept < set(network.state_dict())
    assert len(network.state_dict()) == len(kept) + 2 * 20
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 2)


def test_a_network_without_batch_norms_is_refused() -> None:
    """Nothing to replace."""
    with pytest.raises(ValueError, match=r"norm='switch': Linear has no batch norm"):
        replace_batch_norms(nn.Linear(1, 1))


def test_a_network_whose_other_batch_norms_would_stay_is_refused() -> None:
    """Those of rows of numbers, as timm's LeViT has most of: one network would have two kinds of norm."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"norm='switch': Sequential has BatchNorm1d too, which would stay as it is\."):
        replace_batch_norms(network)
    assert isinstance(network[0], nn.BatchNorm2d)
