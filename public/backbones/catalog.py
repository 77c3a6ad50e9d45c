"""Every network by its name.

    build_backbone("resnet50", num_classes=10)                # images [B, 3, H, W] -> logits [B, 10]
    build_features("resnet50", ("c3", "c4", "c5"))            # images -> {"c3": [B, 512, H/8, W/8], ...}

A family is imported when one of its networks is built, and torch not before that: the list costs nothing.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, get_args

from public.config.names import nearest_names

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
    ),
    "public.backbones.cifar_resnet": (
        "resnet18cifar",
        "resnet34cifar",
        "resnet50cifar",
        "resnet101cifar",
        "resnet152cifar",
    ),
    "public.backbones.mobilenet_v2": ("mobilenet_v2",),
}
_FAMILY_OF = {name: module for module, names in _FAMILIES.items() for name in names}


def list_backbones() -> list[str]:
    """The names of all networks, family by family."""
    return list(_FAMILY_OF)


def build_backbone(name: str, num_classes: int = 1000, **options: Any) -> "Backbone":
    """Builds a classification network with new weights.

    Args:
        name: one of `list_backbones()`.
        num_classes: the number of logits.
        options: what the network's family lets one set, see its `...Options`.

    Returns:
        A module, images [B, 3, H, W] -> logits [B, num_classes].

    Raises:
        ValueError: unknown name or option, or no class at all.
    """
    build = _builder(name)
    allowed = list(get_args(signature(build).parameters["options"].annotation)[0].__annotations__)
    for option in options:
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}; it takes: {', '.join(allowed)}.")
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} asked of {name}; it must be at least 1.")
    return build(num_classes, **options)


def build_features(name: str, levels: Sequence[str], **options: Any) -> "Features":
    """Builds a network for its feature maps only, with new weights.

    Args:
        name: one of `list_backbones()`.
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


def check_backbone_name(name: str) -> None:
    """Raises ValueError, naming the nearest, unless there is such a network; builds and imports nothing."""
    if name not in _FAMILY_OF:
        raise ValueError(f"there is no backbone {name!r}; {nearest_names(name, _FAMILY_OF)}.")


def _builder(name: str) -> "Callable[..., Backbone]":
    check_backbone_name(name)
    return getattr(import_module(_FAMILY_OF[name]), name)
