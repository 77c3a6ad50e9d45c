"""What both recipes share: their start, what they carry through a run, and its loop over epochs."""

import logging
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from torch import Tensor, nn

from public.config.command_line import Config, parse_config
from public.config.record import result_record
from public.config.run import RunConfig
from public.datasets.batches import DataError, EvalLoader
from public.evaluation.plots import draw_curves
from public.optim.schedules import lr_factor
from public.optim.train_state import TrainState
from public.optim.update import Updater
from public.runtime.device import device_name
from public.runtime.distributed import World
from public.runtime.interruption import Interruption, Stopped
from public.runtime.launch import launch
from public.runtime.progress import Progress, clock
from public.runtime.run_folder import RunFolder, going_on_when_disk_is_full

logger = logging.getLogger(__name__)

Panels = Sequence[tuple[str, Sequence[str]]]
"""Of curves.png: a title and the columns of metrics.jsonl drawn under it."""


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
    best_metric: str
    """The metric that chooses best.pth."""
    panels: Panels
    """Of curves.png."""
    category_ids: list[int] | None = None
    """Detection: the data set's own number of each class, for the checkpoint."""

    @property
    def identity(self) -> dict[str, Any]:
        """What a run shares with every checkpoint that it can go on from."""
        identity = {"name": self.config.name, "config": result_record(self.config)}
        identity |= {"class_names": self.class_names, "num_images": self.num_images}
        return identity if self.category_ids is None else identity | {"category_ids": self.category_ids}

    @property
    def global_step(self) -> int:
        """Optimizer steps since the beginning."""
        return self.state.epoch * self.loader.steps_per_epoch + self.state.step

    def lr(self, step: int) -> float:
        """The learning rate of an optimizer step, counted from the beginning."""
        config, steps = self.config, self.loader.steps_per_epoch
        return config.optimizer.lr * lr_factor(config.schedule, step, epochs=config.epochs, steps_per_epoch=steps)

    def save(self, path: Path) -> bool:
        """Writes a checkpoint; every process must call it, and learns whether it could be written."""
        return self.state.save(path, self.world, self.identity)

    def evaluation_is_due(self) -> bool:
        """Whether the present epoch ends with an evaluation: every so many, and the last."""
        done = self.state.epoch + 1
        return done % self.config.evaluate_every == 0 or done == self.config.epochs


def run_experiment(
    configs: Mapping[str, Config], train: Callable[..., int], script: str, argv: Sequence[str] | None = None
) -> NoReturn:
    """Runs an experiment from its command line, and exits with its code.

    Args:
        configs: the rows of the experiment's config.py.
        train: the recipe: `train(config, run_folder, world, fresh=...)` gives the exit code.
        script: the experiment's train.py (`__file__`), beside which runs/ lies.
        argv: the arguments; None takes the program's.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    config, fresh = parse_config(configs, args, prog="train.py")
    path = Path(script).resolve().parent / "runs" / config.name
    try:
        sys.exit(launch(config, script, args, lambda world: train(config, path, world, fresh=fresh)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # before or after the loop, which ends by itself


def run_epochs(run: Run, wrapped: nn.Module, updater: Updater, evaluate: Callable[[], dict[str, float]]) -> int:
    """The loop: trains, evaluates and writes until the last epoch is done or a signal stops the run.

    Args:
        run: the run.
        wrapped: the training module, to be put into training mode.
        updater: takes its steps.
        evaluate: gives the metrics of the present weights; every process calls it.

    Returns:
        The exit code: 0 after the last epoch, 1 if its weights could not be written, 128 + the signal that stopped the
        run before it.
    """
    state, folder = run.state, run.folder
    is_written = True
    try:
        with run.interruption.listening():
            while state.epoch < run.config.epochs:
                wrapped.train()
                row = train_epoch(run, updater)
                run.save(folder.latest)  # a kill during the evaluation costs no training
                if run.evaluation_is_due():
                    row |= evaluate()
                is_written = finish_epoch(run, row)
        return end(run, is_written)
    except Stopped as stop:
        logger.info(f"{stop} in epoch {state.epoch + 1} after step {state.step}; the same command goes on.")
        return stop.exit_code
    except DataError:
        if run.world.size == 1:  # with others, they would wait in vain for this process to save
            run.save(folder.latest)
        raise
    finally:
        folder.close()


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


def finish_epoch(run: Run, row: dict[str, Any]) -> bool:
    """Writes the epoch's row, curves and checkpoints, and turns to the next epoch.

    Args:
        run: the run.
        row: the epoch's row; without the best metric where it was not evaluated.

    Returns:
        Whether latest.pth could be written.
    """
    state = run.state
    is_best = run.best_metric in row and state.is_better(row, run.best_metric)
    former_best = state.best
    if is_best:
        state.best = row
    state.finish_epoch(row)
    run.folder.write_rows(state.history)
    run.folder.write_scalars("epoch", {k: v for k, v in row.items() if k != "epoch"}, run.global_step)
    if run.world.is_main:
        with going_on_when_disk_is_full("curves.png"):
            draw_curves(run.folder.path / "curves.png", state.history, run.panels, title=run.config.name)
    # best.pth first: a kill between the two repeats the epoch's evaluation and writes best.pth again.
    if is_best and not run.save(run.folder.best):
        state.best, is_best = former_best, False
    is_written = run.save(run.folder.latest)
    left = (run.config.epochs - state.epoch) * row["train_seconds"]
    numbers = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k in {n for _, names in run.panels for n in names})
    logger.info(
        f"epoch {state.epoch}/{run.config.epochs}  {numbers}{'  (best)' if is_best else ''}  left {clock(left)}"
    )
    return is_written


def evaluation_batches(run: Run, loader: EvalLoader[Any]) -> tuple[Iterable[Any], Callable[[int], None]]:
    """A pass over the validation images with progress lines, which a signal can stop between two batches.

    Returns:
        The loader to go through, and what to call after each batch with its number of images.
    """
    log_every = max(run.config.runtime.log_every, len(loader) // 4)
    progress = Progress("evaluate", len(loader), 0, log_every, run.world.is_main)
    stop_if_asked = polled(run, loader.common_batches)

    def after_batch(num_done: int) -> None:
        progress.advance(num_done * run.world.size)
        stop_if_asked()

    def batches() -> Iterator[Any]:
        yield from progress.timed(loader)
        progress.close()

    return batches(), after_batch


def polled(run: Run, common_batches: int) -> Callable[[], None]:
    """A function to call after each evaluated batch: it stops the run where a signal asked for it.

    All processes have to take part in a decision, and their shares differ by a batch: only the batches that every
    process has are counted.
    """
    left = common_batches

    def after_batch() -> None:
        nonlocal left
        if left > 0:
            left -= 1
            run.interruption.stop_if_asked(run.interruption.poll())

    return after_batch


def log_start(run: Run, summary: str, num_val_images: int, precision: str, resumed: bool) -> None:
    """Says what is about to run, on what, and from where; `summary` describes the network."""
    config, state, steps = run.config, run.state, run.loader.steps_per_epoch
    logger.info(f"{config.name}: {summary}")
    logger.info(
        f"{run.num_images} training and {num_val_images} validation images, {len(run.class_names)} classes; "
        f"{config.epochs} epochs of {steps} steps, batch {config.batch_size}"
    )
    logger.info(f"{run.world.size} x {device_name(run.world.device)}, {precision}; run folder {run.folder.path}")
    if resumed:
        logger.info(f"going on from {run.folder.latest}: {state.epoch} epochs and {state.step} steps are done")


def end(run: Run, is_written: bool) -> int:
    """Says what came out and where it lies; gives the exit code.

    Args:
        run: after its last epoch.
        is_written: whether the last epoch's weights are in latest.pth.
    """
    best, last, metric = run.state.best, run.state.history[-1], run.best_metric
    if best is None or not is_written:
        missing = run.folder.best if is_written else run.folder.latest
        if run.world.is_main:
            logger.error(
                f"done, last {metric} {last[metric]:.4f}, but {missing} could not be written (why: see above)."
            )
        return 1
    if run.world.is_main:
        log_end(run, best, last[metric])
    return 0


def log_end(run: Run, best: dict[str, Any], last: float) -> None:
    """Says what came out and where it lies; `best` is the row of best.pth."""
    metric = run.best_metric
    logger.info(
        f"done: best {metric} {best[metric]:.4f} in epoch {best['epoch']}, last {last:.4f}. "
        f"Weights {run.folder.best}, curves {run.folder.path / 'curves.png'}; ./test.sh evaluates."
    )
