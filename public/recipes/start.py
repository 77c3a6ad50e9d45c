"""From an experiment's command line to a finished run: config, data, network and optimizer, then the loop.

`train` builds what a run works on, resumes from a checkpoint if there is one, and hands over to `train_loop.py`.
"""

import contextlib
import gc
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import nn

from public.config.command_line import Config, choose_row, describe_rate, parse_config
from public.config.experiment import Experiment
from public.config.record import read_config, recorded_type, to_record
from public.layers.recompute import check_stages
from public.optim.ema import AveragedWeights
from public.optim.optimizers import build_optimizer
from public.optim.train_state import TrainState
from public.recipes.batch_statistics import check_batch_statistics
from public.recipes.run import Run
from public.recipes.task import Data, Task
from public.recipes.train_loop import train_epochs
from public.runtime.device import choose_precision, device_name, use_deterministic_kernels
from public.runtime.distributed import DistributedContext
from public.runtime.environment import environment_changes, environment_record
from public.runtime.interruption import Interruption
from public.runtime.launch import launch
from public.runtime.parallel import check_data_parallel, check_sync_batch_norm, wrap
from public.runtime.run_folder import RunFolder
from public.runtime.seeding import seed_everything

logger = logging.getLogger(__name__)

ENVIRONMENT = "environment.json"


def run_experiment(
    configs: Mapping[str, Config], script: str, task: type[Task], argv: Sequence[str] | None = None
) -> NoReturn:
    """Runs an experiment from its command line, and exits with its code.

    Args:
        configs: the rows of the experiment's config.py.
        script: the experiment's train.py (`__file__`), beside which runs/ lies.
        task: the recipe's, or the experiment's own kind of it, see `task.py`.
        argv: the arguments; None takes the program's.
    """
    # What the imports left lives as long as the process: no collection walks it again, the last at exit included.
    if not gc.get_freeze_count():
        gc.freeze()
    args = list(sys.argv[1:] if argv is None else argv)
    config, fresh = parse_config(configs, args, task.kinds, prog="train.py")
    note = describe_rate(choose_row(configs, args)[0], config, args)
    folder = Path(script).resolve().parent
    path = folder / "runs" / config.name
    try:
        sys.exit(launch(config, script, args, lambda context: train(config, path, context, task, fresh, folder, note)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # before or after the loop, which ends by itself


def train(
    config: Any,
    path: Path,
    context: DistributedContext,
    task_type: type[Task],
    fresh: bool = False,
    folder: Path | None = None,
    note: str | None = None,
) -> int:
    """Trains one row.

    Args:
        config: the row.
        path: the run folder.
        context: this process's place.
        task_type: the recipe's, or the experiment's own.
        fresh: start over, keeping an old run folder aside.
        folder: the experiment's; None: the row uses no classes of its own.
        note: a line about the config for the log.

    Returns:
        The exit code: 0 after the last epoch, 128 + the signal that stopped the run before it.

    Raises:
        ValueError: a setting, the data, the weights or the checkpoint do not fit; the message says which and how.
        NonFiniteLossError: a loss became infinite or NaN.
    """
    experiment = None if folder is None else Experiment(folder)
    run_folder = RunFolder(path, context.is_main)
    config = with_kept_data(task_type.resolve(config), run_folder, fresh, experiment)
    to_record(config, experiment)  # what a checkpoint could not bring back is refused before anything is done
    task_name = None if task_type.__module__.startswith("public.") else recorded_type(task_type, "task", experiment)
    check_data_parallel(config.parallel, config.local_batch_size(context.size), context)
    check_sync_batch_norm(config.sync_batch_norm, context)
    task_type.check(config)
    data = task_type.open_data(config, context)
    if data.settled is not None:
        config = replace(config, data=data.settled)
    learner = build_learner(config, data, context, task_type, from_checkpoint=run_folder.will_resume(fresh))
    with contextlib.closing(run_folder):
        run_folder.open(fresh, context.restarted)  # only now: a mistake above moves no old run aside
        for line in (*([note] if note else []), *learner.reports):
            logger.info(line)
        context.barrier()  # nobody looks for latest.pth before an old folder is out of the way
        run = Run(
            config=config,
            context=context,
            task=learner.task,
            wrapped=learner.wrapped,
            data=data,
            folder=run_folder,
            state=learner.state,
            evaluated=learner.evaluated,
            interruption=Interruption(context, config.runtime.save_every_minutes),
            identity=identity_of(to_record(config, experiment), data, task_name),
            how_to_test=how_to_test(folder, run_folder.best),
        )
        begin(run, experiment)
        return train_epochs(run)


class Learner(NamedTuple):
    """What learns, before its first step."""

    task: Task
    wrapped: nn.Module
    """See `Run`."""
    state: TrainState
    evaluated: nn.Module
    """See `Run`."""
    reports: list[str]
    """Lines on the weights that it starts from."""


def build_learner(
    config: Any, data: Data, context: DistributedContext, task_type: type[Task], *, from_checkpoint: bool
) -> Learner:
    """The network, its task and its optimizer, on the device; raises as `train` does."""
    seed_everything(config.seed)
    if config.runtime.deterministic:
        use_deterministic_kernels()
    network = task_type.build_network(config, len(data.class_names))
    check_stages(network, config.runtime.activation_checkpointing)
    check_batch_statistics(network, config, context, task_type.smallest_size(config, data))
    # A checkpoint holds all that the weights to start from gave; they may be gone by then.
    reports = [] if from_checkpoint else task_type.load_initial_weights(network, config, data.class_names)
    dtype = choose_precision(config.precision, context.device)
    task = task_type(network, config, dtype)
    wrapped = wrap(
        task,
        context,
        sync_batch_norm=config.sync_batch_norm,
        parallel=config.parallel,
        compiled=config.compile,
        channels_last=config.channels_last,
    )
    task.begin(network, data, context)
    optimizer = build_optimizer(network, config.optimizer)
    ema = AveragedWeights(network, config.ema_decay) if config.ema_decay is not None else None
    # Only fp16 has gradients small enough to vanish; disabled, the scaler passes everything through.
    scaler = torch.amp.GradScaler(context.device.type, enabled=dtype == torch.float16)
    evaluated = task.model if ema is None else task.inference(ema.network, config, dtype).to(context.device)
    return Learner(task, wrapped, TrainState(network, optimizer, scaler, ema), evaluated, reports)


def begin(run: Run, experiment: Experiment | None) -> None:
    """Goes on from the run's checkpoint if there is one, writes what the run is, and says what is about to run."""
    folder, context = run.folder, run.context
    resumed = run.state.resume(folder.latest, context, run.identity, experiment)
    folder.write_history(run.state.history, run.global_step)
    folder.write_json("config.json", run.identity["config"])
    if context.is_main:
        environment = environment_record(device_name(context.device), context.size)
        if resumed:
            environment |= environment_before(environment, folder.path / ENVIRONMENT)
        folder.write_json(ENVIRONMENT, environment)
        precision = choose_precision(run.config.precision, context.device)
        run.log_start(str(precision).removeprefix("torch."), resumed)


def environment_before(environment: dict[str, Any], path: Path) -> dict[str, Any]:
    """As "before" the records of a run that goes on, if versions or the processor have changed since, which is told."""
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        changes, before = environment_changes(old, environment), old.pop("before", [])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # removed, or somebody's own
    if changes:
        logger.warning(
            f"{path} says that the run computed with others: {', '.join(changes)}. The result is as good, but not bit "
            "for bit that of a run that never stopped."
        )
        before = [*before, old]
    return {"before": before} if before else {}


def with_kept_data(config: Any, run_folder: RunFolder, fresh: bool, experiment: Experiment | None) -> Any:
    """The config of a run that resumes, with the validation images that the run began with."""
    if config.data.val_fraction is None or not run_folder.will_resume(fresh):
        return config
    try:
        old = read_config(run_folder.path, experiment)
    except (OSError, ValueError):
        return config  # they are chosen anew: the same, as long as the files are, and else the checkpoint is refused
    if old.data.folder != config.data.folder:
        return config
    return replace(config, data=replace(config.data, val_images=old.data.val_images))


def identity_of(record: dict[str, Any], data: Data, task_name: str | None) -> dict[str, Any]:
    """What a run shares with every checkpoint that it can resume from, and what a checkpoint says of its network."""
    identity = {
        "config": record,
        "class_names": data.class_names,
        "num_images": data.num_images,
        "digests": dict(data.digests),
    }
    if data.category_ids is not None:
        identity["category_ids"] = data.category_ids
    return identity if task_name is None else identity | {"task": task_name}


def how_to_test(folder: Path | None, weights: Path) -> str:
    """The command that evaluates a run of an experiment, from wherever it is typed."""
    script = Path("test.sh") if folder is None else folder / "test.sh"
    root = os.environ.get("DATA_ROOT")
    where = f"DATA_ROOT={shlex.quote(str(Path(root).resolve()))} " if root else ""
    return f"{where}{shlex.quote(str(script))} --weights {shlex.quote(str(weights))}"
