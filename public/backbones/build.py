"""A network of the catalog with other activations, norms or dropout than its family gives it.

build_network("resnet50", 10, activation="swish", dropout=0.3)
build_from_options("resnet50", 10, ResNetOptions(activation="swish", dropout=0.3))
"""

from dataclasses import fields
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from public.backbones.catalog import build_backbone, check_options, options_of
from public.backbones.features import Backbone
from public.backbones.options import given, own_settings
from public.config.options import NetworkOptions
from public.layers.activations import replace_activations
from public.layers.switch_norm import replace_batch_norms


def build_network(name: str, num_classes: int = 1000, **options: Any) -> Backbone:
    """Builds a classification network with new weights.

    Args:
        name: one of `list_backbones()`, or `timm:<name>`.
        num_classes: the number of logits.
        options: the settings of `options_of(name)`; None leaves one at the network's own.

    Raises:
        ValueError: unknown name or option, one out of range, or nothing in the network that could be replaced.
    """
    kind = options_of(name)
    check_options(name, options, [f.name for f in fields(kind)])
    return build_from_options(name, num_classes, kind(**options))


def build_from_options(name: str, num_classes: int, options: NetworkOptions) -> Backbone:
    """Builds a classification network with new weights.

    Args:
        name: one of `list_backbones()`, or `timm:<name>`.
        num_classes: the number of logits.
        options: an `options_of(name)`, or what every network lets one set.

    Raises:
        ValueError: unknown name, options of another family, or nothing in the network that could be replaced.
    """
    kind, base = options_of(name), type(options) is NetworkOptions
    if not base and not isinstance(options, kind):
        raise ValueError(
            f"network_options={type(options).__name__}(...) are {options.kind}'s, and network={name!r} takes "
            f"{kind.__name__}."
        )
    settings, own = given(options), own_settings(kind)
    network = build_backbone(name, num_classes, **{key: value for key, value in settings.items() if key in own})
    if options.activation is not None:
        replace_activations(network, options.activation)
    if options.norm is not None:
        replace_batch_norms(network)
    if options.dropout is not None and "dropout" not in own:
        set_dropout(network, options.dropout)
    return network


def set_dropout(network: Backbone, rate: float) -> None:
    """Puts dropout before the classifier of a network that has no layer for it."""
    assert isinstance(network.classifier_prefix, str)
    classifier = network.get_submodule(network.classifier_prefix.removesuffix("."))
    classifier.register_forward_pre_hook(partial(_drop_features, rate))


def _drop_features(rate: float, classifier: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return functional.dropout(inputs[0], rate, classifier.training)
