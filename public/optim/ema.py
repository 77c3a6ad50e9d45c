"""Exponentially averaged weights."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class AveragedWeights:
    """A copy of a network that follows it: average = decay x average + (1 - decay) x weights after every step.

    The first update copies the weights, so the average never remembers the random start. Buffers (batch norm's
    statistics) are averaged too, so that the copy can be evaluated as it is.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.model = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.model.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The averaged network."""
        return self.model.module

    def update(self, network: nn.Module) -> None:
        """Takes one step towards the network's present weights."""
        self.model.update_parameters(network)

    def state_dict(self) -> dict[str, Any]:
        """The averaged network's own state; how many steps were averaged is kept in `num_averaged`."""
        return self.network.state_dict()

    @property
    def num_averaged(self) -> int:
        """Updates so far."""
        return int(self.model.n_averaged)

    def load_state_dict(self, state: dict[str, Any], num_averaged: int) -> None:
        """Puts back what `state_dict` and `num_averaged` gave."""
        self.network.load_state_dict(state)
        self.model.n_averaged.fill_(num_averaged)
