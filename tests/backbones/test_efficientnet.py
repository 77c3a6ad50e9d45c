"""EfficientNet against torchvision's and timm's."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from public.backbones import efficientnet
from public.backbones.efficientnet import EfficientNetOptions
from public.weights.loading import load_weights
from tests.backbones.reference import largest_difference, parts

NAMES = [f"efficientnet_b{number}" for number in range(8)]
SIZES = [(64, 64), (49, 75)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b1", "efficientnet_b2"])
def test_logits_are_torchvisions(name: str) -> None:
    """Stochastic depth and dropout included: the same draws from the same generator."""
    ours, reference = getattr(efficientnet, name)(), torchvision.models.get_model(name)
    assert largest_difference(ours, reference, SIZES) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b3"])
def test_logits_are_timms(name: str) -> None:
    ours = getattr(efficientnet, name)(options=EfficientNetOptions(dropout=0.0, drop_path=0.0))
    assert largest_difference(ours, timm.create_model(name), SIZES) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_structure_is_torchvisions(name: str) -> None:
    """Keys and shapes, settings of each layer and of each norm, rates of dropout and of stochastic depth."""
    with torch.device("meta"):
        ours, reference = getattr(efficientnet, name)(), torchvision.models.get_model(name)
    assert [(key, value.shape) for key, value in ours.state_dict().items()] == [
        (key, value.shape) for key, value in reference.state_dict().items()
    ]
    assert parts(ours) == parts(reference)
    assert _norms(ours) == _norms(reference)
    assert _rates(ours) == pytest.approx(_rates(reference))
    assert len(_rates(ours)) > 16


def _norms(network: nn.Module) -> list[tuple[float, float | None]]:
    return [(layer.eps, layer.momentum) for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def _rates(network: nn.Module) -> list[float]:
    return [layer.p for layer in network.modules() if isinstance(layer, StochasticDepth | nn.Dropout)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_timms_files_fit(name: str) -> None:
    with torch.device("meta"):
        ours, reference = getattr(efficientnet, name)(), timm.create_model(name)
    assert not load_weights(ours, reference.state_dict()).missing


@pytest.mark.slow
def test_options_reach_the_network() -> None:
    network = efficientnet.efficientnet_b5(options=EfficientNetOptions(drop_path=0.0, dropout=0.1, norm_eps=1e-5))
    assert set(_norms(network)) == {(1e-5, 0.01)}
    assert _rates(network) == [0.0] * (len(_rates(network)) - 1) + [0.1]


@pytest.mark.slow
def test_the_classifier_starts_as_torchvisions() -> None:
    """Uniform within 1 / sqrt(classes) = 0.1 for 100."""
    weight = efficientnet.efficientnet_b0(100).state_dict()["classifier.1.weight"]
    assert weight.abs().max().item() == pytest.approx(0.1, rel=1e-3)
