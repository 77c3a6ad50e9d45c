"""Training in less memory: the backward pass computes again what is cheap instead of finding it kept.

A convolutional network keeps two maps for each convolution and its norm: what the convolution gives, for the norm's
gradient, and what leaves the activation, for that of the next convolution. The second follows from the first by one
pass over the map, with the mean and deviation that were found; so do the sums at the ends of blocks. Within
`recomputing(...)` those are forgotten when the forward pass is done with them, and made again when the backward pass
first asks, by the same kernels: on a CPU every gradient has the same bits. Running statistics move once, synchronized
statistics are exchanged once, and what was drawn (drop path) is not drawn again.

Reference: torch.utils.checkpoint, which runs modules a second time, and with them all of that. Here the network says
nothing of it: functions are seen as they are called (`torch.overrides`), and what autograd keeps as it is saved
(`saved_tensors_hooks`).

A graph needs none of it, its compiler decides what is computed twice; and functions that torch.func transforms have no
storages: `recomputing` does nothing then.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from public.config.run import Checkpointing, CheckpointingChoice
from public.layers.autograd_state import differentiable_once, is_followed, is_graph_retained
from public.layers.relu6 import relu6_
from public.layers.winograd import trained_convolution

_Again = tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]]
"""A call that gives the same tensor once more."""

_NO_STAGES = (
    "runtime.activation_checkpointing='stages' knows the stages of our own networks, and this is another; give 'norms'."
)
_CHEAP = {
    *(F.relu, relu6_, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid),
    *(torch.relu, torch.relu_, torch.prelu, torch.sigmoid, Tensor.relu, Tensor.relu_, Tensor.sigmoid),
    *(torch.add, torch.mul, torch.cat, Tensor.add, Tensor.add_, Tensor.mul, Tensor.float, Tensor.to),
    *(F.batch_norm, torch.batch_norm_elemt, F.group_norm),
}
"""Functions of one pass over a map, whose result may be forgotten: the same call gives it again."""
_IN_STAGES = {torch.conv2d, trained_convolution}
"""Those that are called again only where a whole stage is."""
_HOLDING = {torch.conv2d, trained_convolution, F.batch_norm, F.group_norm, torch.batch_norm_elemt}
"""Functions that keep their first argument for the backward pass, whatever becomes of it elsewhere."""

_RELUS = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}

_current: ContextVar["_Recomputing | None"] = ContextVar("recomputing", default=None)


def recomputing(what: Checkpointing) -> AbstractContextManager[Any]:
    """Around a network's forward pass: see `RuntimeConfig.activation_checkpointing`."""
    if what == "off" or not torch.is_grad_enabled() or is_followed():
        return contextlib.nullcontext()
    return _Recomputing(stages=what == "stages")


def stage(run: Callable[[Tensor], Tensor], x: Tensor, *, keep: Collection[Checkpointing]) -> Tensor:
    """`run(x)`; with "stages" nothing in between is kept, and with those in `keep` what comes out is."""
    mode = None if torch.compiler.is_compiling() else _current.get()
    return run(x) if mode is None else mode.stage(run, x, keep)


def check_stages(network: nn.Module, what: CheckpointingChoice) -> None:
    """Raises ValueError where stages are asked for and no part of a network has any (`has_stages`)."""
    if what == "stages" and not any(getattr(module, "has_stages", False) for module in network.modules()):
        raise ValueError(_NO_STAGES)


def is_recomputing() -> bool:
    """Whether this is within `recomputing`."""
    return _current.get() is not None


class _Recipe:
    """How a tensor is made again; those that will ask for it are counted, so that it is made once for all of them.

    Args:
        number: recipes follow those that they need.
        call: with recipes in the place of tensors that are made again themselves.
        overwrites: whether the call changes its first argument.
        autocast: of the forward pass: device, dtype, and whether it is on.
    """

    def __init__(self, number: int, call: _Again, overwrites: bool, autocast: tuple[str, torch.dtype, bool]) -> None:
        self.number, self.call, self.overwrites, self.autocast = number, call, overwrites, autocast
        self.needed = _of_kind(_Recipe, call[1:])
        self.versions = [(one, one._version) for one in _of_kind(Tensor, call[1:])]
        self.value: Tensor | None = None
        self.num_users, self.num_served, self.is_kept = 0, 0, False
        for one in self.needed:
            one.num_users += 1

    def keep(self, value: Tensor) -> None:
        """The tensor stays, and asks for nothing."""
        self.value, self.is_kept = value, True
        self._release()

    def _release(self) -> None:
        for one in self.needed:
            one.num_users -= 1
            if one.num_users == 0:
                one._release()
        self.needed = []

    def give(self) -> Tensor:
        """The tensor, for one of those that were counted; after the last it is forgotten again."""
        if self.value is None:
            self._make()
        value = self.value
        assert value is not None
        self.num_served += 1
        if self.num_served == self.num_users and not self.is_kept:
            self.value, self.num_served = None, 0  # a graph that was retained asks as often once more
        return value

    @torch.no_grad()
    def _make(self) -> None:
        """All that is missing, the oldest first: chains are longer than calls can be nested."""
        missing, asked = {}, [self]
        while asked:
            one = asked.pop()
            if one.value is None and one.number not in missing:
                missing[one.number] = one
                asked += one.needed
        with torch.autocast(*self.autocast, cache_enabled=False):
            for number in sorted(missing):
                missing[number]._call()

    def _call(self) -> None:
        for tensor, version in self.versions:
            _check_version(tensor, version)
        function, args, kwargs = self.call
        args, kwargs = _replaced((args, kwargs), lambda one: one.give() if isinstance(one, _Recipe) else one)
        if self.overwrites and self.needed[0].value is not None:  # it stays for others
            args = (args[0].clone(), *args[1:])
        self.value = function(*args, **kwargs)


class _Saved:
    """What autograd keeps in the place of a tensor: that, or how to make it again."""

    def __init__(self, tensor: Tensor) -> None:
        # Without its node, where that is what keeps this: nothing would ever free such a circle.
        self.tensor: Tensor | None = tensor.detach() if tensor.requires_grad else tensor
        self.version = tensor._version
        self.recipe: _Recipe | None = None

    def become(self, recipe: _Recipe) -> None:
        """Lets go of the tensor."""
        recipe.num_users += 1
        self.tensor, self.recipe = None, recipe

    def give(self) -> Tensor:
        """The tensor; raises RuntimeError where it was changed, which torch does not look for behind such hooks."""
        if self.recipe is not None:
            return self.recipe.give()
        assert self.tensor is not None
        _check_version(self.tensor, self.version)
        return self.tensor

    def is_last(self) -> bool:
        """Whether the tensor was made for those that have asked for it, of whom this is the last."""
        return self.recipe is not None and self.recipe.value is None


class _Convolution(torch.autograd.Function):
    """A convolution of what is made again: as torch's with `_Saved` for its input, without the hooks' operators."""

    @staticmethod
    def forward(
        ctx: Any, recipe: _Recipe, x: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...]
    ) -> Tensor:
        """[B, C, H, W] and the recipe of it; options as of torch.conv2d: stride, padding, dilation, groups."""
        recipe.num_users += 1
        ctx.recipe, ctx.options = recipe, options
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.save_for_backward(weight)
        return torch.conv2d(x, weight, bias, *options)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Of the input, the weight and the bias, as they are asked for."""
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        where, mask = (ctx.bias_sizes, stride, padding, dilation), ctx.needs_input_grad[1:4]
        x = ctx.recipe.give()
        if not is_graph_retained():
            del ctx.recipe  # as torch lets go of what was saved
        found = torch.ops.aten.convolution_backward(grads[0], x, weight, *where, False, [0, 0], groups, mask)
        return None, *found, None


class _Relu(torch.autograd.Function):
    """ReLU. What it gave is made again, and as nobody else asks for it any more, it becomes the gradient."""

    @staticmethod
    def forward(ctx: Any, result: list[_Saved], x: Tensor, is_in_place: bool) -> Tensor:
        """[...] -> [...]; into the empty list goes what keeps that, once it is of a graph."""
        ctx.result = result
        if not is_in_place:
            return x.relu()
        ctx.mark_dirty(x)
        return x.relu_()

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Of x."""
        (saved,), grad = ctx.result, grads[0]
        if not is_graph_retained():
            del ctx.result
        y = saved.give()
        if saved.is_last() and not torch.is_grad_enabled() and (y.dtype, y.stride()) == (grad.dtype, grad.stride()):
            return None, torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=y), None
        return None, torch.ops.aten.threshold_backward(grad, y, 0), None


class _Norms:
    """What the norms of a forward pass have in common, so that it takes one operator for all of them."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._scales: Sequence[Tensor] = ()
        self._ones: dict[tuple[int, torch.dtype], Tensor] = {}

    def again(self, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, invstd: Tensor) -> _Again:
        """The norm of a batch with these statistics, as a CPU has it: see `_batch_norm_again`."""
        self._pairs.append((weight, invstd))
        key = len(mean), mean.dtype
        if key not in self._ones:
            self._ones[key] = torch.ones_like(mean)
        return self._normalized, (x, weight, bias, mean, self._ones[key], len(self._pairs) - 1), {}

    def _normalized(self, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, ones: Tensor, number: int) -> Tensor:
        if number >= len(self._scales):
            self._scales = torch._foreach_mul(*map(list, zip(*self._pairs, strict=True)))  # pyright: ignore
        smallest = torch.finfo(torch.float32).tiny  # 0 is refused; a sum with 1 it does not change
        return torch.native_batch_norm(x, self._scales[number], bias, mean, ones, False, 0.0, smallest)[0]


class _Made(NamedTuple):
    """A tensor that can be made again, as long as it is what it was."""

    storage: StorageWeakRef
    """While there is such a reference, no other storage has the same key."""
    version: int
    layout: tuple[Any, ...]
    recipe: _Recipe


class _Recomputing(TorchFunctionMode):
    """Sees which functions make tensors and which tensors autograd saves, and brings both together by their storage."""

    def __init__(self, *, stages: bool) -> None:
        super().__init__()
        self._stages, self._in_stage, self._saw_stage, self._number = stages, False, False, 0
        self._made: dict[int, _Made] = {}
        self._held: dict[int, StorageWeakRef] = {}
        self._saved: list[_Saved] = []
        self._norms = _Norms()
        self._counters: dict[int, Tensor] = {}
        self._hooks = saved_tensors_hooks(self._save, _Saved.give)

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        _current.reset(self._token)
        self._count()
        self._made.clear()
        self._held.clear()
        self._saved.clear()  # of a call that raised
        if self._stages and not self._saw_stage and args[0] is None:
            raise ValueError(_NO_STAGES)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = _of_kind(Tensor, (args, kwargs))
        if not self._counters.keys().isdisjoint(map(id, tensors)):
            self._count()
        if func is Tensor.add_ and _counts_on(*args, **kwargs):
            self._counters[id(args[0])] = args[0]
            return args[0]
        # Before they are changed.
        known = {id(one): recipe for one in tensors if (recipe := self._recipe_of(one)) is not None}
        out = self._run(func, args, kwargs, known)
        if isinstance(out, Tensor) and (out.requires_grad or func is torch.batch_norm_elemt):
            if func in _HOLDING:
                storage = tensors[0].untyped_storage()
                self._held[storage._cdata] = StorageWeakRef(storage)
            if func in _CHEAP or (self._in_stage and func in _IN_STAGES):
                call = func, args, kwargs
                if func is F.batch_norm:
                    call = _batch_norm_again(self._norms, out, *args, **kwargs)
                if call is not None:
                    self._remember(out, call, known)
        self._saved.clear()
        return out

    def _count(self) -> None:
        """One operator for what batch norms count, each by itself: the batches that they have seen."""
        counters = list(self._counters.values())
        self._counters.clear()
        if counters:
            with torch.no_grad():
                torch._foreach_add_(counters, 1)  # pyright: ignore[reportPrivateImportUsage]

    def _run(self, func: Any, args: Any, kwargs: Any, known: dict[int, _Recipe]) -> Any:
        recipe = known.get(id(args[0])) if func is torch.conv2d and args else None
        if recipe is not None and len(known) == 1 and _is_trained(*args, **kwargs):
            return _convolution(recipe, *args, **kwargs)
        if known and args and func in _RELUS and args[0].requires_grad and not args[0]._is_view():
            result: list[_Saved] = []
            is_in_place = func in (torch.relu_, Tensor.relu_) or kwargs.get("inplace", False)
            out: Any = _Relu.apply(result, args[0], is_in_place)
            result.append(_Saved(out))
            self._saved += result
            return out
        # Hooks cost two operators for each saved tensor: only where one of them may be forgotten.
        with self._hooks if known else contextlib.nullcontext():
            return func(*args, **kwargs)

    def stage(self, run: Callable[[Tensor], Tensor], x: Tensor, keep: Collection[Checkpointing]) -> Tensor:
        """See `stage`."""
        self._in_stage, self._saw_stage = self._stages, True
        try:
            out = run(x)
        finally:
            self._in_stage = False
        recipe = self._recipe_of(out)
        if ("stages" if self._stages else "norms") in keep and recipe is not None:
            recipe.keep(out.detach())
        return out

    def _save(self, tensor: Tensor) -> Any:
        """The hook of autograd."""
        saved, recipe = _Saved(tensor), self._recipe_of(tensor)
        if recipe is not None:
            saved.become(recipe)
        else:
            self._saved.append(saved)
        return saved

    def _recipe_of(self, tensor: Tensor) -> _Recipe | None:
        made = self._made.get(_key(tensor))
        same = made is not None and (made.version, made.layout) == (tensor._version, _layout(tensor))
        return made.recipe if made is not None and same else None

    def _remember(self, out: Tensor, call: _Again, known: dict[int, _Recipe]) -> None:
        """From now on `out` need not be kept; nothing large is held for it that would not be kept without it."""
        key, layout = _key(out), _layout(out)
        sources = _of_kind(Tensor, call[1:])
        overwrites = any(_key(one) == key for one in sources)
        if self._recipe_of(out) is not None or not all(
            id(one) in known or (_key(one) != key and self._is_held(one, out)) for one in sources
        ):
            return  # the function gave back what it took, or needs what nobody keeps
        function, args, kwargs = _replaced(call, lambda one: known.get(id(one), one))
        self._number += 1
        kind = out.device.type
        autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        recipe = _Recipe(self._number, (function, args, kwargs), overwrites, autocast)
        self._made[key] = _Made(StorageWeakRef(out.untyped_storage()), out._version, layout, recipe)
        for one in self._saved:  # what an activation saved of its own result
            if one.tensor is not None and (_key(one.tensor), _layout(one.tensor)) == (key, layout):
                one.become(recipe)

    def _is_held(self, tensor: Tensor, out: Tensor) -> bool:
        is_held = tensor.is_leaf or _key(tensor) in self._held or 8 * tensor.numel() <= out.numel()
        return is_held and not tensor.is_inference()  # which knows no version


def _counts_on(tensor: Tensor, number: Any = None, *args: Any, **kwargs: Any) -> bool:
    """Whether this adds 1 to a number that nobody may ask for before the forward pass is done."""
    is_plain = not args and not kwargs and type(number) is int and number == 1
    return is_plain and tensor.ndim == 0 and tensor.dtype == torch.int64 and not tensor.is_inference()


def _is_trained(x: Tensor, weight: Tensor, bias: Tensor | None = None, *options: Any, **named: Any) -> bool:
    """Whether a convolution will ask for its input, computes as it is told, and is one that `_convolution` knows."""
    is_known = not named and not any(isinstance(one, str) for one in options)
    return is_known and weight.requires_grad and x.ndim == 4 and not torch.is_autocast_enabled(x.device.type)


def _convolution(
    recipe: _Recipe,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """As torch.conv2d."""
    sides = [[one, one] if isinstance(one, int) else list(one) for one in (stride, padding, dilation)]
    return _Convolution.apply(recipe, x, weight, bias, (*sides, groups))


def _batch_norm_again(
    norms: _Norms,
    out: Tensor,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> _Again | None:
    """Of F.batch_norm: in training with what the batch's statistics were; None where they are not known.

    A CPU has this only as evaluation, which takes a variance. With one of 1 and the deviation in the weight it does the
    same multiplications and additions as in training, to the bit.
    """
    if not training:
        return F.batch_norm, (input, running_mean, running_var, weight, bias, False, momentum, eps), {}
    mean, invstd = getattr(out.grad_fn, "_saved_result1", None), getattr(out.grad_fn, "_saved_result2", None)
    if mean is None or invstd is None or weight is None or bias is None or weight.dtype != invstd.dtype:
        return None
    if input.device.type != "cpu":
        return torch.batch_norm_elemt, (input, weight, bias, mean, invstd, eps), {}
    return norms.again(input, weight, bias, mean, invstd)


def _check_version(tensor: Tensor, version: int) -> None:
    if tensor._version != version:
        raise RuntimeError(
            f"a tensor {tuple(tensor.shape)} that the backward pass needs was changed by an inplace operation; with "
            "runtime.activation_checkpointing='off' it needs fewer."
        )


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _of_kind(kind: type[Any], value: Any) -> list[Any]:
    """Those of a kind among arguments, also within lists."""
    if isinstance(value, kind):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [one for part in value for one in _of_kind(kind, part)] if isinstance(value, list | tuple) else []


def _replaced(value: Any, by: Callable[[Any], Any]) -> Any:
    """Arguments with each replaced, also within lists."""
    if isinstance(value, dict):
        return {name: _replaced(one, by) for name, one in value.items()}
    return type(value)(_replaced(one, by) for one in value) if isinstance(value, list | tuple) else by(value)
