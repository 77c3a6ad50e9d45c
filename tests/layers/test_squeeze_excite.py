"""Channel attention against torchvision's, and by hand."""

import torch
import torchvision
from torch import nn

from public.layers.squeeze_excite import EffectiveSqueezeExcite, SqueezeExcite


def test_squeeze_excite_is_torchvisions() -> None:
    reference = torchvision.ops.SqueezeExcitation(8, 3, activation=nn.SiLU, scale_activation=nn.Hardsigmoid)
    ours = SqueezeExcite(8, 3, activation=nn.SiLU, gate=nn.Hardsigmoid)
    ours.load_state_dict(reference.state_dict())
    maps = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(ours(maps), reference(maps))


def test_effective_squeeze_excite_by_hand() -> None:
    """Means 2 and -1 times weights 1 and 2, bias 1: 2 * 1 - 1 * 2 + 1 = 1 -> factor (1 + 3) / 6."""
    layer = EffectiveSqueezeExcite(2)
    nn.init.constant_(layer.fc.weight[:, 0].detach(), 1)
    nn.init.constant_(layer.fc.weight[:, 1].detach(), 2)
    nn.init.ones_(layer.fc.bias.detach())  # pyright: ignore[reportOptionalMemberAccess]
    maps = torch.tensor([[[[1.0, 3.0]], [[-3.0, 1.0]]]])  # [1, 2, 1, 2]
    torch.testing.assert_close(layer(maps), maps * 4 / 6)
