"""The CIFAR ResNets against torchvision's with the stem exchanged."""

import pytest
import torch
import torchvision
from torch import nn

from public.backbones import cifar_resnet
from tests.backbones.reference import largest_difference, parts


def _torchvision_with_cifar_stem(name: str) -> nn.Module:
    network = torchvision.models.get_model(name, num_classes=100)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_logits_are_torchvisions_with_a_3x3_stem(name: str) -> None:
    ours = getattr(cifar_resnet, f"{name}cifar")(num_classes=100)
    assert largest_difference(ours, _torchvision_with_cifar_stem(name), [(16, 16), (11, 17)]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_parts_are_torchvisions_with_a_3x3_stem(name: str) -> None:
    """Each layer with its settings: the deeper networks differ from those above in nothing else."""
    with torch.device("meta"):
        ours, reference = getattr(cifar_resnet, f"{name}cifar")(num_classes=100), _torchvision_with_cifar_stem(name)
    assert parts(ours) == parts(reference)


def test_weights_start_from_torchs_defaults() -> None:
    """torch draws a convolution from U(-b, b) with b = 1 / sqrt(fan_in): here fan_in = 64 * 9, b = 1 / 24."""
    weight = cifar_resnet.resnet18cifar().state_dict()["layer1.0.conv1.weight"]
    assert weight.abs().max().item() == pytest.approx(1 / 24, rel=1e-3)


def test_the_stem_keeps_the_resolution() -> None:
    features = cifar_resnet.resnet18cifar().to_features(["c0"])
    assert features(torch.zeros(1, 3, 32, 32))["c0"].shape == (1, 64, 32, 32)
