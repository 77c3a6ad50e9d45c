"""A catalogued network with other activations, norms or dropout than its family gives it.

build_network("resnet50", 10, activation="swish", dropout=0.3)
"""

from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.catalog import build_backbone
from public.backbones.features import Backbone
from public.layers.activations import replace_activations
from public.layers.switch_norm import replace_batch_norms


def build_network(
    name: str,
    num_classes: int = 1000,
    *,
    activation: str | None = None,
    norm: Literal["switch"] | None = None,
    dropout: float | None = None,
    **options: Any,
) -> Backbone:
    """Builds a classification network with new weights.

    Args:
        name: one of `list_backbones()`.
        num_classes: the number of logits.
        activation: a key of `public.layers.activations.ACTIVATIONS` in the place of every activation; None: the
            network's own.
        norm: 'switch' for SwitchNorm in the place of every batch norm; None: the network's own.
        dropout: share of the features that are dropped before the classifier; None: the network's own.
        options: what the network's family lets one set.

    Raises:
        ValueError: unknown name, option or activation, or nothing in the network that could be replaced.
    """
    network = build_backbone(name, num_classes, **options)
    if activation is not None:
        replace_activations(network, activation)
    if norm == "switch":
        replace_batch_norms(network)
    if dropout is not None:
        set_dropout(network, dropout)
    return network


def set_dropout(network: Backbone, rate: float) -> None:
    """Sets the rate of the head's own dropout, or puts one before the classifier of a family that has none."""
    own = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    for module in own:
        module.p = rate
    if not own:
        classifier = network.get_submodule(network.classifier_prefix.removesuffix("."))
        classifier.register_forward_pre_hook(partial(_drop_features, rate))


def _drop_features(rate: float, classifier: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return functional.dropout(inputs[0], rate, classifier.training)
