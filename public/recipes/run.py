"""What a training run carries from its first step to its last, as one process sees it."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from public.config.run import RunConfig
from public.optim.schedules import lr_factor
from public.optim.train_state import TrainState
from public.recipes.task import Data, Evaluated, Panels, Task, split
from public.runtime.device import device_name
from public.runtime.distributed import DistributedContext
from public.runtime.interruption import Interruption
from public.runtime.progress import Progress
from public.runtime.run_folder import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run."""

    config: Any
    """The row: a `RunConfig` with the `best_metric` of its task."""
    context: DistributedContext
    task: Task
    wrapped: nn.Module
    """The task as the loop calls it: for all of the run's devices, perhaps compiled."""
    data: Data
    folder: RunFolder
    state: TrainState
    evaluated: nn.Module
    """What is evaluated: the task's model, or one of the averaged weights."""
    interruption: Interruption
    identity: dict[str, Any]
    """What a run shares with every checkpoint that it can resume from; it is written into each."""
    how_to_test: str
    """The command that evaluates this very run."""

    @property
    def panels(self) -> Panels:
        """Of curves.png."""
        return self.task.panels

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.data.train.steps_per_epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps since the beginning."""
        return self.state.epoch * self.steps_per_epoch + self.state.step

    def lr(self, step: int) -> float:
        """The learning rate of an optimizer step, counted from the beginning."""
        config: RunConfig = self.config
        factor = lr_factor(config.schedule, step, epochs=config.epochs, steps_per_epoch=self.steps_per_epoch)
        return config.optimizer.lr * factor

    def batches(self) -> Iterable[Any]:
        """This process's batches of the present epoch, from the present step on."""
        left = self.state.step < self.steps_per_epoch
        return self.task.agreed(self.data.train.epoch(self.state.epoch, self.state.step)) if left else ()

    def parts(self, batch: Any) -> list[Any]:
        """A batch on the device, cut for the accumulation steps."""
        return split(batch, self.config.accumulation_steps, self.context.device)

    def save(self, path: Path) -> bool:
        """Writes a checkpoint; every process must call it, and learns whether it could be written."""
        return self.state.save(path, self.context, {**self.identity, **self.task.measured})

    def save_or_tell(self, path: Path) -> None:
        """Writes a checkpoint within an epoch; says what a stop costs where it could not be written."""
        if not self.save(path) and self.context.is_main:
            there = self.folder.latest.is_file()
            logger.error(
                f"epoch {self.state.epoch + 1} after step {self.state.step} is not saved: a run that resumes "
                f"{'goes back to the checkpoint before it' if there else 'starts over'}."
            )

    @property
    def last_weights(self) -> str:
        """Where the last weights lie that were written, as a sentence."""
        if not self.folder.latest.is_file():
            return "No checkpoint was written yet."
        return f"The last weights that were written, all finite, are in {self.folder.latest}."

    def evaluation_is_due(self) -> bool:
        """Whether the present epoch ends with an evaluation: every so many, and the last."""
        done = self.state.epoch + 1
        return done % self.config.evaluate_every == 0 or done == self.config.epochs

    def evaluate(self) -> dict[str, float]:
        """The metrics of the present weights, over all processes, with progress lines; a signal can stop it.

        Raises:
            Stopped: a signal asked for it.
        """
        loader, log_every = self.data.val, self.config.runtime.log_every
        self.context.broadcast_buffers(self.evaluated)
        progress = Progress("evaluate", len(loader), 0, max(log_every, len(loader) // 4), self.context.is_main)
        # All processes have to take part in a decision, and their shares differ by a batch: only the batches that every
        # process has are counted.
        polls_left = loader.common_batches

        def after_batch(num_done: int) -> None:
            nonlocal polls_left
            progress.advance(num_done * self.context.size)
            if polls_left > 0:
                polls_left -= 1
                self.interruption.stop_if_asked(self.interruption.poll())

        def batches() -> Iterator[Any]:
            yield from progress.timed(loader)
            progress.close()

        epoch = self.state.epoch + 1
        where = Evaluated(self.evaluated, batches(), after_batch, self.context, self.folder.path, epoch)
        return self.task.evaluate(where)

    def log_start(self, precision: str, resumed: bool) -> None:
        """Says what is about to run, on what, and from where."""
        config, state = self.config, self.state
        logger.info(f"{config.name}: {self.task.summary(state.network)}")
        logger.info(
            f"{self.data.num_images} training and {self.data.val.num_images} validation images, "
            f"{len(self.data.class_names)} classes; {config.epochs} epochs of {self.steps_per_epoch} steps, "
            f"batch {config.batch_size}"
        )
        logger.info(
            f"{self.context.size} x {device_name(self.context.device)}, {precision}; run folder {self.folder.path}"
        )
        if resumed:
            logger.info(f"resuming from {self.folder.latest}: {state.epoch} epochs and {state.step} steps are done")

    def end(self, is_written: bool) -> int:
        """Says what came out and where it lies; gives the exit code.

        Args:
            is_written: whether the last epoch's weights are in latest.pth.
        """
        metric = self.config.best_metric
        best, last = self.state.best, self.state.history[-1][metric]
        if best is None or not is_written:
            missing = self.folder.best if is_written else self.folder.latest
            if self.context.is_main:
                logger.error(f"done, last {metric} {last:.4f}, but {missing} could not be written (why: see above).")
            return 1
        if self.context.is_main:
            logger.info(
                f"done: best {metric} {best[metric]:.4f} in epoch {best['epoch']}, last {last:.4f}. "
                f"Weights {self.folder.best}, curves {self.folder.path / 'curves.png'}. To evaluate: {self.how_to_test}"
            )
        return 0
