"""The config of an image classification run: everything that `public/recipes/classification.py` needs to know."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from public.config.sections import RunConfig, require

# Transforms are constructed objects: they are written in config.py and not on the command line.
TransformList = Annotated[tuple[Callable[..., Any], ...], tyro.conf.Suppress]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ClassificationDataConfig:
    """Which images, and what is done to them."""

    dataset: Literal["imagenet", "cifar100"]
    """imagenet: folders train/<class>/ and val/<class>/ of image files; cifar100: cifar-100-python/ pickles."""
    folder: str
    """Where the data set lies: an absolute path, or one below DATA_ROOT."""
    train_transforms: TransformList
    """imagenet: torchvision v2 transforms of one image; cifar100: transforms of a whole batch."""
    val_transforms: TransformList = ()
    """The same for evaluation; they must not be random."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted on the device from pixels scaled to 0..1, red green blue."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Divided by on the device."""
    decoder: Literal["opencv", "pil"] | None = None
    """imagenet only: opencv (None) decodes to tensors; pil resizes as the published numbers were, slower."""
    download: bool | None = None
    """cifar100 only: fetch the published archive (and verify it) if the folder does not hold it."""
    published_archive: bool | None = None
    """cifar100 only: True accepts the published files alone (by checksum), None the generated sample too, False any
    files of the same layout."""

    def __post_init__(self) -> None:
        require(all(s > 0 for s in self.std), f"data.std={self.std} must be above 0.")
        ignored = {
            "imagenet": {"download": self.download, "published_archive": self.published_archive},
            "cifar100": {"decoder": self.decoder},
        }[self.dataset]
        for name, value in ignored.items():
            require(value is None, f"data.{name}={value!r} has no effect with data.dataset={self.dataset!r}.")


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(RunConfig):
    """One row of a results table: a network, a data set and the recipe that joins them."""

    input_size: int
    """Height and width of the network's input in pixels (for counting multiply-adds; the transforms make it)."""
    best_metric: Literal["top1", "top5", "loss"] = "top1"
    """The validation metric that chooses best.pth: highest top1 or top5 (fractions), lowest loss."""
    data: ClassificationDataConfig
    """Which images, and what is done to them."""
