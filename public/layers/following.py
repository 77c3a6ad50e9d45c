"""Which layers alone take what a convolution gives, seen in one run: what can become a part of that convolution."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Pair(NamedTuple):
    """Two layers that always follow one another."""

    conv: Any
    """The convolution."""
    follower: Any
    """What nothing but it feeds, and what alone takes its outputs."""


class _Uses(TorchFunctionMode):
    """Counts how often the outputs of convolutions go into an operation that gives tensors.

    Module hooks say which module made a tensor and which layer takes it; only this says that nothing else does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.makers: list[tuple[Tensor, nn.Module]] = []
        self.counts: list[int] = []
        self.known: dict[int, int] = {}
        """The number of a tensor, by its id, as long as it is what the convolution gave."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in _tensors((args, kwargs)) if _tensors(result) else ():
            if id(one) in self.known:
                self.counts[self.known[id(one)]] += 1
        return result

    def made(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        """A forward hook of convolutions; the tensor is held, so that no other gets its id."""
        self.known[id(output)] = len(self.makers)
        self.makers.append((output, module))
        self.counts.append(0)

    def number(self, tensor: Tensor) -> int | None:
        """Of a convolution's output; None for anything else."""
        return self.known.get(id(tensor))

    def replaced(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        """A forward hook of the others: what one of them wrote in place is its own from there on."""
        if output is inputs[0]:
            self.known.pop(id(output), None)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [one for part in value for one in _tensors(part)] if isinstance(value, list | tuple) else []


@torch.no_grad()
def followers(
    module: nn.Module, run: Callable[[], Any], convs: tuple[type, ...], is_follower: Callable[[nn.Module], bool]
) -> list[Pair]:
    """The pairs of a convolution and a layer that always follow one another and have nothing between them.

    Which those are is seen in one run, not read off the classes: blocks join their layers as they like.

    Args:
        module: in evaluation mode.
        run: computes something with the module as it will be used, of any size.
        convs: the classes of the convolutions.
        is_follower: whether a layer is of the kind that is looked for; such layers take one tensor.
    """
    uses, inputs, handles = _Uses(), {}, []
    for layer in module.modules():
        if isinstance(layer, convs):
            handles.append(layer.register_forward_hook(uses.made))
        elif is_follower(layer):
            inputs[layer] = []
            handles.append(layer.register_forward_pre_hook(lambda own, args: inputs[own].append(uses.number(args[0]))))
            handles.append(layer.register_forward_hook(uses.replaced))
    try:
        with uses:
            run()
    finally:
        for handle in handles:
            handle.remove()
    outputs: dict[nn.Module, list[int]] = {}
    for number, (_, conv) in enumerate(uses.makers):
        outputs.setdefault(conv, []).append(number)
    pairs = []
    for layer, numbers in inputs.items():
        conv = uses.makers[numbers[0]][1] if numbers and numbers[0] is not None else None
        if conv is not None and outputs[conv] == numbers and all(uses.counts[number] == 1 for number in numbers):
            pairs.append(Pair(conv, layer))
    return pairs


def replace_layer(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts a layer in the place of another one, wherever the module has it."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
