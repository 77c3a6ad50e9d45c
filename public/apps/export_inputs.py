"""What an exported file is tried and calibrated with: pictures as its network takes them, on the file's canvas."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from public.apps.export_int8 import MOST_PICTURES
from public.backbones.trained import TrainedClassifier
from public.config.checks import require
from public.datasets.decoding import read_pixels
from public.detectors.trained import TrainedDetector

BATCHES = (2, 1, 5)
"""How many pictures the file is tried with at once."""
Network = TrainedClassifier | TrainedDetector


def canvas_for(network: Network, shown: Sequence[np.ndarray], asked: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of what the file takes.

    Raises:
        ValueError: nothing says it, or a picture does not fit.
    """
    # A wide and a tall one tell whether every picture has the same canvas.
    sizes = {
        _canvas_of(network, pixels)
        for pixels in (shown or [generated_picture(0, 120, 160), generated_picture(1, 160, 120)])
    }
    if isinstance(network, TrainedClassifier):
        require(asked is None, f"canvas={asked}: a classifier's size is what its transforms of evaluation make.")
        require(
            len(sizes) == 1, f"the transforms of evaluation make pictures of several sizes ({sizes}); a file has one."
        )
        return sizes.pop()
    require(
        bool(shown) or asked is not None or len(sizes) == 1,
        "canvas: this detector's pictures come on canvases of many sizes, and a file has one: give --canvas HEIGHT "
        "WIDTH, or --images with pictures that are to fit on it.",
    )
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    if asked is None:
        return height, width
    multiple = network.canvas_multiple
    require(not any(x % multiple for x in asked), f"canvas={asked} must be multiples of {multiple} pixels.")
    fits = not shown or (height <= asked[0] and width <= asked[1])
    require(fits, f"canvas={asked}: the pictures of images need one of {height} {width}.")
    return asked


def _canvas_of(network: Network, pixels: np.ndarray) -> tuple[int, int]:
    if isinstance(network, TrainedDetector):
        return network.canvas_size(network.prepare(pixels))
    _, height, width = network.prepare(pixels).shape
    return height, width


def batches_of(network: Network, shown: Sequence[np.ndarray], canvas: tuple[int, int]) -> list[tuple[np.ndarray, ...]]:
    """The inputs of a file, of as many pictures at once as `BATCHES` says, the shown ones in turn."""
    count = sum(BATCHES)
    shown = [shown[number % len(shown)] for number in range(count)] if shown else []
    if isinstance(network, TrainedClassifier):
        prepared = [
            network.prepare(pixels) for pixels in (shown or [generated_picture(n, *canvas) for n in range(count)])
        ]
        arrays = (torch.stack(prepared).numpy(),)
    elif shown:
        network.canvas = canvas
        images, sizes = network.gather([network.prepare(pixels) for pixels in shown])
        arrays = images.numpy(), sizes.content.numpy()
    else:
        images = np.stack([generated_picture(number, *canvas) for number in range(count)]).transpose(0, 3, 1, 2)
        filled = np.random.default_rng(0).uniform(0.6, 1, (count, 2))
        arrays = images, (filled * canvas).astype(np.int64)
    parts = [np.split(array, np.cumsum(BATCHES)[:-1]) for array in arrays]
    return list(zip(*parts, strict=True))


def generated_picture(seed: int, height: int, width: int) -> np.ndarray:
    """A generated picture, uint8 [H, W, 3]: spots of all sizes, so that its pixels make a difference."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (rng.integers(3, 12), rng.integers(3, 12), 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def calibration(
    network: Network, pictures: Sequence[Path], canvas: tuple[int, int]
) -> Iterator[tuple[np.ndarray, ...]]:
    """The inputs of a file for pictures, evenly chosen where they are too many, one at a time."""
    step = -(-len(pictures) // MOST_PICTURES)
    for path in pictures[::step]:
        prepared: Any = network.prepare(read_pixels(path))
        if isinstance(network, TrainedClassifier):
            yield (prepared[None].numpy(),)
            continue
        height, width = prepared.sample.image.shape[:2]
        require(
            height <= canvas[0] and width <= canvas[1],
            f"calibrate: {path} needs a canvas of {height} {width}, and the file's is {canvas[0]} {canvas[1]}.",
        )
        network.canvas = canvas
        images, sizes = network.gather([prepared])
        yield images.numpy(), sizes.content.numpy()
