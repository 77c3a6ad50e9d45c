"""What an optimizer step does with its losses: over all parts of the global batch, without waiting for a GPU."""

import contextlib
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from public.runtime.distributed import DistributedContext


class NonFiniteLossError(FloatingPointError):
    """A loss became infinite or NaN; raised before it could reach the weights."""


def exchanging_gradients(task: nn.Module, is_last_part: bool) -> AbstractContextManager[None]:
    """Around a part's forward and backward pass: gradients are exchanged between processes in the last part's alone."""
    waits = not is_last_part and hasattr(task, "no_sync")
    return task.no_sync() if waits else contextlib.nullcontext()  # pyright: ignore[reportCallIssue]


def means(losses: Mapping[str, Tensor], num_parts: int) -> dict[str, Tensor]:
    """Each loss as its share of the mean over a process's parts. Of nn.DataParallel it is a vector, a mean per GPU."""
    return {name: loss.mean() * (1 / num_parts) for name, loss in losses.items()}


def added(sums: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums so far with one more part's losses, float32 and without their graph."""
    return {name: sums.get(name, 0) + loss.detach().float() for name, loss in losses.items()}


def start_reading(sums: Mapping[str, Tensor], context: DistributedContext) -> Callable[[], dict[str, float]]:
    """Starts copying the losses, averaged over the processes, to the CPU; call what it gives to have them.

    Started before the backward pass is queued and read after it, they cost no waiting: the GPU is then at work on the
    backward pass, and the optimizer's kernels are queued behind it in time.
    """
    values = context.sum(torch.stack(list(sums.values()))) / context.size
    if values.device.type != "cuda":
        return lambda: dict(zip(sums, values.tolist(), strict=True))
    on_cpu = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    on_cpu.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def read() -> dict[str, float]:
        copied.synchronize()
        return dict(zip(sums, on_cpu.tolist(), strict=True))

    return read


def check_finite(losses: Mapping[str, float], *, step: int, lr: float) -> None:
    """Raises NonFiniteLossError, naming the step and the losses, unless all are finite; in every process alike."""
    if not all(math.isfinite(value) for value in losses.values()):
        named = ", ".join(f"{name}={value}" for name, value in losses.items())
        raise NonFiniteLossError(
            f"the loss is not finite at step {step} (lr {lr:.4g}): {named}. The weights are those before this "
            "step. Usual causes: too high a learning rate, no warm-up, fp16 overflow (try bf16 or fp32)."
        )
