"""Milliseconds for each part of the way from a file to a prediction, after warm-up and with synchronization."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from public.runtime.device import synchronize

LOAD = "load"


class Timing(NamedTuple):
    """Mean milliseconds of one image."""

    parts: dict[str, float]
    """load: waiting for the loader, which reads, decodes and transforms, less what its workers did meanwhile; then
    the stages in their order, the first with the copy to the device."""
    num_images: int
    """Images that the means are over."""

    def __str__(self) -> str:
        parts = " + ".join(f"{name} {value:.2f}" for name, value in self.parts.items())
        return f"{sum(self.parts.values()):.2f} ms per image: {parts} (mean of {self.num_images})"


@torch.inference_mode()
def time_inference(
    stages: Mapping[str, Callable[[Any], Any]],
    batches: Iterable[Any],
    device: torch.device,
    *,
    num_warmup: int = 3,
    num_measured: int = 20,
) -> Timing:
    """Times loading and the stages of prediction.

    Args:
        stages: by name. The first takes a batch on the device, each further one what the one before it gave.
        batches: NamedTuples of tensors, the first of which has one row per image.
        device: where the stages compute.
        num_warmup: batches skipped at first: start of workers, choice of kernels, filling of caches.
        num_measured: batches measured after them, if there are as many.

    Raises:
        ValueError: there are too few batches for even one measurement.
    """
    seconds = dict.fromkeys((LOAD, *stages), 0.0)
    num_images = 0
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        laps = {LOAD: time.perf_counter() - start}
        value: Any = None
        for position, (name, stage) in enumerate(stages.items()):
            start = time.perf_counter()
            value = stage(_on_device(batch, device) if position == 0 else value)
            synchronize(device)
            laps[name] = time.perf_counter() - start
        if number >= num_warmup:
            num_images += len(batch[0])
            seconds = {name: seconds[name] + lap for name, lap in laps.items()}
        if number + 1 >= num_warmup + num_measured:
            break
        start = time.perf_counter()
    if num_images == 0:
        raise ValueError(f"fewer than {num_warmup + 1} batches: too few to measure after {num_warmup} of warm-up.")
    return Timing({name: 1000 * value / num_images for name, value in seconds.items()}, num_images)


def _on_device(batch: Any, device: torch.device) -> Any:
    """A batch of the same kind, its tensors moved."""
    return type(batch)(*(field.to(device, non_blocking=True) for field in batch))
