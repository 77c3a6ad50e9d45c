"""ResNet against torchvision's."""

import math

import pytest
import torch
import torchvision
from torch import nn

from public.backbones import resnet
from public.backbones.residual_network import ResNetOptions
from public.layers.residual import BasicBlock, Bottleneck
from tests.backbones.reference import largest_difference, parts

IN_TORCHVISION = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_logits_are_torchvisions(name: str) -> None:
    """Same state dict, same logits: at an even and an odd size, in evaluation and in training mode."""
    ours, reference = getattr(resnet, name)(), torchvision.models.get_model(name)
    assert largest_difference(ours, reference, [(64, 64), (49, 75)]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_parts_are_torchvisions(name: str) -> None:
    """Each layer with its settings: the deeper networks differ from those above in nothing else."""
    with torch.device("meta"):
        ours, reference = getattr(resnet, name)(), torchvision.models.get_model(name)
    assert parts(ours) == parts(reference)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_logits_are_timms(name: str) -> None:
    timm = pytest.importorskip("timm")
    reference = timm.create_model(name)
    assert largest_difference(getattr(resnet, name)(), reference, [(64, 64), (49, 75)]) < 1e-5


@pytest.mark.slow
def test_initialization_is_torchvisions() -> None:
    """Each tensor: the same constant, or the same spread to within 6 standard errors.

    The standard deviation of n normal numbers has the relative standard error 1 / sqrt(2n).
    """
    ours, reference = resnet.resnet50().state_dict(), torchvision.models.resnet50().state_dict()
    assert list(ours) == list(reference)
    for key, expected in reference.items():
        if expected.numel() == 1 or expected.float().std() == 0:
            assert torch.equal(ours[key], expected), key
        else:
            tolerance = 6 * math.sqrt(2) / math.sqrt(2 * expected.numel())
            assert ours[key].std().item() == pytest.approx(expected.std().item(), rel=tolerance), key


@pytest.mark.slow
def test_zero_init_residual_starts_every_block_as_its_shortcut() -> None:
    """relu(0 * norm(x) + x) = x for x >= 0, in blocks without a projection."""
    network = resnet.resnet18(options=ResNetOptions(zero_init_residual=True))
    x = torch.rand(2, 64, 9, 7)
    assert torch.equal(network.layer1(x), x)
    zeroed = [block for block in network.modules() if isinstance(block, BasicBlock) and block.bn2.weight.any()]
    assert not zeroed


@pytest.mark.slow
def test_zero_init_residual_of_a_bottleneck_is_its_third_norm() -> None:
    network = resnet.resnet50(options=ResNetOptions(zero_init_residual=True))
    blocks = [module for module in network.modules() if isinstance(module, Bottleneck)]
    assert len(blocks) == 3 + 4 + 6 + 3
    assert not any(block.bn3.weight.any() for block in blocks)
    assert all(block.bn2.weight.all() for block in blocks)


@pytest.mark.slow
def test_half_width_halves_every_layer() -> None:
    """The keys of resnet34 with half the channels on both sides, except for images and classes."""
    half, full = resnet.resnet34_half().state_dict(), resnet.resnet34().state_dict()
    assert list(half) == list(full)
    assert half["conv1.weight"].shape == (32, 3, 7, 7)
    assert half["layer3.5.conv2.weight"].shape == (128, 128, 3, 3)
    assert half["fc.weight"].shape == (1000, 256)


def test_a_bottleneck_strides_in_its_3x3() -> None:
    block = Bottleneck(8, 4, stride=2)
    strides = [conv.stride for conv in block.modules() if isinstance(conv, nn.Conv2d)]
    assert strides == [(1, 1), (2, 2), (1, 1), (2, 2)]  # conv1, conv2, conv3, downsample.0
