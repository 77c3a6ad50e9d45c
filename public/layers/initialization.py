"""How the weights of new networks are drawn."""

import math

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


def small_normal_(head: nn.Module) -> None:
    """Draws every convolution's weights from N(0, 0.01^2) in place, and zeroes its bias: the heads of detectors.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4.1.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def set_prior_(logits: nn.Conv2d, probability: float) -> None:
    """Sets a convolution's bias in place so that a new network gives every class about this probability; same paper."""
    assert logits.bias is not None
    nn.init.constant_(logits.bias, math.log(probability / (1 - probability)))
