"""What every data set's options have, whatever its format and task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from public.config.calls import Call
from public.config.checks import require, require_side
from public.config.options import Options

# Transforms are written in config.py and not on the command line, whose parser would take a Call apart.
if TYPE_CHECKING:
    Calls = tuple[Call, ...]
else:
    Calls = Annotated[tuple[Callable[..., Any], ...], tyro.conf.Suppress]
KeptNames = Annotated[tuple[str, ...] | None, tyro.conf.Suppress]
"""What a run finds out and keeps."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_PIXELS = 2**28
"""Of a picture, unless a setting says otherwise: 0.8 GB once it is decoded."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """Which images, and what is done to them; each format, `public/datasets/<format>.py`, adds its own settings."""

    folder: str
    """Where the data set lies: an absolute path, or one below DATA_ROOT."""
    input_size: int
    """Height and width of what the network sees, pixels (of detectors with a short-side resize: the short side). The
    transforms that are listed with SIZE or Scaled follow it."""
    train_transforms: Calls
    """What is done to a training image, in this order."""
    val_transforms: Calls = ()
    """The same for evaluation; nothing random."""
    val_fraction: float | None = None
    """Where the data has no validation split: the share of its images that becomes one, chosen by a hash of their names
    (of classified images: of each class). None: data without the split is refused."""
    val_images: KeptNames = None
    """The images so chosen, as paths below the folder that the format reads: they stay when others are added."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted on the device from pixels scaled to 0..1, red green blue."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Divided by on the device."""

    max_pixels: int = MAX_PIXELS
    """A picture of more pixels is refused before it is decoded: one of 1 MB can take gigabytes."""

    def __post_init__(self) -> None:
        require(self.max_pixels >= 1, f"data.max_pixels={self.max_pixels} must be 1 or more.")
        require(all(s > 0 for s in self.std), f"data.std={self.std} must be above 0.")
        require_side("data.input_size", self.input_size)
        share = self.val_fraction
        require(
            share is None or 0 < share < 1, f"data.val_fraction={share} must lie within (0, 1) (None: no division)."
        )
        for name in ("train_transforms", "val_transforms"):
            for transform in getattr(self, name):
                # Made here, a transform could be neither compared nor recorded.
                is_call = isinstance(transform, Call)
                require(is_call, f"data.{name} holds {transform!r}: list it as Call(<class>, <argument>=...).")
