"""Any network of timm, with timm's own key names: `timm:convnext_tiny`.

    build_backbone("timm:convnext_tiny", num_classes=10)      # images [B, 3, H, W] -> logits [B, 10]
    build_features("timm:swin_tiny_patch4_window7_224", ("c3", "c4", "c5"))

    python -m public.backbones.timm_network "convnext*"       # lists networks and the weights that timm publishes

timm (https://github.com/huggingface/pytorch-image-models) is optional: `pip install -e .[timm]`. What its networks are
like is measured, see `timm_maps.py`. Levels are those of `features.py`, as far as a network has them: many vision
transformers have c4 alone, pyramids without a stem's map begin with c2.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from public.backbones.features import Backbone, Features, Level, prefixes_not_in
from public.backbones.options import DropPathOptions, given
from public.backbones.timm_maps import (
    check_timm_name,
    classifier_prefixes,
    create,
    feature_maps,
    image_for,
    native_size,
    probe,
)
from public.config.checks import require
from public.config.command_line import fail
from public.config.names import first_line
from public.layers.frozen_batch_norm import freeze_batch_norm
from public.weights.published import import_timm


@dataclass(frozen=True, kw_only=True)
class TimmOptions(DropPathOptions):
    """What can be set on the networks of timm; None is what timm gives them."""

    kind: ClassVar[str] = "timm"
    dropout: float | None = None
    """Share of the pooled features that are dropped before the classifier: timm's drop_rate."""
    drop_path: float | None = None
    """Share of the training images that skip the last block; it grows linearly with depth: timm's drop_path_rate."""


class TimmNetwork(Backbone):
    """A classification network of timm: images [B, 3, H, W] -> logits [B, num_classes].

    Args:
        name: as timm calls it, with or without the tag of its weights.
        num_classes: the number of logits.
        dropout: see `TimmOptions`.
        drop_path: likewise.

    Raises:
        ValueError: there is no such network, it does not have one of the settings, or timm is not installed.
    """

    has_stages: ClassVar[bool] = False

    def __init__(
        self, name: str, *, num_classes: int = 1000, dropout: float | None = None, drop_path: float | None = None
    ) -> None:
        super().__init__()
        check_timm_name(name)
        self.name, self.settings = name, {"drop_rate": dropout, "drop_path_rate": drop_path}
        try:
            self.network = create(name, num_classes=num_classes, **self.settings)
        except TypeError as error:
            raise ValueError(f"timm:{name} does not take these network_options: {error}.") from error
        if drop_path:
            _check_drop_path(name, drop_path)
        _name_keys(self, {f"network.{key}": key for key in self.network.state_dict()})

    @property
    def classifier_prefix(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the keys of the layers begin with that depend on the number of classes; measured when asked for."""
        return classifier_prefixes(self.name)

    @property
    def levels(self) -> dict[str, Level]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The levels by name, shallow to deep; measured when asked for."""
        found = feature_maps(self.name).by_level
        return {level: Level(one.stride, one.channels, ()) for level, one in found.items()}

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, num_classes]."""
        return self.network(images)

    @torch.inference_mode()
    def check_size(self, size: int) -> None:
        """Raises ValueError unless the network takes images of so many pixels in height and width."""
        network = probe(self.name, **self.settings)
        try:
            network(image_for(network, (size, size)))
        except Exception as error:  # each network refuses a size by an error of its own kind
            height, width = native_size(self.name)
            raise ValueError(
                f"timm:{self.name} does not take images of {size}x{size}, as data.input_size (or start_size) says: "
                f"{first_line(error)}. It was made for {height}x{width}."
            ) from error

    def to_features(self, levels: Sequence[str]) -> "TimmFeatures":
        """A network for the feature maps alone, with this one's weights.

        Raises:
            ValueError: timm gives no usable maps of it, or none of a level that is asked for.
        """
        return TimmFeatures(self, self.checked_levels(levels, f"timm:{self.name}"))


class TimmFeatures(Features):
    """The feature maps of a network of timm: images [B, 3, H, W] -> {level: [B, C, ceil(H/stride), ceil(W/stride)]}.

    Images of which the network would not give such maps are filled up with zeros to the right and below, and what lies
    there is cut off the maps.
    """

    has_stages: ClassVar[bool] = False

    def __init__(self, network: TimmNetwork, levels: Sequence[str]) -> None:
        nn.Module.__init__(self)
        self.name, measured = network.name, feature_maps(network.name)
        self.multiple, self.fixed_size = measured.multiple, measured.fixed_size
        names = list(measured.by_level)
        deepest = max(names.index(level) for level in levels)
        self.levels = {name: network.levels[name] for name in names[: deepest + 1]}
        self.maps = {name: one for name, one in measured.by_level.items() if name in levels}
        self.channels = {name: one.channels for name, one in self.maps.items()}
        self.strides = {name: one.stride for name, one in self.maps.items()}
        self._weights = [measured.by_level[name].weights for name in self.levels]
        indices = tuple(one.place for one in self.maps.values())
        self.network = create(network.name, features_only=True, out_indices=indices, **network.settings)
        self._take_over(network)
        self._require_gradients()

    def _take_over(self, network: TimmNetwork) -> None:
        """The keys and the weights of the whole network."""
        weights, own = network.state_dict(), self.network.state_dict().keys()
        theirs = {inner: key for key in weights for inner in _names_in_features(key) if inner in own}
        _name_keys(self, {f"network.{inner}": key for inner, key in theirs.items()})
        self.load_state_dict({key: weights[key] for key in theirs.values()}, strict=False)
        self.unused_prefixes = prefixes_not_in(weights.keys(), self.state_dict().keys())

    def _require_gradients(self) -> None:
        """Weights that no level asked for is computed with do not train."""
        used = frozenset().union(*self._weights)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in used)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {level: [B, channels[level], ceil(H/strides[level]), ceil(W/strides[level])]}."""
        height, width = images.shape[-2:]
        if self.fixed_size is not None and (height, width) != self.fixed_size:
            raise ValueError(
                f"timm:{self.name} takes images of {self.fixed_size[0]}x{self.fixed_size[1]} alone, and was given "
                f"{height}x{width}."
            )
        if height % self.multiple or width % self.multiple:
            images = functional.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        features = {}
        for (level, one), x in zip(self.maps.items(), self.network(images), strict=True):
            x = x.permute(0, 3, 1, 2) if one.is_channels_last else x  # [B, C, h, w]
            features[level] = x[..., : math.ceil(height / one.stride), : math.ceil(width / one.stride)]
        return features

    def _freeze_levels(self, num_levels: int) -> None:
        still = frozenset().union(*self._weights[:num_levels])
        for name, module in self.network.named_modules():
            own = {f"{name}.{part}".lstrip("."): p for part, p in module.named_parameters(recurse=False)}
            for parameter in (p for key, p in own.items() if key in still):
                parameter.requires_grad_(False)
            if own and isinstance(module, nn.BatchNorm2d) and own.keys() <= still:
                freeze_batch_norm(module)


@torch.inference_mode()
def _check_drop_path(name: str, rate: float) -> None:
    """Raises ValueError where timm takes the rate and no block skips anything: those of lcnet have no shortcut."""
    network, reached = probe(name, drop_path_rate=rate), []
    for module in network.modules():
        if type(module).__name__ == "DropPath":
            module.register_forward_hook(lambda *_: reached.append(True))
    network(image_for(network, native_size(name)))
    require(
        bool(reached),
        f"network_options.drop_path={rate} would change nothing: no block of timm:{name} has a shortcut.",
    )


def _names_in_features(key: str) -> tuple[str, ...]:
    """What a key of a whole network may be called in timm's network of features."""
    return key, f"model.{key}", f"body.{key}", key.replace(".", "_", 1)


def _name_keys(module: nn.Module, keys: dict[str, str]) -> None:
    """Makes a module's state dict have other keys than its structure gives, and take them.

    Args:
        module: of which.
        keys: key by structure -> key in the state dict.
    """
    module.register_state_dict_post_hook(partial(_to_named, keys))
    module.register_load_state_dict_pre_hook(partial(_from_named, {new: old for old, new in keys.items()}))


def _to_named(keys: dict[str, str], _module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    _rename(keys, state, prefix)


def _from_named(keys: dict[str, str], _module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(keys, state, prefix)


def _rename(keys: dict[str, str], state: dict[str, Any], prefix: str) -> None:
    present = {new: state.pop(prefix + old) for old, new in keys.items() if prefix + old in state}
    state.update({prefix + new: tensor for new, tensor in present.items()})


def timm_network(name: str, num_classes: int = 1000, options: TimmOptions | None = None) -> TimmNetwork:
    """The network that timm calls by this name."""
    return TimmNetwork(name, num_classes=num_classes, **given(options))


def listing(pattern: str) -> Iterable[str]:
    """A line for each of timm's networks whose name fits a pattern such as `convnext*`: its weights, and their images.

    Raises:
        ValueError: timm is not installed, or no name fits.
    """
    timm = import_timm("a list of timm's networks")
    names = timm.list_models(pattern)
    if not names:
        raise ValueError(f"timm has no network whose name fits {pattern!r}.")
    for name in names:
        config, tags = timm.get_pretrained_cfg(name), timm.list_pretrained(f"{name}.*")
        size = "x".join(map(str, config.input_size[1:]))
        weights = ", ".join(f"timm:{tag}" for tag in tags) or "none"
        yield f"timm:{name}  {size}  mean {config.mean}  std {config.std}  weights: {weights}"


def main() -> None:
    """Prints the list; a mistake ends the program with code 2."""
    parser = argparse.ArgumentParser(description="Lists the networks that timm has, and the weights of each.")
    parser.add_argument("pattern", nargs="?", default="*", help="of their names, such as 'convnext*'")
    try:
        for line in listing(parser.parse_args().pattern):
            print(line)
    except ValueError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
