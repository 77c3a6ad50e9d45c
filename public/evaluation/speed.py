"""Milliseconds for each part of the way from a file to a prediction, after warm-up and with synchronisation."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from public.runtime.device import synchronize


class Timing(NamedTuple):
    """Mean milliseconds of one image."""

    load: float
    """Waiting for the loader: reading, decoding and transforming, less what its workers did meanwhile."""
    forward: float
    """From uint8 pixels in memory to logits, with the copy to the device."""
    num_images: int
    """Images that the means are over."""

    def __str__(self) -> str:
        total = self.load + self.forward
        return f"{total:.2f} ms an image: load {self.load:.2f} + forward {self.forward:.2f} (mean of {self.num_images})"


@torch.inference_mode()
def time_inference(
    predict: Callable[[torch.Tensor], Any],
    batches: Iterable[Any],
    device: torch.device,
    *,
    num_warmup: int = 3,
    num_measured: int = 20,
) -> Timing:
    """Times loading and prediction of batches.

    Args:
        predict: takes images on the device.
        batches: their first element is the images, uint8 [B, 3, H, W].
        device: where `predict` computes.
        num_warmup: batches left out at first: start of workers, choice of kernels, filling of caches.
        num_measured: batches measured after them, if there are as many.

    Raises:
        ValueError: there are too few batches for even one measurement.
    """
    load = forward = 0.0
    num_images = 0
    start = time.perf_counter()
    for number, (images, *_) in enumerate(batches):
        loaded = time.perf_counter()
        predict(images.to(device, non_blocking=True))
        synchronize(device)
        done = time.perf_counter()
        if number >= num_warmup:
            load, forward, num_images = (
                load + loaded - start,
                forward + done - loaded,
                num_images + len(images),
            )
        if number + 1 >= num_warmup + num_measured:
            break
        start = time.perf_counter()
    if num_images == 0:
        raise ValueError(f"fewer than {num_warmup + 1} batches: too few to measure after {num_warmup} of warm-up.")
    return Timing(1000 * load / num_images, 1000 * forward / num_images, num_images)
