"""What both recipes carry through a run, and the training half of an epoch, which is the same for every task."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from public.config.record import result_record
from public.config.sections import RunConfig
from public.evaluation.plots import draw_curves
from public.optim.schedules import lr_factor
from public.optim.train_state import TrainState
from public.optim.update import Updater
from public.runtime.distributed import World
from public.runtime.interruption import Interruption
from public.runtime.progress import Progress, clock
from public.runtime.run_folder import RunFolder, going_on_when_disk_is_full

logger = logging.getLogger(__name__)


class TrainBatches(Protocol):
    """A loader of training batches: tuples of tensors, each with the batch as its first dimension."""

    steps_per_epoch: int

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Sequence[Tensor]]:
        """The batches of one epoch from `first_step` on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run, as one process sees it."""

    config: RunConfig
    world: World
    loader: TrainBatches
    class_names: list[str]
    num_images: int
    """Training images of the whole data set."""
    folder: RunFolder
    state: TrainState
    interruption: Interruption

    @property
    def identity(self) -> dict[str, Any]:
        """What a run shares with every checkpoint that it can go on from."""
        names = {"class_names": self.class_names, "num_images": self.num_images}
        return {"name": self.config.name, "config": result_record(self.config)} | names

    @property
    def global_step(self) -> int:
        """Optimizer steps since the beginning."""
        return self.state.epoch * self.loader.steps_per_epoch + self.state.step

    def lr(self, step: int) -> float:
        """The learning rate of an optimizer step, counted from the beginning."""
        config, steps = self.config, self.loader.steps_per_epoch
        return config.optimizer.lr * lr_factor(config.schedule, step, epochs=config.epochs, steps_per_epoch=steps)

    def save(self, path: Path) -> None:
        """Writes a checkpoint; every process must call it."""
        self.state.save(path, self.world, self.identity)

    def evaluation_is_due(self) -> bool:
        """Whether the present epoch ends with an evaluation: every so many, and the last."""
        done = self.state.epoch + 1
        return done % self.config.evaluate_every == 0 or done == self.config.epochs


def train_epoch(run: Run, updater: Updater) -> dict[str, float]:
    """Takes the steps that are left of the present epoch.

    Returns:
        The epoch's row so far: number, learning rate of its last step, mean losses, speed.

    Raises:
        Stopped: a signal asked for it; the checkpoint is written.
    """
    state, config, device = run.state, run.config, run.world.device
    steps = run.loader.steps_per_epoch
    title = f"epoch {state.epoch + 1}/{config.epochs}"
    progress = Progress(title, steps, state.step, config.runtime.log_every, run.world.is_main)
    batches = run.loader.epoch(state.epoch, state.step) if state.step < steps else ()
    for batch in progress.timed(batches):
        parts = zip(*(t.to(device, non_blocking=True).chunk(config.accumulation_steps) for t in batch), strict=True)
        lr = run.lr(run.global_step)
        losses = updater.step(list(parts), lr=lr, step=run.global_step)
        state.add_losses(losses)
        progress.advance(config.batch_size, lambda lr=lr, losses=losses: _describe(losses, lr))
        if state.step % config.runtime.log_every == 0:
            run.folder.write_scalars("step", losses | {"lr": lr}, run.global_step)
        decision = run.interruption.poll()
        if decision.save or decision.stop_signal:
            run.save(run.folder.latest)
        run.interruption.stop_if_asked(decision)
    progress.close()
    losses = state.mean_losses()
    row = {"epoch": state.epoch + 1, "lr": run.lr(run.global_step - 1), "train_loss": sum(losses.values())}
    row |= {f"train_{name}": value for name, value in losses.items()} if len(losses) > 1 else {}
    return row | {
        "images_per_second": round(progress.images_per_second, 1),
        "data_wait_share": round(progress.wait_share, 4),
        "train_seconds": round(progress.seconds, 1),
    }


def _describe(losses: dict[str, float], lr: float) -> str:
    """The losses of a step and its learning rate, for a progress line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in losses.items()) + f"  lr {lr:.4g}"


def finish_epoch(
    run: Run, row: dict[str, Any], *, best_metric: str, panels: Sequence[tuple[str, Sequence[str]]]
) -> None:
    """Writes the epoch's row, curves and checkpoints, and turns to the next epoch.

    Args:
        run: the run.
        row: the epoch's row; without `best_metric` where it was not evaluated.
        best_metric: the metric that chooses best.pth.
        panels: of curves.png.
    """
    state = run.state
    is_best = best_metric in row and state.is_better(row, best_metric)
    if is_best:
        state.best = row
    state.finish_epoch(row)
    run.folder.write_row(row)
    run.folder.write_scalars("epoch", {k: v for k, v in row.items() if k != "epoch"}, run.global_step)
    if run.world.is_main:
        with going_on_when_disk_is_full("curves.png"):
            draw_curves(run.folder.path / "curves.png", state.history, panels, title=run.config.name)
    # best.pth first: a kill between the two repeats the epoch's evaluation and writes best.pth again.
    if is_best:
        run.save(run.folder.best)
    run.save(run.folder.latest)
    left = (run.config.epochs - state.epoch) * row["train_seconds"]
    numbers = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k in {n for _, names in panels for n in names})
    logger.info(
        f"epoch {state.epoch}/{run.config.epochs}  {numbers}{'  (best)' if is_best else ''}  left {clock(left)}"
    )


def polled(run: Run, num_images: int, batch_size: int) -> Callable[[], None]:
    """A function to call after each evaluated batch: it stops the run where a signal asked for it.

    All processes have to take part in a decision, and their shares differ by an image: only the batches that every
    process has are counted.
    """
    left = num_images // run.world.size // batch_size

    def after_batch() -> None:
        nonlocal left
        if left > 0:
            left -= 1
            run.interruption.stop_if_asked(run.interruption.poll())

    return after_batch
