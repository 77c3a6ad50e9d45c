"""What befalls a run from outside and is no defect of the program: each in one sentence, with what helps."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, NoReturn

import torch

from public.config.run import RunConfig

RESUMES = "Nothing is lost but the steps since the last checkpoint, from which the same command resumes."
FEWER_WORKERS = "fewer data workers (--runtime.num-workers)"


class Remedies(NamedTuple):
    """What helps a command, in its own options."""

    workers: str
    """Where processes that read data died."""
    too_much: str
    """What memory did not suffice for."""
    less: str
    """Needs less memory."""
    end: str = ""
    """What is lost, a sentence with a space before it."""


class Accident(NamedTuple):
    """How torch tells of it, and how we do."""

    pattern: str
    """Of the text of a RuntimeError."""
    sentence: Callable[[str, Remedies], str]
    """(the text, the remedies) -> what happened and what helps."""


def explained(error: BaseException, remedies: Remedies) -> str | None:
    """What to tell the user of an error that ended this process; None where it is none of these accidents."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return _out_of_memory(str(error), remedies) + remedies.end
    if not isinstance(error, RuntimeError):
        return None
    # By which signal a data worker died stands in the error that torch found first.
    text = "\n".join(str(one) for one in (error, error.__cause__, error.__context__) if one is not None)
    sentence = next((one.sentence for one in _ACCIDENTS if re.search(one.pattern, text, re.DOTALL)), None)
    return sentence and sentence(text, remedies) + remedies.end


def end_by(error: BaseException, remedies: Remedies) -> NoReturn:
    """Ends the program with one sentence: with code 1, or 130 after Ctrl-C; raises the error again where it is neither.

    For commands of one process; `launch.py` does it for training.
    """
    if isinstance(error, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from error
    accident = explained(error, remedies)
    if accident is None:
        raise error
    print(f"error: {accident}", file=sys.stderr)
    raise SystemExit(1) from error


@contextmanager
def naming_memory() -> Iterator[None]:
    """Makes a MemoryError of what an engine or an exporter raises where memory runs out: each has its own kinds."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError) or re.search(_NO_MEMORY, str(cause)):
                raise MemoryError(str(cause)) from error
            cause = cause.__cause__
        raise


def of_training(config: RunConfig, num_processes: int) -> Remedies:
    """What helps a training run of so many processes."""
    less = "a smaller --batch-size or --data.input-size needs less"
    for steps in range(config.accumulation_steps + 1, config.batch_size // num_processes + 1):
        try:
            fewer = replace(config, accumulation_steps=steps).local_batch_size(num_processes)
        except ValueError:  # it does not divide the batch
            continue
        less = f"--accumulation-steps {steps} trains on the same global batch with {fewer} images in a pass"
        break
    return Remedies(
        workers=f"{FEWER_WORKERS}, now {config.runtime.num_workers}",
        too_much=f"{config.local_batch_size(num_processes)} images in a forward pass",
        less=less,
        end=f" {RESUMES}",
    )


def killed(exit_code: int) -> str | None:
    """What to tell where processes were started and one was ended by a signal; None for any other exit code.

    Args:
        exit_code: 128 + the signal.
    """
    number = exit_code - 128
    if number not in signal.valid_signals() or number in (signal.SIGTERM, signal.SIGINT):
        return None
    return (
        f"a process of this run was ended by {signal.Signals(number).name}. By SIGKILL the system usually ends a "
        f"process when memory runs out: {FEWER_WORKERS} or more --accumulation-steps need less. {RESUMES}"
    )


def _out_of_memory(text: str, remedies: Remedies) -> str:
    where = "the GPU's memory" if "CUDA" in text or "GPU" in text else "memory"
    return f"{where} does not suffice for {remedies.too_much} ({_brief(text)}): {remedies.less}."


def _worker(text: str, remedies: Remedies) -> str:
    found = re.search(r"killed by signal: ([\w ]+)", text)
    how = f"was killed ({found[1]})" if found else "ended"
    return (
        f"a process that reads data {how}; usually memory, or shared memory (docker run --shm-size=8g), ran out: "
        f"{remedies.workers}, need less. If the data is packed and it happens again, "
        "look for damage with `python -m public.datasets.pack FOLDER --check`."
    )


def _shared_memory(text: str, remedies: Remedies) -> str:
    return (
        "shared memory (/dev/shm) is full, through which data workers hand over their batches: give the container more "
        f"(docker run --shm-size=8g), or {remedies.workers}; 0 needs none."
    )


def _open_files(text: str, remedies: Remedies) -> str:
    return (
        "this process may open no more files, and data workers hand over their batches through such: allow more in "
        f"the shell (ulimit -n 65536), or {remedies.workers}; 0 needs none."
    )


def _lost_process(text: str, remedies: Remedies) -> str:
    return (
        f"another process of this run is gone ({_brief(text)}); what it said before, or the launcher, tells why. "
        f"Killed without a word, it usually found no memory: {remedies.workers}, need less; {remedies.less}."
    )


def _brief(text: str) -> str:
    """The beginning of a message, for a parenthesis."""
    found = re.search(r"[Tt]ried to allocate [^.]*(\.\d+ \w+)?|Failed to allocate .*|Connection \w+ by peer", text)
    return found[0] if found else text.strip().partition("\n")[0][:120] or "of which nothing more is said"


_NO_MEMORY = (
    "can't allocate memory|not enough memory|Failed to allocate memory|bad_alloc|CUDA error: out of memory|ALLOC_FAILED"
)
"""In the words of torch, of onnxruntime, of C++, and of CUDA and its libraries."""


_ACCIDENTS = (
    Accident(r"DataLoader worker .*Bus error|shared memory|torch_\d.*No space left", _shared_memory),
    Accident(r"Too many open files|received 0 items of ancdata", _open_files),
    Accident(r"DataLoader worker .*(is killed by signal|exited unexpectedly)|Pin memory thread exited", _worker),
    Accident(_NO_MEMORY, _out_of_memory),
    Accident(r"Connection (closed|reset) by peer|/gloo/|NCCL.*(remote process|peer|timeout)", _lost_process),
)
"""The first that fits, by torch's own words."""
