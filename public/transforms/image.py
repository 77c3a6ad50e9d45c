"""Transforms of one image that torchvision has too, made faster for what our loaders hand them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import v2


class RandomResizedCrop(v2.RandomResizedCrop):
    """torchvision's (bilinear, antialiased), to the last bit and with the same draws, in half the time.

    Decoded pixels lie in memory as [H, W, 3]. torch resizes those fastest and keeps them so, but loses sight of the
    layout in torchvision's cropped view, and gives a planar image that has to be turned round again for the batch.

    Args:
        size: height and width of the result.
        scale: smallest and largest part of the image's area that is cut out.
        ratio: smallest and largest width / height of that part.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        super().__init__(size, scale, ratio)

    def forward(self, *inputs: Any) -> Any:
        """uint8 [3, H, W] -> [3, size, size]; anything else (a PIL image) as in torchvision."""
        image = inputs[0]
        if len(inputs) != 1 or type(image) is not Tensor or image.dtype != torch.uint8 or image.ndim != 3:
            return super().forward(*inputs)
        box = self.make_params([image])
        top, left = box["top"], box["left"]
        part = image[:, top : top + box["height"], left : left + box["width"]]
        part = part.permute(1, 2, 0)[None].permute(0, 3, 1, 2)  # [1, 3, h, w] with the strides of [1, h, w, 3]
        size = tuple(self.size)  # pyright: ignore[reportArgumentType] - torchvision has made it a pair
        return interpolate(part, size, mode="bilinear", antialias=True)[0]
