"""The loop of every run: an epoch as it happens, from a batch to the checkpoint.

`start.py` puts together what it works on, a `Run`; the run's task is what differs between recipes (`task.py`): how a
batch is prepared, its losses, and how the network is evaluated.
"""

import logging
from typing import Any

import torch
from torch import nn

from public.datasets.batches import DataError
from public.evaluation.evaluator import existing
from public.evaluation.plots import draw_curves
from public.optim.step import NonFiniteLossError, added, check_finite, exchanging_gradients, means, start_reading
from public.recipes.batch_statistics import telling_of_batch_statistics
from public.recipes.run import Run
from public.runtime.interruption import Stopped
from public.runtime.progress import Progress, clock
from public.runtime.run_folder import going_on_without_plot

logger = logging.getLogger(__name__)


def train_epochs(run: Run) -> int:
    """Trains, evaluates and writes until the last epoch is done or a signal stops the run.

    Returns:
        The exit code: 0 after the last epoch, 1 if its weights could not be written, 128 + the signal that stopped the
        run before it.

    Raises:
        NonFiniteLossError: a loss became infinite or NaN; the weights of the last checkpoint are kept.
    """
    state, folder, is_written = run.state, run.folder, True
    try:
        with run.interruption.listening():
            while state.epoch < run.config.epochs:
                row = train_epoch(run)
                run.task.measured = {}  # that was of other weights
                run.save_or_tell(folder.latest)  # a kill during the evaluation costs no training
                if run.evaluation_is_due():
                    row |= run.evaluate()
                is_written = finish_epoch(run, row)
        return run.end(is_written)
    except Stopped as stop:
        logger.info(f"{stop} in epoch {state.epoch + 1} after step {state.step}; the same command resumes.")
        return stop.exit_code
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{error} {run.last_weights}") from error
    except DataError:
        if run.context.size == 1:  # with others, they would wait in vain for this process to save
            run.save_or_tell(folder.latest)
        raise


def train_epoch(run: Run) -> dict[str, float]:
    """Takes the steps that are left of the present epoch; gives its row: number, learning rate, mean losses, speed.

    Raises:
        Stopped: a signal asked for it; the checkpoint is written.
    """
    state, config = run.state, run.config
    run.wrapped.train()
    title, every = f"epoch {state.epoch + 1}/{config.epochs}", config.runtime.log_every
    progress = Progress(title, run.steps_per_epoch, state.step, every, run.context.is_main)
    for batch in progress.timed(run.batches()):
        lr = run.lr(run.global_step)
        losses = train_step(run, batch, lr)
        state.add_losses(losses)
        progress.advance(config.batch_size, lambda lr=lr, losses=losses: describe(losses, lr))
        if state.step % every == 0:
            run.folder.write_scalars("step", losses | {"lr": lr}, run.global_step)
        decision = run.interruption.poll()
        if decision.save or decision.stop_signal:
            run.save_or_tell(run.folder.latest)
        run.interruption.stop_if_asked(decision)
    progress.close()
    losses = state.mean_losses()
    row = {"epoch": state.epoch + 1, "lr": run.lr(run.global_step - 1), "train_loss": sum(losses.values())}
    return row | ({f"train_{k}": v for k, v in losses.items()} if len(losses) > 1 else {}) | progress.measured()


def train_step(run: Run, batch: Any, lr: float) -> dict[str, float]:
    """One update of the weights, by a batch that lies anywhere; gives the named losses over the global batch before it.

    Raises:
        NonFiniteLossError: in every process; the weights are untouched.
    """
    state, step = run.state, run.global_step
    optimizer, scaler = state.optimizer, state.scaler
    for group in optimizer.param_groups:
        group["lr"] = lr

    # ---- forward and backward, one part a time ---------------------------------------------------------------------
    parts = run.task.prepare(run.parts(batch), step)
    sums: dict[str, torch.Tensor] = {}
    read = dict[str, float]
    for number, part in enumerate(parts, start=1):
        is_last = number == len(parts)
        with exchanging_gradients(run.wrapped, is_last):
            with telling_of_batch_statistics(run.config, run.context):
                losses = means(run.wrapped(*part), len(parts))
            sums = added(sums, losses)
            if is_last:
                read = start_reading(sums, run.context)
            scaler.scale(torch.stack(list(losses.values())).sum()).backward()
    values = read()
    check_finite(values, step=step, lr=lr)

    # ---- clip, step, average ----------------------------------------------------------------------------------------
    scaler.unscale_(optimizer)  # for clipping, and for what is attached to the optimizer's step
    if run.config.clip_grad_norm is not None:
        nn.utils.clip_grad_norm_(state.network.parameters(), run.config.clip_grad_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update(state.network)
    return values


def describe(losses: dict[str, float], lr: float) -> str:
    """The losses of a step and its learning rate, for a progress line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in losses.items()) + f"  lr {lr:.4g}"


def finish_epoch(run: Run, row: dict[str, Any]) -> bool:
    """Writes the epoch's row, curves and checkpoints, and turns to the next epoch; whether latest.pth was written."""
    state, folder, metric = run.state, run.folder, run.config.best_metric
    is_best, former_best = metric in row and state.is_better(row, metric), state.best
    state.best = row if is_best else former_best
    state.finish_epoch(row)
    folder.write_rows(state.history)
    folder.write_scalars("epoch", {k: v for k, v in row.items() if k != "epoch"}, run.global_step)
    if run.context.is_main:
        with going_on_without_plot("curves.png"):
            draw_curves(folder.path / "curves.png", state.history, run.panels, title=run.config.name)
    # best.pth first: a kill between the two repeats the epoch's evaluation and writes best.pth again.
    if is_best and not run.save(folder.best):
        state.best, is_best = former_best, False
    is_written = run.save(folder.latest)
    shown = {name for _, names in run.panels for name in names}
    numbers = "  ".join(f"{name} {value:.4f}" for name, value in existing(row).items() if name in shown)
    eta = clock((run.config.epochs - state.epoch) * row["train_seconds"])
    logger.info(f"epoch {state.epoch}/{run.config.epochs}  {numbers}{'  (best)' if is_best else ''}  eta {eta}")
    return is_written
