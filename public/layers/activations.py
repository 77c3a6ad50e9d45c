"""Activations by name, and a network with other ones than it was built with."""

from collections.abc import Callable

from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "swish": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "mish": nn.Mish,
}
"""Each with torch's defaults: a leaky slope of 0.01, a learned one (one number for all channels) from 0.25."""

_KINDS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish)


def replace_activations(network: nn.Module, name: str) -> None:
    """Puts the named activation in the place of every activation module of the network.

    Gates, which give a factor from 0 to 1 (sigmoid, hard sigmoid), are none and stay.

    Args:
        network: changed in place.
        name: a key of `ACTIVATIONS`.

    Raises:
        ValueError: there is no such activation, or the network has none to replace.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"there is no activation {name!r}; there are: {', '.join(ACTIVATIONS)}.")
    places = [
        (parent, child)
        for parent in network.modules()
        for child, module in parent.named_children()
        if isinstance(module, _KINDS)
    ]
    if not places:
        raise ValueError(f"activation={name!r}: {type(network).__name__} has no activation that could be another one.")
    for parent, child in places:
        setattr(parent, child, ACTIVATIONS[name]())
