"""A head's convolutions over all levels of a pyramid, as one step of autograd.

A head has the same layers for every level. Autograd adds up as many gradients of each parameter as there are levels,
with an operator for each, and hands every activation that it keeps through two more. Here one operator is the
activation of all levels, and one for each level adds up the gradients of all parameters, coarse to fine as autograd
does: all have the same bits on a CPU. Within `recomputing`, group norms and their activations are made again in the
backward pass.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.geometry.fixed_shapes import shapes_are_fixed
from public.layers.autograd_state import differentiable_once, is_graph_retained, is_one_step, is_unseen
from public.layers.recompute import is_recomputing
from public.layers.winograd import convolve, convolve_backward, evaluated_convolution, run_convolution

Pair = tuple[Tensor, Tensor]
"""Weight and bias: of a convolution that changes neither height nor width, or of a norm."""


def over_levels(maps: Sequence[Tensor], tower: nn.Module, *outputs: nn.Module | Pair) -> list[tuple[Tensor, ...]]:
    """What output layers give behind a tower.

    Args:
        maps: float [B, C, H, W] of each level, fine to coarse.
        tower: convolutions, each with a ReLU behind it or with a group norm and a ReLU.
        outputs: convolutions behind the tower; or weight [K, C, k, k] and bias [K] of one.

    Returns:
        Of each output layer float [B, K, H, W] of each level.
    """
    if not is_one_step(maps[0], tower, *(one for one in outputs if isinstance(one, nn.Module))):
        found = (_through(tower, x) for x in maps)
        return list(zip(*([_output(x, one) for one in outputs] for x in found), strict=True))
    layers = [*(one for one in tower.modules() if isinstance(one, nn.Conv2d)), *outputs]
    norms = [one for one in tower.modules() if isinstance(one, nn.GroupNorm)]
    x, pairs, kind = list(maps), [_pair_of(one) for one in layers], maps[0].device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        x = [one.to(dtype) for one in x]
        # As autocast: parameters once, whose gradients are added up in that type; what was made of them for each level.
        pairs = [(weight.to(dtype), bias.to(dtype)) if weight.is_leaf else (weight, bias) for weight, bias in pairs]
    norm = (norms[0].num_groups, norms[0].eps) if norms else None
    plan = _Plan(len(x), len(layers) - len(outputs), len(outputs), norm, is_recomputing())
    parameters = [one for pair in [*pairs, *map(_pair_of, norms)] for one in pair]
    with torch.autocast(kind, enabled=False):
        found: Any = _Tower.apply(plan, *x, *parameters)
    return [found[first : first + len(x)] for first in range(0, len(found), len(x))]


def _through(tower: nn.Module, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() or not is_unseen(x, tower):
        return tower(x)
    for layer in tower.modules():
        if not [*layer.children()]:
            x = run_convolution(layer, x)
    return x


def _output(x: Tensor, layer: nn.Module | Pair) -> Tensor:
    if isinstance(layer, nn.Module):
        return run_convolution(layer, x)
    weight, bias = layer
    if torch.is_grad_enabled() or not is_unseen(x):
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    return evaluated_convolution(x, weight, bias)


def _pair_of(layer: Any) -> Pair:
    return layer if isinstance(layer, tuple) else (layer.weight, layer.bias)


class _Plan(NamedTuple):
    """What a tower consists of."""

    num_levels: int
    num_layers: int
    """Of the tower."""
    num_outputs: int
    norm: tuple[int, float] | None
    """The group norms' number of groups and epsilon."""
    recomputes: bool
    """Whether what follows from a convolution's result by its norm is made again."""

    def parts(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Pair], list[Pair]]:
        """Maps, convolutions and norms of the arguments."""
        maps, parameters = list(tensors[: self.num_levels]), tensors[self.num_levels :]
        pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
        num_convolutions = self.num_layers + self.num_outputs
        return maps, pairs[:num_convolutions], pairs[num_convolutions:]


class _Kept(NamedTuple):
    """What a layer leaves for the backward pass, for each level."""

    convolved: list[Tensor]
    """Where a norm is behind it."""
    statistics: list[Pair]
    """The norm's means and inverse deviations."""
    activated: list[Tensor]
    """Where it is not made again."""


class _Tower(torch.autograd.Function):
    """Layer after layer, each for all levels."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Maps, convolutions and norms -> what each output layer gives for all levels."""
        ctx.save_for_backward(*tensors)
        ctx.plan, ctx.kept = plan, []
        x, convolutions, norms = plan.parts(tensors)
        for number in range(plan.num_layers):
            x = [_convolved(one, convolutions[number]) for one in x]
            convolved, statistics = x if norms else [], []
            if norms:
                normalized = [_normalized(one, norms[number], plan) for one in x]
                x, statistics = [one for one, _ in normalized], [own for _, own in normalized]
            x = _activated_(x)
            ctx.kept.append(_Kept(convolved, statistics, [] if norms and plan.recomputes else x))
        return tuple(_convolved(one, pair) for pair in convolutions[plan.num_layers :] for one in x)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Of the maps and the parameters."""
        kept = [_Kept(*map(list, one)) for one in ctx.kept]  # own lists, to let go of map after map
        if not is_graph_retained():
            ctx.kept = None  # as torch lets go of what was saved
        return None, *_Backward(ctx.plan, ctx.saved_tensors, ctx.needs_input_grad[1:]).run(kept, grads)


_INPUT, _PARAMETERS, _BOTH = (True, False), (False, True), (True, True)
"""Of what a convolution's gradients are wanted.

The finest level is larger than the others together, and decides how much memory a step takes. There one follows the
other: those of parameters; then what the activation gave is let go of, but for where it was 0; then that of the input.
"""


class _Backward:
    """The backward pass of a tower.

    Args:
        plan: of the tower.
        tensors: the arguments of the forward pass.
        needs: whether a gradient of each is asked for.
    """

    def __init__(self, plan: _Plan, tensors: Sequence[Tensor], needs: Sequence[bool]) -> None:
        self.plan, self.needs = plan, needs
        self.maps, self.convolutions, self.norms = plan.parts(tensors)
        self.found: list[list[Any]] = [[None] * len(tensors) for _ in self.maps]
        """The gradients of the arguments, of each level by itself."""

    def run(self, kept: list[_Kept], grads: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """The gradients of all arguments; what was kept is let go of, map after map."""
        levels, num_layers = range(self.plan.num_levels), self.plan.num_layers
        numbers = range(num_layers, num_layers + self.plan.num_outputs)
        own = [grads[level :: len(levels)] for level in levels]
        while kept:
            x = self._activated(kept)
            convolved, statistics, _ = kept.pop()
            for level in levels:
                grad = self._of_activation(level, numbers, own[level], x)
                if self.norms:
                    grad = self._of_norm(level, len(kept), grad, convolved.pop(0), *statistics[level])
                own[level] = (grad,)
            numbers = range(len(kept), len(kept) + 1)
        of_maps = [self._of_map(level, numbers, own.pop(0), x) for level, x in enumerate(self.maps)]
        return [*of_maps, *self._of_parameters()]

    def _activated(self, kept: list[_Kept]) -> list[Tensor]:
        """What comes out of the last layer of those; behind none, the maps."""
        if not kept:
            return self.maps
        convolved, _, activated = kept[-1]
        if activated:
            return activated
        x = [_normalized(one, self.norms[len(kept) - 1], self.plan)[0] for one in convolved]
        return _activated_(x)

    def _of_activation(self, level: int, numbers: range, grads: Sequence[Tensor], x: list[Tensor]) -> Tensor:
        """Of what ReLU took, by the convolutions that took what it gave: the first of `x`, which is let go of."""
        activated = x.pop(0)
        if level > 0:
            grad = self._of_convolutions(level, numbers, grads, activated, _BOTH)
            return torch.ops.aten.threshold_backward(grad, activated, 0)
        self._of_convolutions(level, numbers, grads, activated, _PARAMETERS)
        is_off, shape = activated <= 0, torch.empty_like(activated)  # never written, so that a CPU gives it no memory
        del activated
        return _masked_(self._of_convolutions(level, numbers, grads, shape, _INPUT), is_off)

    def _of_map(self, level: int, numbers: range, grads: Sequence[Tensor], x: Tensor) -> Tensor | None:
        parts = [_PARAMETERS, _INPUT] if level == 0 else [_BOTH]
        return [self._of_convolutions(level, numbers, grads, x, wanted) for wanted in parts][-1]

    def _of_convolutions(
        self, level: int, numbers: range, grads: Sequence[Tensor], x: Tensor, wanted: tuple[bool, bool]
    ) -> Any:
        """Of their input, the sum; those of their parameters are noted."""
        total = None
        for number, grad in zip(numbers, grads, strict=True):
            of_x = self._of_convolution(level, number, grad, x, wanted)
            total = of_x if total is None else total.add_(of_x)
        return total

    def _of_convolution(self, level: int, number: int, grad: Tensor, x: Tensor, wanted: tuple[bool, bool]) -> Any:
        weight, _ = self.convolutions[number]
        place = len(self.maps) + 2 * number
        needs = number > 0 or self.needs[level], *self.needs[place : place + 2]
        mask = [one and part for one, part in zip(needs, (wanted[0], wanted[1], wanted[1]), strict=True)]
        if not any(mask):
            return None
        of_x, *own = convolve_backward(grad, x, weight.to(x.dtype), mask)
        if wanted[1]:
            self.found[level][place : place + 2] = [one if one is None else one.to(weight.dtype) for one in own]
        return of_x

    def _of_norm(self, level: int, number: int, grad: Tensor, x: Tensor, mean: Tensor, invstd: Tensor) -> Tensor:
        assert self.plan.norm is not None
        place = len(self.maps) + 2 * (len(self.convolutions) + number)
        sizes = *x.shape[:2], x.shape[2:].numel(), self.plan.norm[0]
        of_x, *own = torch.ops.aten.native_group_norm_backward(
            *(_for_norm(grad), _for_norm(x), mean, invstd, self.norms[number][0]),
            *(*sizes, (True, *self.needs[place : place + 2])),
        )
        self.found[level][place : place + 2] = own
        return of_x.to(grad.dtype)

    def _of_parameters(self) -> list[Tensor | None]:
        """The sums over the levels."""
        first = len(self.maps)
        sums: list[Any] = self.found[-1][first:]
        asked = [place for place, one in enumerate(sums) if one is not None]
        for own in reversed(self.found[:-1]):
            torch._foreach_add_([sums[i] for i in asked], [own[first + i] for i in asked])  # pyright: ignore
        return sums


def _convolved(x: Tensor, pair: Pair) -> Tensor:
    weight, bias = pair
    return convolve(x, weight.to(x.dtype), bias.to(x.dtype))


def _for_norm(x: Tensor) -> Tensor:
    """In float32, and on a GPU in the layout that torch's group norm takes there."""
    return x.float() if x.device.type == "cpu" else x.float().contiguous()


def _normalized(x: Tensor, pair: Pair, plan: _Plan) -> tuple[Tensor, Pair]:
    """As nn.GroupNorm, in float32; and the means and inverse deviations."""
    assert plan.norm is not None
    num_groups, eps = plan.norm
    (batch, channels), pixels = x.shape[:2], x.shape[2:].numel()
    out, mean, invstd = torch.native_group_norm(_for_norm(x), *pair, batch, channels, pixels, num_groups, eps)
    return out.to(x.dtype), (mean, invstd)


def _masked_(grad: Tensor, is_off: Tensor) -> Tensor:
    """0 in place where the mask is true.

    A CPU, which cannot foresee the branches of masked_fill_, takes five times as long for it as for a product. That
    first makes numbers of the mask: image after image, so that they take little memory. There an infinite gradient
    becomes NaN. Operators are counted as a GPU has them, where shapes are fixed.
    """
    if shapes_are_fixed(grad.device):
        return grad.masked_fill_(is_off, 0)
    is_on = is_off.logical_not_()
    torch._foreach_mul_(list(grad.unbind()), list(is_on.unbind()))  # pyright: ignore[reportPrivateImportUsage]
    return grad


def _activated_(x: list[Tensor]) -> list[Tensor]:
    """ReLU in place, one operator for all."""
    torch._foreach_clamp_min_(x, 0)  # pyright: ignore[reportPrivateImportUsage]
    return x
