"""Channel attention: what a map holds as a whole decides how much of each of its channels goes on.

Shapes: B images, C channels.
"""

from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: mean of each channel, down, up, a factor from 0 to 1 for each channel.

    Hu et al. 2017, https://arxiv.org/abs/1709.01507, figure 2. Key names are torchvision's: `fc1`, `fc2`.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        """Takes the channels of the map and those between the two layers.

        What share `squeezed` is of which number, and after which layer this stands, each family has otherwise.
        """
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        factors = x.mean((2, 3), keepdim=True)  # [B, C, 1, 1]
        return x * self.gate(self.fc2(self.activation(self.fc1(factors))))


class EffectiveSqueezeExcite(nn.Module):
    """Squeeze-and-excitation with one layer, which loses no channel: eSE.

    Lee & Park 2019, https://arxiv.org/abs/1911.06667, "VoVNetV2". The key name is timm's: `fc`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x * self.gate(self.fc(x.mean((2, 3), keepdim=True)))
