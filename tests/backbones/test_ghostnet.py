"""GhostNet against timm's."""

import pytest
import timm
import torch
from torch import nn

from public.backbones import ghostnet
from public.backbones.ghostnet import GhostModule
from tests.backbones.reference import largest_difference


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ghostnet_100", "ghostnet_130"])
def test_logits_are_timms(name: str) -> None:
    """With its dropout of 0.2."""
    ours, reference = getattr(ghostnet, name)(), timm.create_model(name)
    assert largest_difference(ours, reference, [(64, 64), (49, 75)]) < 1e-6


def test_the_second_half_of_a_ghost_module_is_made_of_the_first() -> None:
    """A depthwise 3x3 that only passes its middle on gives the first half once more."""
    module = GhostModule(4, 6, nn.Identity).eval()
    with torch.no_grad():
        weight = module.cheap_operation.get_parameter("0.weight")
        weight.zero_()[:, :, 1, 1] = 1
        out = module(torch.randn(1, 4, 5, 5))
    torch.testing.assert_close(out[:, 3:], out[:, :3], rtol=1e-4, atol=1e-6)  # the norm's epsilon in between
    assert out.shape == (1, 6, 5, 5)
