"""From a chain of modules to the levels of `features.py`."""

from collections.abc import Iterable
from typing import NamedTuple

from public.backbones.features import Level


class Step(NamedTuple):
    """A module of a network whose modules follow one another."""

    path: str
    """Where it is in the network."""
    stride: int
    """1 or 2: by how much it shrinks the map."""
    channels: int
    """Of what it gives."""


def levels_by_stride(steps: Iterable[Step]) -> dict[str, Level]:
    """Cuts a chain of modules into levels c1, c2, ...: each module with a stride of 2 begins the next."""
    levels: list[Level] = []
    for path, stride, channels in steps:
        if stride == 2:
            levels.append(Level(2 ** (len(levels) + 1), channels, (path,)))
        else:
            *levels, last = levels
            levels.append(Level(last.stride, channels, (*last.modules, path)))
    return {f"c{index}": level for index, level in enumerate(levels, start=1)}
