"""Whether a shape may depend on values, and lists of which this decides how long they are.

How many anchors learn an object is known when the targets are. A CPU that asks has the answer at once, and then works
on the few alone. The host of a GPU would have to wait until the GPU has come so far, and a graph has no such answer:
there all entries are worked on, and what was computed for the others is left out of the sums.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

_forced: ContextVar[bool] = ContextVar("fixed_shapes", default=False)


def shapes_are_fixed(device: torch.device) -> bool:
    """Whether a shape must not depend on values: on a GPU, while a graph is made, and within `fixed_shapes`."""
    return device.type != "cpu" or torch.compiler.is_compiling() or _forced.get()


@contextlib.contextmanager
def fixed_shapes() -> Iterator[None]:
    """Within it a CPU, too, works in shapes that do not depend on values: for tests, counts and exports."""
    before = _forced.set(True)
    try:
        yield
    finally:
        _forced.reset(before)


def pieces(number: int, size: int) -> list[slice]:
    """What to cut `number` rows into so that no more than `size` are worked on at a time, which bounds the memory.

    At least one piece. A graph takes all rows at once: it is made for any number of them, and its compiler computes
    what lies in between without holding all of it.
    """
    if torch.compiler.is_compiling():
        return [slice(None)]
    size = max(1, size)
    return [slice(first, first + size) for first in range(0, max(1, number), size)]


class Chosen:
    """Those entries of tensors [B, N, ...] that a mask chooses, as one flat list [n, ...].

    Where shapes are fixed the list has all B * N entries, and `only` takes out what has come of those that were not
    chosen: before a sum, and before they could lead to an infinite gradient.

    Args:
        mask: bool [B, N].
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask.flatten()  # [B * N]
        self._shape = tuple(mask.shape)
        self._places = None if shapes_are_fixed(mask.device) else torch.nonzero(self.mask).squeeze(1)  # [n]
        self._others = ~self.mask if self._places is None else None  # [B * N]

    def of(self, values: Tensor) -> Tensor:
        """The entries of [B, N, ...]: [n, ...]."""
        values = values.flatten(0, 1)
        return values if self._places is None else values[self._places]

    def of_columns(self, values: Tensor) -> Tensor:
        """What all images have in common, [N, ...], at each entry: [n, ...]."""
        num_rows, num_columns = self._shape
        if self._places is not None:
            return values[self._places % max(1, num_columns)]
        return values.expand(num_rows, *values.shape).flatten(0, 1)

    def of_images(self, values: Tensor) -> Tensor:
        """What is each image's, [B, ...], at each entry: [n, ...]."""
        if self._places is not None:
            return values[self._places // max(1, self._shape[1])]
        return values[:, None].expand(*self._shape, *values.shape[1:]).flatten(0, 1)

    @property
    def images(self) -> Tensor:
        """Whose each entry is: int64 [n]."""
        places = torch.arange(len(self.mask), device=self.mask.device) if self._places is None else self._places
        return places.div(max(1, self._shape[1]), rounding_mode="floor")

    def only(self, values: Tensor) -> Tensor:
        """[n, ...] with 0 for what was not chosen."""
        if self._others is None:
            return values
        return values.masked_fill(
            self._others if values.ndim == 1 else self._others.view(-1, *[1] * (values.ndim - 1)), 0
        )

    def back(self, values: Tensor) -> Tensor:
        """[n, ...] in its places in [B, N, ...], 0 elsewhere."""
        if self._places is None:
            return self.only(values).unflatten(0, self._shape)
        return (
            values.new_zeros(len(self.mask), *values.shape[1:])
            .index_copy_(0, self._places, values)
            .unflatten(0, self._shape)
        )
