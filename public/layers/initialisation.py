"""How the weights of new networks are drawn."""

from torch import nn


def kaiming_fan_out_(network: nn.Module) -> None:
    """Draws every convolution's weights from N(0, 2 / fan_out) in place, and zeroes its bias.

    He et al. 2015, https://arxiv.org/abs/1502.01852: with ReLU after it, such a layer keeps the size of the
    gradients that flow back through it. fan_out is output channels x kernel area, of all groups together.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
