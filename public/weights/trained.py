"""Checkpoints of finished and unfinished runs of ours, opened: the config they were trained with, classes and weights.

Everything that reads a checkpoint begins here (evaluation, detection, loading from Python): what a network is, and what
is done to its images, is asked of the config that comes back, and of nothing else.
"""

from pathlib import Path
from typing import Any, NamedTuple

from public.config.experiment import Experiment
from public.config.names import first_line
from public.config.record import config_of
from public.runtime.checkpoint import check_entries, load_checkpoint


class Trained(NamedTuple):
    """A run's checkpoint."""

    path: Path
    config: Any
    """The row that was trained, command line included: equal to the config that the run had."""
    class_names: list[str]
    """Of the labels."""
    category_ids: list[int] | None
    """Detection: the data set's own number of each class."""
    task: str | None
    """The experiment's own task as a record names it; None: the recipe's."""
    state: dict[str, Any]
    """The whole checkpoint, which `load_weights` takes."""

    @property
    def score_threshold(self) -> float | None:
        """Detection: the threshold that gave the best F1 on the validation split; None where none was looked for."""
        return self.state.get("score_threshold")


def open_trained(path: str | Path, experiment: str | Path | None = None) -> Trained:
    """Opens a checkpoint.

    Args:
        path: a run's latest.pth or best.pth.
        experiment: the folder whose own transforms and task it may name. What a file names is never imported otherwise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, no checkpoint of ours, or its config cannot be made again.
    """
    folder = None if experiment is None else Experiment(Path(experiment))
    return trained_of(Path(path), load_checkpoint(Path(path)), folder)


def trained_of(path: Path, state: dict[str, Any], experiment: Experiment | None = None) -> Trained:
    """As `open_trained`, of what the file at the path holds."""
    check_entries(path, state, ("config", "class_names", "model"))
    try:
        config = config_of(state, experiment)
    except ValueError as error:
        raise ValueError(f"{path}: {first_line(error)}.") from error
    return Trained(path, config, state["class_names"], state.get("category_ids"), state.get("task"), state)


def require_usual_task(trained: Trained) -> None:
    """Raises ValueError for a checkpoint of an experiment's own task, which may be another network."""
    if trained.task is not None:
        raise ValueError(
            f"{trained.path} was trained by {trained.task}, a task of its experiment's own: evaluate it with that "
            "experiment's test.sh (or --experiment FOLDER)."
        )
