"""Options: the settings of one thing, a frozen dataclass in the folder of what reads them. A config is made of these.

A thing that comes in kinds (detectors, optimizers, schedules, networks, data sets) has a base class here, which a
config's field names, and a subclass for each kind beside the code that reads it: a setting stands there once, with its
unit, its default and its check, and an experiment's --help shows those of its own kind alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from public.config.checks import require, require_at_least, require_one_of, require_share

Activation = Literal["relu", "relu6", "leaky_relu", "prelu", "elu", "gelu", "swish", "hard_swish", "mish"]
"""The keys of `public.layers.activations.ACTIVATIONS`."""
Norm = Literal["switch"]
"""Norms that can take the place of batch norm."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one thing. They are checked when they are made (`__post_init__` raises ValueError)."""

    kind: ClassVar[str]
    """What the command line and messages call this kind."""
    starts_new: ClassVar[tuple[str, ...]] = ()
    """Settings that no other kind hands on to this one."""


def default_of(field: "Field[Any]") -> Any:
    """A dataclass field's default; MISSING where it has none."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def settings(options: Options) -> dict[str, Any]:
    """The settings by name that differ from their defaults, and those that have none."""
    values = {f.name: (getattr(options, f.name), default_of(f)) for f in fields(options)}
    return {name: value for name, (value, default) in values.items() if default is MISSING or value != default}


def carried_over(options: Options, kind: type[Options]) -> dict[str, Any]:
    """The settings of another kind: its defaults, but for what its own kind was given under the same name.

    A setting without a default is MISSING where the former kind has none of that name.
    """
    known, asked = settings(options), {f.name: default_of(f) for f in fields(kind)}
    former = {f.name: getattr(options, f.name) for f in fields(options)}
    for name in kind.starts_new:
        known.pop(name, None)
    return {name: known.get(name, former.get(name, MISSING) if d is MISSING else d) for name, d in asked.items()}


class Kind(NamedTuple):
    """An option of the command line that chooses the kind of a config's section."""

    option: str
    """As it is typed, without the dashes: optimizer.name."""
    section: str
    """The config's field: optimizer."""
    names: Sequence[str]
    """Of all kinds."""
    type_of: Callable[[str], type[Options]]
    """The options of a kind."""
    prefix: str | None = None
    """What the names of another library's kinds begin with, which are not listed."""
    elsewhere: Mapping[str, str] = {}
    """What to say of names that are kinds of another task."""

    def has(self, name: str) -> bool:
        """Whether it is the name of a kind, as far as they are listed."""
        return name in self.names or (self.prefix is not None and name.startswith(self.prefix))


@dataclass(frozen=True, kw_only=True)
class DetectorOptions(Options):
    """What every detector lets one set; `public/detectors/<kind>/options.py` has the rest."""

    backbone: str = "resnet50"
    """A name from `public.backbones.catalog.list_backbones()` or timm:<name>, which has the levels that are needed."""
    frozen_stages: int = 0
    """Levels of the backbone, from the stem on, whose weights do not train: 0 none, 1 the stem, 2 also c2, ..."""
    frozen_batch_norm: bool = False
    """Whether the backbone's batch norms keep the statistics and weights they came with."""
    score_threshold: float = 0.05
    """Detections with a lower score are skipped."""
    max_detections: int = 100
    """Of an image."""

    def __post_init__(self) -> None:
        require_at_least("detector.frozen_stages", self.frozen_stages, 0)
        require_share("detector.score_threshold", self.score_threshold)
        require_at_least("detector.max_detections", self.max_detections, 1)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Options):
    """What every classification network lets one set; its family, `public/backbones/<family>.py`, may add to it.

    None leaves a setting at the network's own.
    """

    kind: ClassVar[str] = "any network"
    dropout: float | None = None
    """Share of the pooled features that are dropped before the classifier."""
    activation: Activation | None = None
    """What takes the place of each of the network's own activations; gates of attention stay."""
    norm: Norm | None = None
    """switch: SwitchNorm in the place of every batch norm."""

    def __post_init__(self) -> None:
        value = self.dropout
        require(value is None or 0 <= value < 1, f"network_options.dropout={value} must lie within [0, 1).")
        if self.activation is not None:
            require_one_of("network_options.activation", self.activation, get_args(Activation))
        if self.norm is not None:
            require_one_of("network_options.norm", self.norm, get_args(Norm))
