"""ResNeSt against timm's."""

import pytest
import torch
from torch import nn

from public.backbones.resnest import SplitAttention, resnest50
from tests.backbones.reference import largest_difference

timm = pytest.importorskip("timm")


@pytest.mark.slow
def test_logits_are_timms() -> None:
    """Same state dict, same logits: at an even and an odd size, in evaluation and in training mode."""
    ours, reference = resnest50(), timm.create_model("resnest50d")
    assert list(ours.state_dict()) == list(reference.state_dict())
    assert largest_difference(ours, reference, [(64, 64), (49, 75)]) < 1e-5


def test_split_attention_weighs_two_versions() -> None:
    """With attention logits of (0, log 3) the versions count a quarter and three quarters."""
    layer = SplitAttention(4).eval()
    nn.init.zeros_(layer.fc2.weight)
    assert layer.fc2.bias is not None
    layer.fc2.bias.data = torch.tensor([0.0, torch.tensor(3.0).log()]).repeat_interleave(4)
    x = torch.randn(2, 4, 5, 7)
    first, second = torch.relu(layer.bn0(layer.conv(x))).chunk(2, dim=1)
    torch.testing.assert_close(layer(x), 0.25 * first + 0.75 * second)
