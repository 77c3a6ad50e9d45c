"""Convolutions with their activation in one call, and with weights laid out once: for use alone, on a CPU.

pack_convolutions(network, lambda: network(example))

For every picture PyTorch lays a convolution's weights out anew as oneDNN wants them, and reads and writes the map once
more for the activation behind it. Here the layouts stay, and the activation is done where the map is made.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from public.layers.depthwise import DepthwiseConv2d
from public.layers.following import followers, replace_layer
from public.layers.relu6 import ReLU6
from public.runtime.device import has_bf16_kernels, has_x86_kernels

KEPT_CANVASES = 4
"""Of how many sizes of images the layouts are kept: each takes as much memory as the weights. oneDNN wants others for
maps of other sizes, and weights in the wrong one cost more time than plain ones."""
_CONVOLUTIONS = (nn.Conv2d, DepthwiseConv2d)
_ACTIVATIONS: dict[type, tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}
"""What oneDNN calls them, with their numbers. Of a layer's own class alone: a subclass may do something else."""
Layout = Callable[["PackedConv2d", tuple[int, ...], int], Tensor]
"""The weights of a convolution as oneDNN wants them for an input of a shape and for a number of threads."""


class PackedConv2d(nn.Module):
    """A convolution and the activation behind it, by oneDNN.

    Args:
        conv: whose weights and bias are taken, on the CPU.
        activation: what follows, of a class in `_ACTIVATIONS`; None: nothing.
        layout: gives the weights; `lay_out`, or what remembers that.
    """

    def __init__(self, conv: Any, activation: nn.Module | None, layout: Layout) -> None:
        super().__init__()
        self.weight, self.bias, self.layout = conv.weight, conv.bias, layout
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.activation = ("none", []) if activation is None else _ACTIVATIONS[type(activation)]

    def forward(self, x: Tensor) -> Tensor:
        """Float [B, in_channels, H, W] -> [B, out_channels, h, w] in the dtype of the weights."""
        x, (name, numbers) = x.to(self.weight.dtype), self.activation  # as autocast would
        weight = self.layout(self, tuple(x.shape), torch.get_num_threads())
        return torch.ops.mkldnn._convolution_pointwise(x, weight, self.bias, *self.geometry, name, numbers, "")


def lay_out(conv: PackedConv2d, shape: tuple[int, ...], num_threads: int) -> Tensor:
    """The weights of a convolution for an input [B, C, H, W]; nothing but oneDNN can read them.

    It wants others for another number of threads, which it asks for itself: weights that were laid out for two it lays
    out anew for one in each call, five times slower on MobileNetV2 (torch 2.14.1).
    """
    return torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *conv.geometry, list(shape))


def can_pack() -> bool:
    """Whether this PyTorch has these convolutions; they were tried on x86 processors alone."""
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise") and has_x86_kernels()


@torch.no_grad()
def pack_convolutions(module: nn.Module, run: Callable[[], Any]) -> None:
    """Packs, in place, the convolutions that take part in this run, with the activations that alone take their outputs.

    The same numbers but for rounding: the kernels are oneDNN's, also where PyTorch would take its own for few numbers.
    Where `can_pack` says no, nothing is done. The module can be neither exported nor trained then.

    Args:
        module: in evaluation mode, on the CPU, with its norms folded and its weights cast (`folding.py`).
        run: computes something with the module as it will be used, of any size.
    """
    assert not module.training
    if not can_pack():
        return
    calls: list[nn.Module] = []
    dtypes = _packable_dtypes()

    def note(layer: Any, inputs: Any, output: Tensor) -> None:
        if output.dtype == layer.weight.dtype in dtypes:  # where it is another, autocast has its own idea of it
            calls.append(layer)

    handles = [layer.register_forward_hook(note) for layer in module.modules() if _is_plain(layer)]
    try:
        pairs = followers(module, run, _CONVOLUTIONS, lambda layer: type(layer) in _ACTIVATIONS)
    finally:
        for handle in handles:
            handle.remove()
    # A head's convolution is called for every level, each of a size of its own.
    layout, activations = lru_cache(KEPT_CANVASES * len(calls))(lay_out), dict(pairs)
    for conv in dict.fromkeys(calls):
        activation = activations.get(conv)
        replace_layer(module, conv, PackedConv2d(conv, activation, layout))
        if activation is not None:
            replace_layer(module, activation, nn.Identity())


def _packable_dtypes() -> tuple[torch.dtype, ...]:
    """Those that this processor packs; few have an fp16 that would be worth it."""
    return (torch.float32, torch.bfloat16) if has_bf16_kernels() else (torch.float32,)


def _is_plain(layer: Any) -> bool:
    return type(layer) in _CONVOLUTIONS and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
