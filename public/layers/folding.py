"""What makes a trained network faster and keeps its numbers but for rounding: for use alone, it cannot be trained then.

fold_batch_norms(network, lambda: network(example))       a batch norm behind a convolution becomes part of its weights
keep_weights_in(network, dtype, lambda: network(example))      what autocast would cast for every batch is cast once
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from public.layers.batch_norm import only_normalizes
from public.layers.depthwise import DepthwiseConv2d
from public.layers.following import followers, replace_layer


@torch.no_grad()
def fold_batch_norms(module: nn.Module, run: Callable[[], Any]) -> None:
    """Makes every batch norm that alone takes what a convolution gives a part of that convolution, in place.

    A batch norm that anything else feeds (a sum, a concatenation), or whose convolution feeds anything else, stays. The
    folded ones are identities then, and the keys of the state dict no longer those of `load_weights`.

    Args:
        module: in evaluation mode, on the device where it stays.
        run: computes something with the module as it will be used, of any size.
    """
    assert not module.training
    for conv, norm in followers(module, run, (nn.Conv2d, nn.ConvTranspose2d), _can_fold):
        transposed = isinstance(conv, nn.ConvTranspose2d)
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias, transposed
        )
        conv.weight, conv.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
        replace_layer(module, norm, nn.Identity())


def _can_fold(layer: nn.Module) -> bool:
    # without statistics it takes the batch's own
    return isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None and only_normalizes(layer)


@torch.no_grad()
def keep_weights_in(module: nn.Module, dtype: torch.dtype, run: Callable[[], Any]) -> None:
    """Casts, in place, the weights of the convolutions and linear layers that autocast casts to `dtype` in this run.

    The numbers are the same, to the last bit; a batch of one image on a CPU takes half to two thirds of the time.

    Args:
        module: on its device.
        dtype: of autocast; with float32 nothing is done.
        run: as in `fold_batch_norms`, with autocast where the module will have it.
    """
    if dtype == torch.float32:
        return
    noted: list[nn.Module] = []

    def note(layer: nn.Module, inputs: Any) -> None:
        kind = inputs[0].device.type
        if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == dtype:
            noted.append(layer)

    # Subclasses may do something of their own with their weights.
    layers = [layer for layer in module.modules() if type(layer) in (nn.Conv2d, DepthwiseConv2d, nn.Linear)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for layer in noted:
        layer.to(dtype)
