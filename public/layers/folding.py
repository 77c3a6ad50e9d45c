"""What makes a trained network faster and keeps its numbers but for rounding: for use alone, it cannot be trained then.

fold_batch_norms(network, lambda: network(example))       a batch norm behind a convolution becomes part of its weights
keep_weights_in(network, dtype, lambda: network(example))      what autocast would cast for every batch is cast once
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from public.layers.batch_norm import only_normalizes


class _Uses(TorchFunctionMode):
    """Counts how often the outputs of convolutions go into an operation that gives tensors.

    Module hooks say which module made a tensor and which batch norm takes it; only this says that nothing else does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.makers: dict[int, tuple[Tensor, nn.Module]] = {}
        self.counts: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in _tensors((args, kwargs)) if _tensors(result) else ():
            if id(one) in self.makers:
                self.counts[id(one)] += 1
        return result

    def made(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        """A forward hook of convolutions; the tensor is held, so that no other gets its id."""
        self.makers[id(output)], self.counts[id(output)] = (output, module), 0

    def key(self, tensor: Tensor) -> int | None:
        """Of a convolution's output; None for anything else."""
        return id(tensor) if id(tensor) in self.makers else None


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [one for part in value for one in _tensors(part)] if isinstance(value, list | tuple) else []


@torch.no_grad()
def fold_batch_norms(module: nn.Module, run: Callable[[], Any]) -> None:
    """Makes every batch norm that alone takes what a convolution gives a part of that convolution, in place.

    Which those are is seen in one run, not read off the classes: blocks join their layers as they like. A batch norm
    that anything else feeds (a sum, a concatenation), or whose convolution feeds anything else, stays. The folded ones
    are identities then, and the keys of the state dict no longer those of `load_weights`.

    Args:
        module: in evaluation mode, on the device where it stays.
        run: computes something with the module as it will be used, of any size.
    """
    assert not module.training
    for (conv, norm), parents in _pairs(module, run).items():
        transposed = isinstance(conv, nn.ConvTranspose2d)
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias, transposed
        )
        conv.weight, conv.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
        for parent, name in parents:
            setattr(parent, name, nn.Identity())


def _pairs(module: nn.Module, run: Callable[[], Any]) -> dict[tuple[Any, Any], list[tuple[nn.Module, str]]]:
    """The convolutions and batch norms that always follow one another, with the places where the norm is a child."""
    uses, inputs, handles = _Uses(), {}, []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            handles.append(layer.register_forward_hook(uses.made))
        # without statistics it takes the batch's own
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None and only_normalizes(layer):
            inputs[layer] = []
            handles.append(layer.register_forward_pre_hook(lambda norm, args: inputs[norm].append(uses.key(args[0]))))
    try:
        with uses:
            run()
    finally:
        for handle in handles:
            handle.remove()
    outputs: dict[nn.Module, list[int]] = {}
    for key, (_, conv) in uses.makers.items():
        outputs.setdefault(conv, []).append(key)
    pairs = {}
    for norm, keys in inputs.items():
        conv = uses.makers[keys[0]][1] if keys and keys[0] is not None else None
        if conv is not None and outputs[conv] == keys and all(uses.counts[key] == 1 for key in keys):
            pairs[conv, norm] = [(p, n) for p in module.modules() for n, child in p.named_children() if child is norm]
    return pairs


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
    layers = [layer for layer in module.modules() if type(layer) in (nn.Conv2d, nn.Linear)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for layer in noted:
        layer.to(dtype)
