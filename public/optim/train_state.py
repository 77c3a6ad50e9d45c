"""Everything that a stopped run needs in order to end as if it had never stopped."""

import logging
import math
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from public.config.experiment import Experiment
from public.config.names import first_line
from public.config.record import changed_results, config_of, differing_classes
from public.config.run import RunConfig
from public.optim.ema import AveragedWeights
from public.runtime.checkpoint import check_entries, load_checkpoint, save_checkpoint
from public.runtime.distributed import DistributedContext
from public.runtime.seeding import get_rng_states, set_rng_states

logger = logging.getLogger(__name__)


class TrainState:
    """A run's weights and counters.

    Args:
        network: the bare network, whose keys are those of `load_weights`.
        optimizer: over its parameters.
        scaler: the loss scale.
        ema: averaged weights, or None.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        ema: AveragedWeights | None,
    ) -> None:
        self.network, self.optimizer, self.scaler, self.ema = network, optimizer, scaler, ema
        self.epoch = 0
        """Epochs trained and evaluated."""
        self.step = 0
        """Steps done in the present epoch; all of them while its evaluation is still to come."""
        self.loss_sums: dict[str, float] = {}
        """Sums of the named losses over the steps of the present epoch."""
        self.history: list[dict[str, Any]] = []
        """One row for each finished epoch."""
        self.best: dict[str, Any] | None = None
        """The row of best.pth."""

    def add_losses(self, losses: dict[str, float]) -> None:
        """Counts one step and its losses."""
        self.step += 1
        for name, value in losses.items():
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value

    def mean_losses(self) -> dict[str, float]:
        """The named losses averaged over the steps of the present epoch so far."""
        return {name: value / self.step for name, value in self.loss_sums.items()}

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Takes up the epoch's row and turns to the next epoch."""
        self.history.append(row)
        self.epoch, self.step, self.loss_sums = self.epoch + 1, 0, {}

    def is_better(self, row: dict[str, Any], metric: str) -> bool:
        """Whether the row beats the best one so far: a lower loss, or a higher value of any other metric."""
        if self.best is None or math.isnan(self.best[metric]):
            return True
        return row[metric] < self.best[metric] if metric == "loss" else row[metric] > self.best[metric]

    def save(self, path: Path, context: DistributedContext, identity: dict[str, Any]) -> bool:
        """Writes a checkpoint. Called by every process: each adds its random generators, the main one writes.

        Args:
            path: the file.
            context: this process's place.
            identity: what a run must share with a checkpoint to resume from it: "config" (a record), "class_names",
                "num_images"; and "digests", which tell of data that changed.

        Returns:
            Whether it was written, in every process; if not, the file before it is still there.

        Raises:
            FloatingPointError: the weights are no longer finite, in every process; the file before is kept.
        """
        if not _are_finite(self.network):
            raise FloatingPointError(
                f"the weights are not finite after epoch {self.epoch}, step {self.step}, and are not written; "
                f"{path} stays as it was. Usual causes: too high a learning rate, no warm-up, a gradient that "
                "overflowed (clip_grad_norm limits it)."
            )
        rng = context.gather(get_rng_states())
        written = save_checkpoint(path, identity | self._to_dict() | {"rng": rng}) if context.is_main else True
        return all(context.gather(written))

    def _to_dict(self) -> dict[str, Any]:
        return {
            "model": self.network.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "ema_num_averaged": self.ema.num_averaged if self.ema else 0,
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"lr": self.optimizer.param_groups[0]["lr"]},  # else a pure function of epoch and step
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "metrics": {"history": self.history, "best": self.best, "loss_sums": self.loss_sums},
        }

    def resume(
        self, path: Path, context: DistributedContext, identity: dict[str, Any], experiment: Experiment | None = None
    ) -> bool:
        """Resumes from a checkpoint if there is one.

        Args:
            path: the file.
            context: this process's place.
            identity: see `save`.
            experiment: the folder whose own classes the config may use.

        Returns:
            Whether there was one.

        Raises:
            ValueError: it is damaged, or of another config or other classes; the message lists what differs. Or not
                all processes see it.
        """
        places = context.gather(os.path.lexists(path))
        if not all(places):
            if any(places):
                raise ValueError(
                    f"{path} is seen by {sum(places)} of {context.size} processes: the run folder must lie where all "
                    "machines see it (a shared disk), or be copied to each of them."
                )
            return False
        warn = logger.warning if context.is_main else logger.debug  # all processes find the same
        remedy = "Remove it to start over, or put the run's best.pth in its place to resume from there."
        state = load_checkpoint(path, remedy=remedy)
        # The usual task goes without saying, and checkpoints of before say nothing of the files.
        needed = [entry for entry in identity if entry not in ("task", "digests")]
        check_entries(path, state, [*needed, *self._to_dict(), "rng"])
        _check_identity(path, state, identity, experiment, warn)
        if bool(state["scaler"]) != self.scaler.is_enabled():
            warn(f"{path} was {'' if state['scaler'] else 'not '}trained in fp16, unlike the run that resumes.")
        try:
            _check_counters(state, config_of(state, experiment).epochs)
            self._from_dict(state)
            _check_slots(self.optimizer)
            if len(state["rng"]) == context.size:
                set_rng_states(state["rng"][context.rank])
        except Exception as error:  # what another program wrote fails anywhere: KeyError, TypeError, OverflowError...
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(
                f"{path} is whole but holds something that this run never wrote ({type(error).__name__}: {reason}): "
                "put best.pth in its place, or remove it to start over."
            ) from error
        self._miss_best(path.with_name("best.pth"), warn)
        where = context.gather((self.epoch, self.step))
        if len(set(where)) > 1:
            raise ValueError(
                f"{path} is not the same on all machines, it has done (epochs, steps) {sorted(set(where))}: put one "
                "file where all see it."
            )
        if len(state["rng"]) != context.size:
            warn(
                f"{path} was written by {len(state['rng'])} processes, and {context.size} resume: the result is as "
                "good, but not bit for bit that of a run that never stopped."
            )
        return True

    def _from_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"], state["ema_num_averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty after another precision than fp16: the scale then starts new
            self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["epoch"], state["step"]
        metrics = state["metrics"]
        self.history, self.best, self.loss_sums = metrics["history"], metrics["best"], metrics["loss_sums"]

    def _miss_best(self, best: Path, warn: Callable[[str], None]) -> None:
        """Where best.pth was removed, the best of the epochs to come is kept in its place."""
        if self.best is not None and not best.is_file():
            warn(
                f"{best} is gone, the weights of epoch {self.best['epoch']}: the best of the epochs to come take its "
                "place."
            )
            self.best = None


def _check_counters(state: dict[str, Any], epochs: int) -> None:
    """Raises ValueError where the counters of a checkpoint contradict each other or the run."""
    epoch, step, metrics = state["epoch"], state["step"], state["metrics"]
    rows = [row["epoch"] for row in metrics["history"]]
    if type(epoch) is not int or type(step) is not int or not 0 <= epoch <= epochs or step < 0:
        raise ValueError(f"epoch {epoch!r} and step {step!r} of a run of {epochs} epochs")
    if rows != list(range(1, epoch + 1)):
        raise ValueError(f"rows of the epochs {rows} after {epoch} epochs")
    if metrics["best"] is not None and metrics["best"]["epoch"] not in rows:
        raise ValueError(f"a best epoch {metrics['best']['epoch']} after {epoch} epochs")
    if not all(isinstance(value, float) for value in metrics["loss_sums"].values()):
        raise ValueError("sums of losses that are no numbers")


def _check_slots(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError where an optimizer keeps something of another shape than the parameter that it is for."""
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} {list(value.shape)} of a parameter {list(parameter.shape)}")


def _are_finite(network: nn.Module) -> bool:
    return bool(torch.stack([p.isfinite().all() for p in network.parameters()]).all())


def _check_identity(
    path: Path,
    state: dict[str, Any],
    identity: dict[str, Any],
    experiment: Experiment | None,
    warn: Callable[[str], None],
) -> None:
    """Refuses a checkpoint of another run; tells of a data set that changed."""
    try:
        old = config_of(state, experiment)
    except ValueError as error:
        raise ValueError(f"{path} cannot be resumed: {first_line(error)}. Use another --name, or --fresh.") from error
    new = config_of(identity, experiment)
    differing = changed_results(old, new, experiment)
    if state.get("task") != identity.get("task"):
        differing.append(f"task: {state.get('task') or 'the usual'} -> {identity.get('task') or 'the usual'}")
    if state["class_names"] != identity["class_names"]:
        differing.append(f"classes: {differing_classes(state['class_names'], identity['class_names'])}")
    # Out of memory, a run goes on with smaller passes over the same global batches.
    parts = [one for one in differing if one.startswith("accumulation_steps: ")]
    if parts == differing != []:
        warn(
            f"{path} goes on with {parts[0]}: the same global batches in other parts, so that batch norms see others "
            "and sums round otherwise; the result is as good, but not bit for bit that of a run that never stopped."
        )
    elif differing:
        raise ValueError(
            f"{path} cannot be resumed, its settings differ from the present ones: {'; '.join(differing)}. Use the "
            f"same settings{_its_rate(old, new)}, another --name, or --fresh (which keeps the old folder aside)."
            f"{_how_to_go_on(path, state, old, new)}"
        )
    _tell_changed_data(path, state, identity, warn)


def _tell_changed_data(
    path: Path, state: dict[str, Any], identity: dict[str, Any], warn: Callable[[str], None]
) -> None:
    """Warns where there are more or fewer training images, or as many with other names, labels or objects."""
    consequence = "and the result is not that of a run that never stopped."
    before, now = state.get("digests", {}), identity.get("digests", {})
    changed = [split for split in now if before.get(split, now[split]) != now[split]]
    if state["num_images"] != identity["num_images"]:
        warn(
            f"{path} was trained on {state['num_images']} images, and there are {identity['num_images']} now: the "
            f"order of images changes, {consequence}"
        )
        changed = [split for split in changed if split != "training"]
    if changed:
        warn(
            f"{path} goes on with other {' and '.join(changed)} images than before: names, order, labels or objects "
            f"have changed, {consequence}"
        )


def _how_to_go_on(path: Path, state: dict[str, Any], old: RunConfig, new: RunConfig) -> str:
    """What to type where more epochs were asked of a finished run, whose learning rate has come to its end."""
    if state["epoch"] != old.epochs or new.epochs <= old.epochs:
        return ""
    weights = shlex.quote(str(path.with_name("best.pth")))
    unless = "" if getattr(new, "backbone_weights", None) is None else " --backbone-weights None"
    return (
        f" That run is finished, all {old.epochs} epochs of its schedule; to train on from its weights: "
        f"--initial-weights {weights}{unless} --name {shlex.quote(f'{old.name}_more')}."
    )


def _its_rate(old: RunConfig, new: RunConfig) -> str:
    """How a run that began before the learning rate followed `--batch-size` is resumed: by naming the rate it has."""
    if old.batch_size != new.batch_size or old.optimizer.lr == new.optimizer.lr:
        return ""
    return (
        f" (its learning rate: --optimizer.lr {old.optimizer.lr}; where --batch-size is given alone, the rate follows)"
    )
