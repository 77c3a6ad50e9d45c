"""What every detector of this folder is, and the wrapper that leads from pixels to detections."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from public.backbones.features import Features
from public.config.run import Checkpointing, CheckpointingChoice, RuntimeConfig
from public.datasets.batches import DetectionBatch, ImageSizes
from public.layers.depthwise import has_depthwise
from public.layers.normalize import Normalize
from public.layers.recompute import recomputing
from public.runtime.device import autocast
from public.weights.class_rows import ClassRows


class Detections(NamedTuple):
    """What was found in each image of a batch, best first."""

    boxes: Tensor
    """float32 [B, D, 4], x1 y1 x2 y2 in pixels of the original image, inside it."""
    scores: Tensor
    """float32 [B, D], falling; 0 in the rows that only fill up."""
    labels: Tensor
    """int64 [B, D], 0-based; PADDING in the rows that only fill up."""


class Detector(nn.Module):
    """A network with its targets, losses and decoding.

    A training step works out the targets of its batch once. They are a NamedTuple of tensors that all begin with the
    batch's dimension, so they can be cut into parts along it and moved as the images are.

    The losses of a batch are sums over its images divided by a normalizer, such as the number of positives. Parts of
    one global batch (several processes, gradient accumulation) each divide by the normalizer of the whole, so that the
    result is that of the whole batch in one piece.
    """

    class_prefixes: ClassVar[tuple[str, ...]]
    """What the keys of the layers begin with whose shape depends on the number of classes."""
    loss_names: ClassVar[tuple[str, ...]]
    """The names of the losses that `loss` gives."""

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """How the classes lie in these layers, by the beginnings of their keys: as many rows as classes."""
        return dict.fromkeys(self.class_prefixes, ClassRows())

    @property
    def body(self) -> Features:
        """The backbone, which classification weights fit."""
        raise NotImplementedError

    @property
    def decode_macs(self) -> int:
        """Multiply-adds of one image in `decode`, at most: those of a second stage."""
        return 0

    def forward(self, images: Tensor) -> Any:
        """Normalized images float [B, 3, H, W] -> the detector's own NamedTuple of raw outputs."""
        raise NotImplementedError

    def targets(self, batch: DetectionBatch) -> Any:
        """What the outputs for a batch should have been: the detector's own NamedTuple of tensors [B, ...]."""
        raise NotImplementedError

    def counts(self, targets: Any) -> Tensor:
        """float32 [B, K]: each image's share of what the sums of the losses are divided by, whole numbers."""
        raise NotImplementedError

    def normalizer(self, targets: Any) -> Tensor:
        """float32 [K]: what the losses of these images alone are divided by, their `counts` together, or 1."""
        return self.counts(targets).sum(0).clamp(min=1)

    def loss(self, outputs: Any, targets: Any, normalizer: Tensor | None = None) -> dict[str, Tensor]:
        """The named losses, float32 scalars, finite on images without objects.

        Args:
            outputs: of `forward`.
            targets: of the same images.
            normalizer: [K], used as it is; None: that of these images, `normalizer(targets)`.
        """
        raise NotImplementedError

    def decode(self, outputs: Any, sizes: ImageSizes) -> Detections:
        """Raw outputs to detections in the original images, after class-wise non-maximum suppression."""
        raise NotImplementedError


class ImageDetector(nn.Module):
    """A detector with normalization before it and decoding behind: pixels in, detections out.

    Args:
        detector: the bare detector, whose keys are those of `load_weights`.
        mean: of pixels scaled to 0..1, one value a channel.
        std: likewise.
        dtype: of matrix products and convolutions; losses and decoding stay float32.
        channels_last: NHWC memory layout.
        activation_checkpointing: see `RuntimeConfig`.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype,
        channels_last: bool = False,
        activation_checkpointing: CheckpointingChoice = RuntimeConfig.activation_checkpointing,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.activation_checkpointing: CheckpointingChoice = activation_checkpointing
        # Beside depthwise convolutions, which are quick, what lies between them is a tenth of a step.
        self._auto_on_gpu: Checkpointing = "off" if has_depthwise(detector) else "norms"
        self.normalize = Normalize(mean, std, channels_last=channels_last)
        self.dtype = dtype

    def computed_again(self, device: torch.device) -> Checkpointing:
        """What the backward pass computes again there.

        A CPU pays 1 to 8 % of a step for `norms`, and its process, which keeps freed memory, is hardly smaller for it.
        """
        if self.activation_checkpointing != "auto":
            return self.activation_checkpointing
        return "off" if device.type == "cpu" else self._auto_on_gpu

    def outputs(self, images: Tensor) -> Any:
        """uint8 [B, 3, H, W] -> the detector's raw outputs."""
        with autocast(images.device, self.dtype), recomputing(self.computed_again(images.device)):
            return self.detector(self.normalize(images))

    def forward(self, images: Tensor, sizes: ImageSizes) -> Detections:
        """uint8 [B, 3, H, W] and their sizes -> what is found, in the original images."""
        return self.detector.decode(self.outputs(images), sizes)
