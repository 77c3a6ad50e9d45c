"""The config of an image classification run: everything that `public/recipes/classification.py` needs to know."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from public.config.checks import require, require_one_of
from public.config.data import DataOptions
from public.config.options import NetworkOptions
from public.config.run import RunConfig

Loss = Literal["cross_entropy", "binary_cross_entropy"]
"""The keys of `public.losses.classification.LOSSES`."""


@dataclass(frozen=True, kw_only=True)
class ClassificationData(DataOptions):
    """Which images, and what is done to them. Its kinds are the formats of `public/datasets/image_formats.py`."""

    repeated_augmentation: int | None = None
    """How many times, augmented differently, a batch holds each of its images; an epoch keeps its number of steps and
    then sees only 1 / so many of the images. None: once."""

    balance: float | None = None
    """Images of rare classes come more often, and those of frequent ones less: 1: every class equally often; 0.5: by
    the square root of its number of images. An epoch keeps its number of images. None: each once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        balance = self.balance
        require(balance is None or 0 < balance <= 1, f"data.balance={balance} must lie within (0, 1] (None: off).")
        repeats = self.repeated_augmentation
        require(
            repeats is None or repeats >= 2,
            f"data.repeated_augmentation={repeats} must be 2 or more (None: each image once).",
        )


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """Training on mixtures of two images each: `public/transforms/mixing.py`. With both, each step draws which."""

    mixup_alpha: float | None = None
    """Mixup's parameter of the beta distribution of the two images' shares (ImageNet: 0.2); None: no mixup."""
    cutmix_alpha: float | None = None
    """CutMix's (ImageNet and CIFAR: 1); None: no CutMix."""
    probability: float | None = None
    """Share of the steps that mix (CutMix on CIFAR: 0.5); None means all."""

    def __post_init__(self) -> None:
        for name in ("mixup_alpha", "cutmix_alpha"):
            alpha = getattr(self, name)
            require(alpha is None or alpha > 0, f"mixing.{name}={alpha} must be greater than 0 (None: off).")
        require(
            self.probability is None or 0 < self.probability <= 1,
            f"mixing.probability={self.probability} must lie within (0, 1].",
        )
        require(
            self.probability is None or self.is_on,
            f"mixing.probability={self.probability} has no effect without mixing.mixup_alpha or mixing.cutmix_alpha.",
        )

    @property
    def is_on(self) -> bool:
        """Whether any images are mixed."""
        return self.mixup_alpha is not None or self.cutmix_alpha is not None


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(RunConfig):
    """One row of a results table: a network, a data set and the recipe that joins them."""

    network: str
    """A name from `public.backbones.catalog.list_backbones()`, or timm:<name>."""
    start_size: int | None = None
    """Progressive image size: height and width to which training images are shrunk in the first epochs; it grows in
    steps of 32, each for as many epochs, to data.input_size in the last. None: that all along."""
    best_metric: Literal["top1", "top5", "loss"] = "top1"
    """The validation metric that chooses best.pth: highest top1 or top5 (fractions), lowest loss."""
    loss: Loss = "cross_entropy"
    """Of training. Over all classes, of which an image has one; or binary, of each class by itself, the mean over
    images and classes: its gradients are smaller by about the number of classes. The validation's is over all."""
    label_smoothing: float | None = None
    """Share of the target that is spread evenly over all classes (usually 0.1); None means none."""
    drop_block: float | None = None
    """Share of the units that DropBlock zeroes behind the norms of the deepest level at the end of the run, and a
    quarter as many in the level before; it grows linearly from 0. None: no DropBlock."""
    drop_block_size: int | None = None
    """Side of DropBlock's squares, steps of the feature map; None means 7."""
    mixing: MixingConfig = field(default_factory=MixingConfig)
    """Training on mixtures of two images each."""
    network_options: NetworkOptions = field(default_factory=NetworkOptions)
    """How the network differs from what its family gives."""
    data: ClassificationData
    """Which images, and what is done to them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("loss", self.loss, get_args(Loss))
        for name in ("label_smoothing", "drop_block"):
            value = getattr(self, name)
            require(value is None or 0 < value < 1, f"{name}={value} must lie within (0, 1) (None: none).")
        size = self.drop_block_size
        require(size is None or size >= 1, f"drop_block_size={size} must be 1 or more.")
        require(
            size is None or self.drop_block is not None, f"drop_block_size={size} has no effect without drop_block."
        )
        require(
            not (self.sync_batch_norm and self.network_options.norm),
            f"sync_batch_norm=True has no effect with network_options.norm={self.network_options.norm!r}: no batch "
            "norm is left.",
        )
        repeats = self.data.repeated_augmentation or 1
        require(
            self.batch_size % repeats == 0,
            f"batch_size={self.batch_size} must be divisible by data.repeated_augmentation={repeats}.",
        )
        self._check_start_size()

    def _check_start_size(self) -> None:
        start, full = self.start_size, self.data.input_size
        require(
            start is None or (32 <= start < full and (full - start) % 32 == 0),
            f"start_size={start} must be 32 or more and a multiple of 32 below data.input_size={full} (None: that all "
            "along).",
        )

    def local_batch_size(self, num_processes: int) -> int:
        """As in every run; an even number where images are mixed two by two."""
        size = super().local_batch_size(num_processes)
        require(
            size % 2 == 0 or not self.mixing.is_on,
            f"mixing pairs the images of each forward pass, and batch_size={self.batch_size} over {num_processes} "
            f"processes x {self.accumulation_steps} accumulation_steps gives an odd number, {size}.",
        )
        return size

    def train_size(self, epoch: int) -> int:
        """Height and width of the training images of an epoch, counted from 0."""
        full = self.data.input_size
        start = full if self.start_size is None else self.start_size
        num_sizes = (full - start) // 32 + 1
        # The last epoch always has the last size, however few epochs there are.
        return start + 32 * (math.ceil((epoch + 1) * num_sizes / self.epochs) - 1)
