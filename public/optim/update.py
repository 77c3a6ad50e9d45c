"""One optimizer update, the same for every task: forward, backward, check, clip, step, average."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from public.optim.ema import AveragedWeights
from public.runtime.distributed import World

Parts = Sequence[Sequence[Any]]
"""The parts of a process's batch, one for each accumulation step, each the fields of a batch."""


class NonFiniteLossError(FloatingPointError):
    """A loss became infinite or NaN; raised before it could reach the weights."""


class Updater:
    """Takes optimizer steps.

    Args:
        task: the wrapped training module: `task(*batch)` gives a dict of named losses, each a mean over its images.
        network: the network inside it, for clipping and averaging.
        optimizer: over the network's parameters.
        world: this process's place.
        dtype: of the task's matrix products and convolutions; float16 gets a loss scale.
        clip_grad_norm: largest norm of the whole gradient, or None.
        ema: averaged weights to update, or None.
        prepare: turns the parts of a batch, on the device, into what the task takes, given the number of the step;
            every process calls it once a step.
    """

    def __init__(
        self,
        task: nn.Module,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        world: World,
        *,
        dtype: torch.dtype,
        clip_grad_norm: float | None = None,
        ema: AveragedWeights | None = None,
        prepare: Callable[[Parts, int], Parts] = lambda parts, step: parts,
    ) -> None:
        self.task, self.network, self.optimizer, self.world = task, network, optimizer, world
        self.clip_grad_norm, self.ema, self.prepare = clip_grad_norm, ema, prepare
        # Only fp16 has gradients small enough to vanish; disabled, the scaler passes everything through.
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=dtype == torch.float16)

    def step(self, batches: Parts, *, lr: float, step: int) -> dict[str, float]:
        """One update from the gradients of all `batches`, which have equal sizes (gradient accumulation).

        Returns:
            The named losses over the global batch, before the update.

        Raises:
            NonFiniteLossError: naming the step and the losses, in every process; the weights are untouched.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        values = self._backward(self.prepare(batches, step))
        if not all(math.isfinite(v) for v in values.values()):
            named = ", ".join(f"{name}={value}" for name, value in values.items())
            raise NonFiniteLossError(
                f"the loss is not finite at step {step} (lr {lr:.4g}): {named}. The weights are those before this "
                "step. Usual causes: too high a learning rate, no warm-up, fp16 overflow (try bf16 or fp32)."
            )
        self.scaler.unscale_(self.optimizer)  # for clipping, and for what is attached to the optimizer's step
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.network)
        return values

    def _backward(self, batches: Parts) -> dict[str, float]:
        """Adds up the gradients of the batches, and gives the named losses over the global batch."""
        share = 1 / len(batches)
        sums: dict[str, torch.Tensor] = {}
        read: Callable[[], dict[str, float]] = dict
        for number, batch in enumerate(batches, start=1):
            is_last = number == len(batches)
            # Gradients are exchanged between processes once per update, in the last backward pass.
            waits = not is_last and hasattr(self.task, "no_sync")
            with self.task.no_sync() if waits else contextlib.nullcontext():  # pyright: ignore
                # Under nn.DataParallel each loss is a vector with one mean per GPU.
                losses = {name: loss.mean() * share for name, loss in self.task(*batch).items()}
                for name, loss in losses.items():
                    sums[name] = sums.get(name, 0) + loss.detach().float()
                if is_last:
                    read = self._start_reading(sums)
                self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        return read()

    def _start_reading(self, sums: dict[str, torch.Tensor]) -> Callable[[], dict[str, float]]:
        """Starts copying the losses to the CPU before the backward pass is queued.

        Read after that, they cost no waiting: the GPU is then at work on the backward pass, and the optimizer's
        kernels are queued behind it in time.
        """
        values = self.world.sum(torch.stack(list(sums.values()))) / self.world.size
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
