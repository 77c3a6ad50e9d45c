"""Every network by its name.

    build_backbone("resnet50", num_classes=10)                # images [B, 3, H, W] -> logits [B, 10]
    build_features("resnet50", ("c3", "c4", "c5"))            # images -> {"c3": [B, 512, H/8, W/8], ...}

    python -m public.backbones.catalog                        # prints all of them as a table

`timm:<name>` is any network of timm, see `timm_network.py`; it stands in no list here.

A family is imported when one of its networks is built, and torch not before that: the list costs nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, get_args

from public.backbones.cards import CARDS, Card
from public.backbones.options import own_settings
from public.config.names import nearest_names
from public.config.options import Kind, NetworkOptions

if TYPE_CHECKING:
    from public.backbones.features import Backbone, Features

# family module -> its networks; each name is that of the function in the module which builds the network
_FAMILIES: dict[str, tuple[str, ...]] = {
    "public.backbones.resnet": (
        "resnet18",
        "resnet34_half",
        "resnet34",
        "resnet50_half",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext50_32x4d",
        "resnext101_32x8d",
        "wide_resnet50_2",
        "wide_resnet101_2",
    ),
    "public.backbones.resnet_v2": ("resnet18_v2", "resnet34_v2", "resnet50_v2", "resnet101_v2", "resnet152_v2"),
    "public.backbones.resnest": ("resnest50",),
    "public.backbones.oct_resnet": ("oct_resnet50_alpha0125", "oct_resnet50_alpha0250"),
    "public.backbones.detnet": ("detnet59",),
    "public.backbones.lambda_resnet": ("lambda_resnet50",),
    "public.backbones.evonorm_resnet": ("evonorm_resnet50",),
    "public.backbones.lip_resnet": ("lip_resnet50",),
    "public.backbones.cifar_resnet": (
        "resnet18cifar",
        "resnet34cifar",
        "resnet50cifar",
        "resnet101cifar",
        "resnet152cifar",
    ),
    "public.backbones.mobilenet_v2": ("mobilenet_v2",),
    "public.backbones.regnet": (
        "regnet_x_200mf",
        "regnet_x_400mf",
        "regnet_x_400mf_tv",
        "regnet_x_600mf",
        "regnet_x_800mf",
        "regnet_x_1_6gf",
        "regnet_x_3_2gf",
        "regnet_x_4gf",
        "regnet_x_6_4gf",
        "regnet_x_8gf",
        "regnet_x_12gf",
        "regnet_x_16gf",
        "regnet_x_32gf",
        "regnet_y_200mf",
        "regnet_y_400mf",
        "regnet_y_600mf",
        "regnet_y_800mf",
        "regnet_y_800mf_tv",
        "regnet_y_1_6gf",
        "regnet_y_3_2gf",
        "regnet_y_4gf",
        "regnet_y_6_4gf",
        "regnet_y_8gf",
        "regnet_y_8gf_tv",
        "regnet_y_12gf",
        "regnet_y_16gf",
        "regnet_y_32gf",
    ),
    "public.backbones.efficientnet": (
        "efficientnet_b0",
        "efficientnet_b1",
        "efficientnet_b2",
        "efficientnet_b3",
        "efficientnet_b4",
        "efficientnet_b5",
        "efficientnet_b6",
        "efficientnet_b7",
    ),
    "public.backbones.darknet": ("darknet19", "darknet53", "darknet_tiny"),
    "public.backbones.vovnet": (
        "vovnet19_slim_dw_se",
        "vovnet19_dw_se",
        "vovnet19_slim_se",
        "vovnet19_se",
        "vovnet39_se",
        "vovnet57_se",
        "vovnet99_se",
    ),
    "public.backbones.mobilenet_v1": ("mobilenet_v1",),
    "public.backbones.mobilenet_v3": ("mobilenet_v3_large", "mobilenet_v3_small"),
    "public.backbones.ghostnet": ("ghostnet_100", "ghostnet_130"),
    "public.backbones.proxylessnas": ("proxylessnas_gpu", "proxylessnas_cpu", "proxylessnas_mobile"),
}
_TIMM = "timm:"
_FAMILY_OF = {name: module for module, names in _FAMILIES.items() for name in names}


def list_backbones() -> list[str]:
    """The names of all networks, family by family."""
    return list(_FAMILY_OF)


def options_of(name: str) -> type[NetworkOptions]:
    """What can be set on a network: its family's options, or those of any network where the family has none.

    Raises:
        ValueError: there is no such network.
    """
    return next(
        kind for kind in get_args(signature(_builder(name)).parameters["options"].annotation) if kind is not type(None)
    )


NETWORK_KIND = Kind("network", "network_options", list_backbones(), options_of, _TIMM)
"""A config's network by its name, and what can be set on it."""


def build_backbone(name: str, num_classes: int = 1000, **options: Any) -> "Backbone":
    """Builds a classification network with new weights.

    Args:
        name: one of `list_backbones()`, or `timm:<name>`.
        num_classes: the number of logits.
        options: what the network's family lets one set, see its `...Options`; `build.py` has what all have.

    Returns:
        A module, images [B, 3, H, W] -> logits [B, num_classes].

    Raises:
        ValueError: unknown name or option, one out of range, or no class at all.
    """
    kind = options_of(name)
    check_options(name, options, own_settings(kind))
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} asked of {name}; it must be at least 1.")
    return _builder(name)(num_classes, kind(**options))


def build_features(name: str, levels: Sequence[str], **options: Any) -> "Features":
    """Builds a network for its feature maps only, with new weights.

    Args:
        name: one of `list_backbones()`, or `timm:<name>`.
        levels: names such as `c3`, the map with stride 2**3; see `public/backbones/features.py`.
        options: as for `build_backbone`.

    Returns:
        A module, images [B, 3, H, W] -> {level: [B, C, ceil(H/stride), ceil(W/stride)]}, with `.channels`
        and `.strides`.

    Raises:
        ValueError: unknown name, level or option.
    """
    if "num_classes" in options:
        raise ValueError(f"num_classes={options['num_classes']} given for features of {name}, which have no classes.")
    return build_backbone(name, **options).to_features(levels)


def check_options(name: str, options: Iterable[str], allowed: Sequence[str]) -> None:
    """Raises ValueError, saying what the network takes, where an option is none of those allowed."""
    for option in options:
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}; it takes: {', '.join(allowed) or 'none'}.")


def check_backbone_name(name: str) -> None:
    """Raises ValueError, naming the nearest, unless there is such a network; builds none, and imports timm at most."""
    if name.startswith(_TIMM):
        import_module("public.backbones.timm_maps").check_timm_name(name.removeprefix(_TIMM))
    elif name not in _FAMILY_OF:
        raise ValueError(f"there is no backbone {name!r}; {nearest_names(name, _FAMILY_OF)}.")


def _builder(name: str) -> "Callable[..., Backbone]":
    if name.startswith(_TIMM):
        return partial(import_module("public.backbones.timm_network").timm_network, name.removeprefix(_TIMM))
    check_backbone_name(name)
    return getattr(import_module(_FAMILY_OF[name]), name)


def table() -> str:
    """The cards of all networks as a table in GitHub's markdown; the same text is in docs/networks.md."""
    header = "network | parameters | MACs | input | channels | strides | reference | top-1 | source of top-1"
    rows = [header, " | ".join(["---"] * (header.count("|") + 1))]
    rows += [f"`{name}` | {_row(CARDS[name])}" for name in list_backbones()]
    return "\n".join(f"| {row} |" for row in rows)


def _row(card: Card) -> str:
    levels = f"{card.levels[0]}-{card.levels[-1]}"
    return " | ".join(
        (
            f"{card.parameters / 1e6:.3f} M",
            f"{card.macs / 1e9:.3f} G",
            str(card.input_size),
            f"{levels}: {', '.join(map(str, card.channels))}",
            ", ".join(map(str, card.strides)),
            card.reference,
            "-" if card.top1 is None else f"{card.top1:.2f}",
            card.source or "not stated",
        )
    )


if __name__ == "__main__":
    print(table())
