"""Exponentially averaged weights."""

import copy
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights:
    """A copy of a network that follows it: average = decay x average + (1 - decay) x weights after every step.

    The first update copies the weights, so the average never remembers the random start. Buffers (batch norm's
    statistics) are averaged too, so that the copy can be evaluated as it is. The numbers are those of torch's
    `AveragedModel`, which sends the number of updates to a GPU in each of them and waits.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        """The averaged network."""
        self.num_averaged = 0
        """Updates so far."""
        self._decay = decay
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes one step towards the network's present weights."""
        ours, theirs = ([*chain(x.parameters(), x.buffers())] for x in (self.network, network))
        pairs = list(zip(ours, theirs, strict=True))
        if self.num_averaged == 0:
            for own, other in pairs:
                own.copy_(other)
        else:
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            self._average([own for own, _ in floats], [other for _, other in floats], self.num_averaged)
            self._average_counts([pair for pair in pairs if not pair[0].is_floating_point()])
        self.num_averaged += 1

    def _average_counts(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """The same of whole numbers, rounded towards zero, which torch takes one by one."""
        if pairs:
            ours, theirs = map(list, zip(*pairs, strict=True))
            averages = torch._foreach_mul(ours, self._decay)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_add_(averages, torch._foreach_mul(theirs, 1 - self._decay))  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_copy_(ours, averages)  # pyright: ignore[reportPrivateImportUsage]

    def state_dict(self) -> dict[str, Any]:
        """The averaged network's own state; how many steps were averaged is kept in `num_averaged`."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Any], num_averaged: int) -> None:
        """Puts back what `state_dict` and `num_averaged` gave."""
        self.network.load_state_dict(state)
        self.num_averaged = num_averaged
