"""What every network of this folder is: levels one after another, then a head.

A family subclasses `Backbone`: its constructor makes the modules under the key names of the network's reference
and lists in `levels` which of them, in which order, lead from one level to the next; `forward_head` goes on
from the deepest to logits. Both uses follow from that one list: `Backbone.forward` gives logits, and
`Backbone.to_features` a module that gives the levels asked for and holds nothing else.

A level `c{i}` is the deepest feature map with stride 2**i: `c3` of images [B, 3, H, W] is
[B, C, ceil(H/8), ceil(W/8)], whatever H and W. (A family that stops striding, as DetNet does, goes on
counting and states its real strides.)
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from public.config.run import Checkpointing
from public.layers.frozen_batch_norm import freeze_batch_norm
from public.layers.recompute import stage


class Level(NamedTuple):
    """One level of a network, in the order in which images pass through it."""

    stride: int
    """Pixels of the image to one step on the feature map."""
    channels: int
    """Channels of the feature map."""
    modules: tuple[str, ...]
    """Paths of the modules that lead here from the level before (or from the images), one after another."""


class Backbone(nn.Module):
    """A classification network: images [B, 3, H, W] -> logits [B, num_classes]."""

    classifier_prefix: str | tuple[str, ...]
    """What the keys of the last linear layer begin with: the part that depends on the number of classes. Some of timm's
    networks have several."""
    levels: dict[str, Level]
    """The levels by name, shallow to deep. Set by the constructor of the family."""
    has_stages: ClassVar[bool] = True
    """Whether its levels are stages of `layers/recompute.py`."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, num_classes]."""
        x = images
        for level in self.levels.values():
            x = _run(self, level, x)  # [B, level.channels, H / level.stride, W / level.stride]
        return self.forward_head(x)

    def forward_head(self, x: Tensor) -> Tensor:
        """From the deepest level [B, C, h, w] to logits [B, num_classes]. Each family has its own."""
        raise NotImplementedError

    def check_size(self, size: int) -> None:
        """Raises ValueError unless the network takes images of so many pixels in height and width: ours take any."""

    def to_features(self, levels: Sequence[str]) -> "Features":
        """Gives up this network for its feature maps: the modules are moved over, not copied.

        Args:
            levels: the names of the levels to give, in any order.

        Raises:
            ValueError: no level, or one that this network does not have, is asked for.
        """
        return Features(self, self.checked_levels(levels, type(self).__name__))

    def checked_levels(self, levels: Sequence[str], kind: str) -> list[str]:
        """The names as a list; raises ValueError where one is no level of the network, which is called `kind` then."""
        asked, own = [levels] if isinstance(levels, str) else list(levels), self.levels
        if not asked or any(level not in own for level in asked):
            raise ValueError(f"levels={levels!r} asked of {kind}; give one or more of its levels: {', '.join(own)}.")
        return asked


class Features(nn.Module):
    """The feature maps of a network: images [B, 3, H, W] -> {level: [B, C, H/stride, W/stride]}.

    It holds the modules up to the deepest level asked for, under the network's own keys, and no others: the
    network's weights load into it with `unused_prefixes` as what may be unexpected, and every parameter gets a
    gradient when the deepest level does.
    """

    channels: dict[str, int]
    """Channels of each level asked for, shallow to deep."""
    strides: dict[str, int]
    """Stride of each level asked for, shallow to deep."""
    levels: dict[str, Level]
    """Every level up to the deepest asked for: what runs, and by which stages are frozen."""
    unused_prefixes: tuple[str, ...]
    """What the network's keys begin with where they are not kept here: deeper stages, head and classifier."""
    has_stages: ClassVar[bool] = True
    """Likewise."""

    def __init__(self, network: Backbone, levels: Sequence[str]) -> None:
        super().__init__()
        names = list(network.levels)
        deepest = max(names.index(level) for level in levels)
        self.levels = {name: network.levels[name] for name in names[: deepest + 1]}
        self.channels = {name: level.channels for name, level in self.levels.items() if name in levels}
        self.strides = {name: level.stride for name, level in self.levels.items() if name in levels}
        for level in self.levels.values():
            for path in level.modules:
                _place(self, path, network.get_submodule(path))
        self.unused_prefixes = prefixes_not_in(network.state_dict().keys(), self.state_dict().keys())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {level: [B, channels[level], ceil(H/strides[level]), ceil(W/strides[level])]}."""
        x, features, last = images, {}, list(self.levels)[-1]
        for name, level in self.levels.items():
            x = _run(self, level, x, is_given=name in self.channels and name != last)
            if name in self.channels:
                features[name] = x
        return features

    def freeze(self, num_levels: int) -> None:
        """Stops the first levels from training, their batch norms' statistics included.

        Raises:
            ValueError: there are fewer levels.
        """
        if not 0 <= num_levels <= len(self.levels):
            raise ValueError(
                f"frozen_stages={num_levels} must lie within 0..{len(self.levels)}, the backbone's levels "
                f"({', '.join(self.levels)})."
            )
        self._freeze_levels(num_levels)

    def _freeze_levels(self, num_levels: int) -> None:
        for level in list(self.levels.values())[:num_levels]:
            for path in level.modules:
                stage = self.get_submodule(path)
                stage.requires_grad_(False)
                freeze_batch_norm(stage)


def _run(owner: nn.Module, level: Level, x: Tensor, *, is_given: bool = False) -> Tensor:
    def run(x: Tensor) -> Tensor:
        # Looked up at each call: modules kept aside in a list would go stale in the replicas DataParallel makes.
        for path in level.modules:
            x = owner.get_submodule(path)(x)
        return x

    keep: list[Checkpointing] = ["stages"] if level.stride > 2 else []  # the first is large, and soon made
    # What a neck takes it asks for before the backward pass has come so far: all sums of the stage would be made then,
    # and stay. Only of large maps these are few.
    if is_given and level.stride > 4:
        keep.append("norms")
    return stage(run, x, keep=keep)


def _place(owner: nn.Module, path: str, module: nn.Module) -> None:
    """Hangs a module into `owner` under a dotted path, with bare modules in between to carry the names."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in owner._modules:
            owner.add_module(parent, nn.Module())
        owner = owner.get_submodule(parent)
    owner.add_module(name, module)


def prefixes_not_in(keys: Iterable[str], kept: Iterable[str]) -> tuple[str, ...]:
    """The shortest prefixes that cover the keys which are not kept, and none of those which are."""
    taken = {prefix for key in kept for prefix in _prefixes(key)}
    free = ([prefix for prefix in _prefixes(key) if prefix not in taken] for key in keys)
    return tuple(dict.fromkeys(prefixes[0] for prefixes in free if prefixes))  # in order, each once


def _prefixes(key: str) -> list[str]:
    """`layer1.0.weight` -> `layer1.`, `layer1.0.`, `layer1.0.weight`."""
    parts = key.split(".")
    return [".".join(parts[:end]) + "." for end in range(1, len(parts))] + [key]
