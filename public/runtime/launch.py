"""From a parsed command line to a run in the right number of processes, with every known mistake as one sentence."""

import logging
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from public.config.command_line import fail
from public.config.run import RunConfig
from public.runtime.accidents import explained, killed, of_training
from public.runtime.distributed import (
    DistributedContext,
    is_first_to_fail,
    join_process_group,
    processes_to_start,
    start_processes,
    under_launcher,
)
from public.runtime.interruption import end_with_launcher
from public.runtime.run_folder import log_to_console

PACKAGE = Path(__file__).resolve().parents[1]

logger = logging.getLogger(__name__)


def launch(config: RunConfig, script: str, args: Sequence[str], run: Callable[[DistributedContext], int]) -> int:
    """Runs `run` here, or starts `script` again in one process per GPU, each of which then comes here itself.

    Args:
        config: what is to run.
        script: the program, for starting it again.
        args: its arguments.
        run: the work of one process; gives the exit code.

    Returns:
        The exit code: `run`'s, 2 for what a user can put right, 1 for a loss that is not finite and for accidents
        (`accidents.py`).
    """
    runtime = config.runtime
    try:
        num_processes = processes_to_start(runtime.device, config.parallel, runtime.processes)
        config.local_batch_size(num_processes)
    except ValueError as error:
        fail(str(error))
    if num_processes > 1:
        return _start(num_processes, script, args)
    end_with_launcher()
    try:
        with join_process_group(runtime.device, config.parallel) as context:
            log_to_console(context.is_main)
            return run(context)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        if not raised_by_us(error):
            raise
        _say(str(error))
        return 1 if isinstance(error, FloatingPointError) else 2
    except (RuntimeError, MemoryError) as error:
        accident = explained(error, of_training(config, int(os.environ["WORLD_SIZE"]) if under_launcher() else 1))
        if accident is None:
            raise
        _say(accident)
        return 1


def _start(num_processes: int, script: str, args: Sequence[str]) -> int:
    """Starts the processes, and says what a signal did to one of them."""
    exit_code = start_processes(num_processes, script, args)
    accident = killed(exit_code)
    if accident is not None:
        _say(accident)
    return exit_code


def _say(sentence: str) -> None:
    """As the run's error, of which there is one however many processes come here."""
    if is_first_to_fail():
        log_to_console(is_main=True)
        logger.error(f"error: {sentence}")


def raised_by_us(error: BaseException) -> bool:
    """Whether code of this package raised the error: then it is a message for the user; else it shows a defect."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and PACKAGE in Path(frames[-1].filename).resolve().parents
