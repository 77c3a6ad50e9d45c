"""Transforms of one image which torchvision does not have, or which are faster here for what our loaders hand them.

torchvision's own are used as they are: RandomRotation, ColorJitter, AutoAugment, RandAugment, TrivialAugmentWide.
"""

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

IMAGENET_MEAN_COLOR = (124, 116, 104)
"""The mean pixel of ImageNet, 255 x (0.485, 0.456, 0.406) rounded: red green blue."""


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


class Cutout(v2.Transform):
    """Covers a square of the image, around a pixel that is as likely as any other.

    DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552: what lies outside the image is lost, so that some images
    keep nearly all of themselves.

    Args:
        size: side of the square, pixels.
        fill: its color, red green blue: the data set's mean, which normalization makes zero.
    """

    def __init__(self, size: int, fill: tuple[int, int, int] = IMAGENET_MEAN_COLOR) -> None:
        super().__init__()
        self.size, self.fill = size, fill

    def forward(self, *inputs: Any) -> Any:
        """uint8 [3, H, W], or a PIL image -> the same kind, of the same size; the input is left as it was."""
        (image,) = inputs
        height, width = functional.get_size(image)
        top, left = (int(torch.randint(side, ())) - self.size // 2 for side in (height, width))
        box = (max(left, 0), max(top, 0), min(left + self.size, width), min(top + self.size, height))
        return _covered(image, box, torch.tensor(self.fill, dtype=torch.uint8).view(3, 1, 1))


class RandomErasing(v2.Transform):
    """Covers a rectangle of some of the images with random pixels.

    Zhong et al. 2017, https://arxiv.org/abs/1708.04896, algorithm 1, with a random value from 0 to 255 for each pixel
    (their RE-R): rectangles are drawn until one lies within the image, here ten times at most. torchvision's has
    random values for normalized images only.

    Args:
        probability: share of the images that are covered.
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest height / width.
    """

    def __init__(
        self,
        probability: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.4),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
    ) -> None:
        super().__init__()
        self.probability, self.scale, self.ratio = probability, scale, ratio

    def forward(self, *inputs: Any) -> Any:
        """uint8 [3, H, W], or a PIL image -> the same kind, of the same size; the input is left as it was."""
        (image,) = inputs
        height, width = functional.get_size(image)
        box = self._box(height, width) if torch.rand(()) < self.probability else None
        if box is None:
            return image
        left, top, right, bottom = box
        noise = torch.randint(256, (3, bottom - top, right - left), dtype=torch.uint8)
        return _covered(image, box, noise)

    def _box(self, height: int, width: int) -> tuple[int, int, int, int] | None:
        """A rectangle within the image, x1 y1 x2 y2; None where none was found."""
        for _ in range(10):
            area, ratio, y, x = torch.rand(4, dtype=torch.float64).tolist()
            area = (self.scale[0] + area * (self.scale[1] - self.scale[0])) * height * width
            ratio = self.ratio[0] + ratio * (self.ratio[1] - self.ratio[0])
            left, top = int(x * width), int(y * height)
            right, bottom = left + int((area / ratio) ** 0.5), top + int((area * ratio) ** 0.5)
            if right <= width and bottom <= height:
                return left, top, right, bottom
        return None


def _covered(image: Any, box: tuple[int, int, int, int], colors: Tensor) -> Any:
    """A copy of the image with colors uint8 [3, h or 1, w or 1] in a box x1 y1 x2 y2."""
    if isinstance(image, Image.Image):
        return functional.to_pil_image(_covered(functional.pil_to_tensor(image), box, colors))
    left, top, right, bottom = box
    covered = image.clone()
    covered[:, top:bottom, left:right] = colors
    return covered
