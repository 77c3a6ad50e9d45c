"""The layers that depend on the classes, loaded by the names of the classes and not by their places.

A checkpoint of ours names its classes. Where those of the network to train are the same in another order, or only some
of them, each class takes the rows that it had, and classes that the checkpoint lacks keep the network's new ones.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from public.config.names import first_few


class ClassRows(NamedTuple):
    """How the rows (dimension 0) of a layer's weight and bias lie: [groups, background + classes, width]."""

    groups: int = 1
    """The classes come once for each, such as an anchor."""
    background: int = 0
    """Rows of each group before those of the classes."""
    width: int = 1
    """Rows of each class, such as a box's four deltas."""


class ClassLayers(NamedTuple):
    """What of a network depends on its classes."""

    class_names: Sequence[str]
    rows: Mapping[str, ClassRows]
    """By the beginnings of the layers' keys."""


def by_class_name(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], layers: ClassLayers, given_names: Sequence[str]
) -> dict[str, Tensor]:
    """Those of the weights that depend on the classes, with the network's classes in their order.

    A tensor of another layout than the classes would give it is not among them.

    Args:
        weights: to load, for `given_names`.
        own: the network's state dict: classes that `given_names` lacks keep these rows.
        layers: of the network.
        given_names: the classes that the weights are for.
    """
    places = {name: place for place, name in enumerate(given_names)}
    kept = [(new, places[name]) for new, name in enumerate(layers.class_names) if name in places]
    pairs = torch.tensor(kept, dtype=torch.int64).reshape(-1, 2)  # [C, 2] of the classes that both have
    renewed = {}
    for key in weights.keys() & own.keys():
        rows = next((rows for prefix, rows in layers.rows.items() if key.startswith(prefix)), None)
        shape, num_given, num_own = own[key].shape, len(given_names), len(layers.class_names)
        if rows is None or weights[key].shape != (_num_rows(rows, num_given), *shape[1:]):
            continue
        if shape[0] == _num_rows(rows, num_own):
            renewed[key] = _moved(weights[key], own[key], rows, pairs)
    return renewed


def describe_classes(class_names: Sequence[str], given_names: Sequence[str]) -> str:
    """How many of a network's classes were in what it was loaded from."""
    new = [name for name in class_names if name not in {*given_names}]
    more = f", {len(new)} new ({first_few(new, 5)})" if new else ""
    return f"{len(class_names) - len(new)} classes kept by name{more}"


def _num_rows(rows: ClassRows, num_classes: int) -> int:
    return rows.groups * (rows.background + num_classes) * rows.width


def _moved(given: Tensor, own: Tensor, rows: ClassRows, pairs: Tensor) -> Tensor:
    """Rows of `given` at the places of `own`; pairs int64 [C, 2] are (a class's number there, its number in given)."""
    source, target = (x.unflatten(0, (rows.groups, -1, rows.width)) for x in (given, own.to(given, copy=True)))
    target[:, : rows.background] = source[:, : rows.background]
    target[:, rows.background + pairs[:, 0]] = source[:, rows.background + pairs[:, 1]]
    return target.flatten(0, 2)  # [groups * (background + classes) * width, ...]
