"""What several detectors let one set. `public/detectors/<kind>/options.py` has a detector's own settings.

Nothing here imports torch: a config is read and a command line's --help is printed without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from public.config.checks import require, require_at_least, require_one_of, require_share
from public.config.options import DetectorOptions
from public.geometry.layouts import Layout

Pyramid = Literal["standard", "detnet"]
"""How the levels of a pyramid are joined: see `public.detectors.pyramid`."""
SoftNMS = Literal["linear", "gaussian"]
"""How much of its score a box loses by overlapping a better one: see `public.detectors.suppression`."""


def plain_levels(levels: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Those of a pyramid's levels that every backbone's own maps lead to.

    Args:
        levels: such as p3 p4 p5 p6 p7.
        extra: those that may follow p5, all or none of them.

    Raises:
        ValueError: levels that cannot be built.
    """
    plain = [level for level in levels if level not in extra]
    in_a_row = plain == [f"p{i}" for i in range(2, 6)][-len(plain) :] if plain else False
    last = "none or both of p6, p7" if len(extra) == 2 else "p6 or not"
    require(
        in_a_row and list(levels) in (plain, [*plain, *extra]),
        f"detector.levels={tuple(levels)} cannot be built: give p2, p3 or p4 up to p5, then {last}.",
    )
    return plain


@dataclass(frozen=True, kw_only=True)
class PyramidOptions(DetectorOptions):
    """What every detector on a feature pyramid lets one set."""

    extra_levels: ClassVar[tuple[str, ...]] = ("p6", "p7")
    """Those that may follow p5, all or none of them."""

    levels: tuple[str, ...]
    """Of the pyramid."""
    channels: int = 256
    """Of the pyramid and the heads."""
    iou_threshold: float = 0.5
    """Of two boxes of one class with a higher overlap, the weaker goes (non-maximum suppression)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain_levels(self.levels, self.extra_levels)
        require_share("detector.iou_threshold", self.iou_threshold)
        require_at_least("detector.channels", self.channels, 1)


@dataclass(frozen=True, kw_only=True)
class DenseOptions(PyramidOptions):
    """What the detectors of one stage on a pyramid let one set."""

    levels: tuple[str, ...] = ("p3", "p4", "p5", "p6", "p7")
    """Of the pyramid: p2, p3 or p4 up to p5, then none or both of p6 and p7."""
    num_convs: int = 4
    """3x3 convolutions in each head's tower."""
    focal_alpha: float = 0.25
    """Weight of the positives in the focal loss."""
    focal_gamma: float = 2.0
    """Exponent of the focal loss."""
    top_k: int = 1000
    """Candidates of each level that take part in the suppression."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("detector.focal_alpha", self.focal_alpha)
        for name, lowest in (("num_convs", 0), ("focal_gamma", 0), ("top_k", 1)):
            require_at_least(f"detector.{name}", getattr(self, name), lowest)


@dataclass(frozen=True, kw_only=True)
class AnchorOptions(PyramidOptions):
    """What the detectors with anchors let one set."""

    batch_norm_eps: float | None = None
    """What the backbone's batch norms add to a variance; None: their own. torchvision's COCO_V1 weights had 0."""
    anchor_sizes: tuple[float, ...] | None = None
    """The square root of the area of each level's smallest anchors, pixels; None: the detector's own."""
    anchors: Layout = "centered"
    """Whether anchors lie around the middles of their cells (centered) or where torchvision's lie."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("detector.batch_norm_eps", self.batch_norm_eps, 0)
        require_one_of("detector.anchors", self.anchors, get_args(Layout))
        sizes = self.anchor_sizes
        require(
            sizes is None or (len(sizes) == len(self.levels) and min(sizes) > 0),
            f"detector.anchor_sizes={sizes} must be {len(self.levels)} numbers greater than 0, one for each level.",
        )
