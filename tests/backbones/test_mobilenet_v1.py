"""MobileNet (v1) against timm's and the paper's numbers."""

from itertools import pairwise

import pytest
import timm
import torch

from public.backbones.mobilenet_v1 import MobileNetV1Options, mobilenet_v1
from tests.backbones.reference import largest_difference


@pytest.mark.slow
def test_logits_are_timms() -> None:
    assert largest_difference(mobilenet_v1(), timm.create_model("mobilenetv1_100"), [(64, 64), (49, 75)]) < 1e-6


def test_parameters_by_hand() -> None:
    """Table 1: a depthwise 3x3 has 9C weights, a 1x1 has C * D, and each norm twice its channels; 4.2 M in all."""
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    pairs = list(pairwise(widths))
    assert len(pairs) == 13
    count = 3 * 9 * 32 + 2 * 32 + sum(9 * c + 2 * c + c * d + 2 * d for c, d in pairs) + 1024 * 1000 + 1000
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in mobilenet_v1().parameters()) == count == 4_231_976


def test_dropout_is_an_option() -> None:
    network = mobilenet_v1(10, MobileNetV1Options(dropout=0.5)).train()
    images = torch.randn(2, 3, 33, 33)
    assert not torch.equal(network(images), network(images))
