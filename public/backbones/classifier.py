"""A classification network that takes images as loaders hand them over."""

from collections.abc import Sequence

import torch
from torch import nn

from public.config.run import CheckpointingChoice, RuntimeConfig
from public.layers.normalize import Normalize
from public.layers.recompute import recomputing
from public.runtime.device import autocast


class ImageClassifier(nn.Module):
    """Normalization, precision and network in one module, so that training and testing compute the same.

    Args:
        network: gives logits [B, num_classes] for images [B, 3, H, W].
        mean: of pixels scaled to 0..1, red green blue.
        std: likewise.
        dtype: of matrix products and convolutions.
        channels_last: NHWC memory layout of images.
        activation_checkpointing: see `RuntimeConfig`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        activation_checkpointing: CheckpointingChoice = RuntimeConfig.activation_checkpointing,
    ) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        self.activation_checkpointing: CheckpointingChoice = activation_checkpointing
        self.normalize = Normalize(mean, std, channels_last=channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, H, W] -> float32 logits [B, num_classes]."""
        computed_again = "off" if self.activation_checkpointing == "auto" else self.activation_checkpointing
        # Inside the module, because the threads of nn.DataParallel do not inherit the caller's autocast dtype.
        with autocast(images.device, self.dtype), recomputing(computed_again):
            return self.network(self.normalize(images)).float()
