"""MobileNetV2 against torchvision's and timm's."""

import pytest
import torch
import torchvision

from public.backbones.mobilenet_v2 import MobileNetV2Options, mobilenet_v2
from tests.backbones.reference import largest_difference, randomize_norms

WITHOUT_DROPOUT = MobileNetV2Options(dropout=0.0)


@pytest.mark.slow
def test_logits_are_torchvisions() -> None:
    reference = torchvision.models.mobilenet_v2()
    assert largest_difference(mobilenet_v2(), reference, [(64, 64), (49, 75)]) < 1e-5


@pytest.mark.slow
def test_logits_are_timms() -> None:
    """Without dropout: timm draws its mask at another place."""
    timm = pytest.importorskip("timm")
    reference = timm.create_model("mobilenetv2_100", drop_rate=0.0)
    assert largest_difference(mobilenet_v2(options=WITHOUT_DROPOUT), reference, [(64, 64), (49, 75)]) < 1e-5


@pytest.mark.slow
def test_initialization_is_torchvisions() -> None:
    """The same keys in the same order, the same constants, and spreads equal to 25 % from 300 numbers on."""
    ours, reference = mobilenet_v2().state_dict(), torchvision.models.mobilenet_v2().state_dict()
    assert list(ours) == list(reference)
    for key, expected in reference.items():
        if expected.numel() == 1 or expected.float().std() == 0:
            assert torch.equal(ours[key], expected), key
        elif expected.numel() >= 300:
            assert ours[key].std().item() == pytest.approx(expected.std().item(), rel=0.25), key


@pytest.mark.slow
def test_dropout_is_an_option() -> None:
    network = mobilenet_v2(10, WITHOUT_DROPOUT).train()
    randomize_norms(network)
    images = torch.randn(2, 3, 33, 33)
    assert torch.equal(network(images), network(images))
