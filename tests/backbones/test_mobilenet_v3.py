"""MobileNetV3 against torchvision's and timm's."""

import math

import pytest
import timm
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from public.backbones import mobilenet_v3
from public.backbones.mobilenet_v3 import MobileNetV3Options
from tests.backbones.reference import largest_difference

NAMES = ["mobilenet_v3_large", "mobilenet_v3_small"]
SIZES = [(64, 64), (49, 75)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_torchvisions(name: str) -> None:
    ours, reference = getattr(mobilenet_v3, name)(), torchvision.models.get_model(name)
    assert largest_difference(ours, reference, SIZES) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_timms(name: str) -> None:
    """Without dropout, whose mask timm draws elsewhere, with timm's epsilon; its first classifier is a convolution."""
    ours = getattr(mobilenet_v3, name)(options=MobileNetV3Options(dropout=0.0, norm_eps=1e-5))
    reference = timm.create_model(name.replace("mobilenet_v3", "mobilenetv3") + "_100")
    assert largest_difference(ours, reference, SIZES) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_initialization_is_torchvisions(name: str) -> None:
    """Each tensor: the same constant, or the same spread to within 6 standard errors of both, 1 / sqrt(2n) each."""
    ours, reference = getattr(mobilenet_v3, name)().state_dict(), torchvision.models.get_model(name).state_dict()
    assert list(ours) == list(reference)
    for key, expected in reference.items():
        assert ours[key].float().std(correction=0).item() == pytest.approx(
            expected.float().std(correction=0).item(), rel=6 / math.sqrt(expected.numel())
        ), key


@pytest.mark.slow
def test_norms_are_torchvisions() -> None:
    for network in (mobilenet_v3.mobilenet_v3_small(), torchvision.models.mobilenet_v3_small()):
        norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_drop_path_grows_linearly() -> None:
    """11 blocks at a rate of 0.22: 0.02, 0.04, ..., 0.22."""
    network = mobilenet_v3.mobilenet_v3_small(options=MobileNetV3Options(drop_path=0.22))
    rates = [layer.p for layer in network.modules() if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.02 * block for block in range(1, 12)])
