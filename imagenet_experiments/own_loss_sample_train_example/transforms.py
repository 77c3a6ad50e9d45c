"""A transform of one image: any class with plain arguments, called with uint8 [3, H, W]."""

import torch


class RandomInvert:
    """Turns some of the images into their negatives. Draws come from torch's generator, seeded for each image.

    Args:
        probability: share of the images.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 [3, H, W] -> [3, H, W]."""
        return 255 - image if torch.rand(()) < self.probability else image
