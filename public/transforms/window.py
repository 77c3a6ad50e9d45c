"""A transform of image and boxes that looks at a square of the picture: CenterNet's random scale and place."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from public.transforms.detection import DetectionSample, filled, kept_boxes


@dataclass(frozen=True, kw_only=True)
class RandomSquareWindow:
    """A square around a random point of the picture, which may reach over its edges; the resize to the canvas follows.

    Zhou et al. 2019, https://arxiv.org/abs/1904.07850, section 5, with the numbers of the authors' program. Objects are
    cut at the square's sides, however little of them stays; those of which nothing stays are left out. Deviation from
    the program: what lies beside the picture is FILL instead of black, and the square's corner is a whole pixel.
    """

    scales: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
    """The square's side as a part of the picture's long side, all equally likely."""
    border: int = 128
    """How far from the picture's edges its middle stays, pixels; halved until that leaves a place."""
    num_draws: ClassVar[int] = 3
    per_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"{self}: scales must be one or more numbers above 0.")
        if not isinstance(self.border, int) or self.border < 0:
            raise ValueError(f"{self}: border must be a whole number of pixels, 0 or more.")

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [side, side, 3]; draws: the scale, the middle's row, its column."""
        height, width = sample.content_size
        side = max(round(max(height, width) * self.scales[int(draws[0] * len(self.scales))]), 1)
        top, left = self._middle(height, draws[1]) - side // 2, self._middle(width, draws[2]) - side // 2
        y1, y2, x1, x2 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
        window = filled(side, side)
        window[y1 - top : y2 - top, x1 - left : x2 - left] = sample.image[y1:y2, x1:x2]
        return kept_boxes(window, sample.boxes - np.array([left, top] * 2, dtype=np.float32), sample.labels)

    def _middle(self, length: int, draw: float) -> int:
        """The pixel of a side in which the square's middle lies."""
        border = self.border
        while length <= 2 * border:
            border //= 2
        return border + int(draw * (length - 2 * border))
