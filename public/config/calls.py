"""Transforms as a config lists them: what to call, with which arguments. They are made when the data is opened.

    train_transforms=(Call(RandomResizedCrop, size=SIZE), Call(v2.ColorJitter, brightness=0.4))
    val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE))

A constructed transform equals no other, and has forgotten its arguments; a call is data, which can be compared, written
into a checkpoint and read back.
"""

import builtins
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from public.config.checks import require


@dataclass(frozen=True)
class Scaled:
    """A length in pixels that follows the data's `input_size`: `length` where that is `of`, else in proportion."""

    length: int
    of: int

    def __post_init__(self) -> None:
        require(self.length >= 1 and self.of >= 1, f"{self}: both must be 1 or more pixels.")

    def at(self, input_size: int) -> int:
        """Pixels at an input size, rounded down."""
        return max(1, input_size * self.length // self.of)


SIZE = Scaled(1, of=1)
"""The data's `input_size` itself."""


class Call:
    """A transform to be made: a class and the keyword arguments of its constructor. It is never changed.

    An argument may be a number, a text, a bool, None, an enumeration's member, a torch dtype, a `Scaled`, another Call,
    or a tuple of these (a list becomes one).

    Raises:
        ValueError: not a class, or it does not take these arguments.
    """

    __slots__ = ("keywords", "type")

    type: "builtins.type[Any]"
    keywords: tuple[tuple[str, Any], ...]
    """Sorted by name; those at their defaults are skipped, so that it makes no difference whether they are stated."""

    def __init__(self, type_: "builtins.type[Any]", /, **keywords: Any) -> None:
        require(isinstance(type_, type), f"Call({type_!r}): a transform's class is expected, and its arguments.")
        try:
            taken = signature(type_)
            taken.bind(**keywords)
        except TypeError as error:
            raise ValueError(f"Call({type_.__name__}, ...): {error}.") from error
        # Told apart by their repr: == is not true or false of tensors, and takes 1 for True.
        defaults = {name: repr(_frozen(parameter.default)) for name, parameter in taken.parameters.items()}
        given = ((name, _frozen(keywords[name])) for name in sorted(keywords))
        object.__setattr__(self, "type", type_)
        object.__setattr__(self, "keywords", tuple((n, value) for n, value in given if repr(value) != defaults.get(n)))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self!r} is not changed: make another.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and (self.type, self.keywords) == (other.type, other.keywords)

    def __hash__(self) -> int:
        return hash((self.type, self.keywords))

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (self.type, dict(self.keywords))

    def __repr__(self) -> str:
        return f"Call({', '.join([self.type.__name__, *(f'{name}={value!r}' for name, value in self.keywords)])})"

    def __call__(self, input_size: int) -> Any:
        """As `build`."""
        return self.build(input_size)

    def build(self, input_size: int) -> Any:
        """The transform, for an input of so many pixels. Raises ValueError where its class refuses an argument."""
        return self.type(**{name: _built(value, input_size) for name, value in self.keywords})


def build_all(calls: Iterable[Call], input_size: int) -> tuple[Any, ...]:
    """The transforms of a config, in their order."""
    return tuple(call.build(input_size) for call in calls)


def _made_again(type_: type[Any], keywords: dict[str, Any]) -> Call:
    return Call(type_, **keywords)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _built(value: Any, input_size: int) -> Any:
    if isinstance(value, Scaled):
        return value.at(input_size)
    if isinstance(value, Call):
        return value.build(input_size)
    return tuple(_built(one, input_size) for one in value) if isinstance(value, tuple) else value
