"""What the families' options have in common. A family's own options stand in its file, beside the network they set.

A setting of None is the network's own: it is not passed on, and its default stands in the network's constructor alone.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from public.config.checks import require
from public.config.options import NetworkOptions


@dataclass(frozen=True, kw_only=True)
class DropPathOptions(NetworkOptions):
    """Of a family whose blocks can be skipped."""

    kind: ClassVar[str] = "any network with drop_path"
    drop_path: float | None = None
    """Share of the training images that skip the last block; it grows linearly with depth. None: 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.drop_path
        require(value is None or 0 <= value < 1, f"network_options.drop_path={value} must lie within [0, 1).")


@dataclass(frozen=True, kw_only=True)
class NormEpsOptions(DropPathOptions):
    """Of a family whose blocks can be skipped, and whose weights come with different epsilons."""

    kind: ClassVar[str] = "any network with norm_eps"
    norm_eps: float | None = None
    """Epsilon of the batch norms."""

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.norm_eps
        require(value is None or value > 0, f"network_options.norm_eps={value} must be greater than 0.")


def own_settings(kind: type[NetworkOptions]) -> list[str]:
    """The names of what a family's constructors take, beyond what is done to a network of any family once it is built.

    Dropout is among them where the family states it anew: it has a layer for it.
    """
    above = NetworkOptions.__mro__
    stated = {name for owner in kind.__mro__ if owner not in above for name in owner.__annotations__}
    return [f.name for f in fields(kind) if f.name in stated]


def given(options: NetworkOptions | None) -> dict[str, Any]:
    """The settings by name that are not left to the network, as keyword arguments of its constructor."""
    if options is None:
        return {}
    values = {f.name: getattr(options, f.name) for f in fields(options)}
    return {name: value for name, value in values.items() if value is not None}
