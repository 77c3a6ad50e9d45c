"""Pre-activation ResNets against timm's."""

import math

import pytest
import torch
from torch import nn

from public.backbones import resnet_v2
from public.layers.preactivation import PreactivationBottleneck
from tests.backbones.reference import largest_difference, parts

timm = pytest.importorskip("timm")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50])
def test_logits_are_timms(depth: int) -> None:
    """Same state dict, same logits: at an even and an odd size, in evaluation and in training mode."""
    ours, reference = getattr(resnet_v2, f"resnet{depth}_v2")(), timm.create_model(f"resnetv2_{depth}")
    assert list(ours.state_dict()) == list(reference.state_dict())
    assert largest_difference(ours, reference, [(64, 64), (49, 75)]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_parts_are_timms(depth: int) -> None:
    """Each layer with its settings: the deeper networks differ from those above in nothing else."""
    with torch.device("meta"):
        ours, reference = getattr(resnet_v2, f"resnet{depth}_v2")(), timm.create_model(f"resnetv2_{depth}")
    assert parts(ours) == parts(reference)


@pytest.mark.slow
def test_initialization_is_timms() -> None:
    """Each tensor: the same constant, or the same spread to within 6 standard errors, as in test_resnet.py."""
    ours, reference = resnet_v2.resnet50_v2().state_dict(), timm.create_model("resnetv2_50").state_dict()
    for key, expected in reference.items():
        if expected.numel() == 1 or expected.float().std() == 0:
            assert torch.equal(ours[key], expected), key
        else:
            tolerance = 6 * math.sqrt(2) / math.sqrt(2 * expected.numel())
            assert ours[key].std().item() == pytest.approx(expected.std().item(), rel=tolerance), key


@pytest.mark.slow
def test_levels_are_timms_features() -> None:
    """The stem's bare convolution, then sums without activation; only the deepest is normalized and activated."""
    torch.manual_seed(0)
    features = resnet_v2.resnet18_v2().to_features(["c1", "c3", "c5"]).eval()
    maps = features(torch.randn(1, 3, 64, 64))
    assert [bool((x < 0).any()) for x in maps.values()] == [True, True, False]


def test_nothing_follows_the_sum() -> None:
    """With a branch of zeros the block is the identity, for numbers below zero too."""
    block = PreactivationBottleneck(16, 4, 1, nn.BatchNorm2d, nn.ReLU)
    nn.init.zeros_(block.conv3.weight)
    x = torch.randn(2, 16, 5, 7)
    assert torch.equal(block(x), x)
