"""Stopping at a step boundary: signals and the save timer become one decision that all processes take together."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from public.runtime.distributed import DistributedContext, under_launcher

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A launcher repeats the signal to its children; only a person's later, second one means "at once".
IMPATIENT_AFTER_SECONDS = 2.0
ORPHANS_END_AFTER_SECONDS = 30.0
"""How long a process whose launcher is gone may take to write its checkpoint: as long as torchrun itself gives it."""


class Stopped(Exception):
    """The run was asked to stop, and has left everything in order."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number
        """What a shell calls a program that a signal ended: 143 for SIGTERM, 130 for SIGINT."""


class Decision(NamedTuple):
    """What every process does at this step boundary."""

    stop_signal: int
    """0, or the number of the signal that asked the run to stop."""
    save: bool
    """Whether a checkpoint is due."""


class Interruption:
    """Listens for SIGTERM and SIGINT and for the time of the next checkpoint.

    With several processes a decision is agreed on by a maximum over all of them, started at one step and read at the
    next: nobody waits, nobody synchronizes a GPU, and all stop at the same step.
    """

    def __init__(self, context: DistributedContext, save_every_minutes: float) -> None:
        self.context = context
        self.save_every_seconds = save_every_minutes * 60
        self.last_save = time.monotonic()
        self.received_signal = 0
        self.received_at = 0.0
        self.pending: tuple[torch.Tensor, Any] | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator["Interruption"]:
        """Catches the signals while the block runs, then puts the former handlers back."""
        former = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received_signal and now - self.received_at > IMPATIENT_AFTER_SECONDS:
            raise SystemExit(128 + number)
        if not self.received_signal:
            self.received_signal, self.received_at = number, now

    def poll(self) -> Decision:
        """To be called by every process at every step boundary: what all of them do now."""
        due = self.context.is_main and time.monotonic() - self.last_save >= self.save_every_seconds
        if due:  # from the asking, not from the saving: the answer comes a step later, and must not be asked for twice
            self.last_save = time.monotonic()
        flags = torch.tensor([self.received_signal, int(due)])
        if self.context.size > 1:
            flags = self._agree(flags)
        return Decision(int(flags[0]), bool(flags[1]))

    def stop_if_asked(self, decision: Decision) -> None:
        """Raises Stopped, in all processes at once, if a signal asked for it."""
        if decision.stop_signal:
            raise Stopped(decision.stop_signal)

    def _agree(self, flags: torch.Tensor) -> torch.Tensor:
        """Returns the maximum of the flags of the step before, and sends this step's on their way."""
        agreed = torch.zeros_like(flags)
        if self.pending is not None:
            agreed, work = self.pending
            work.wait()
        work = dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self.context.control, async_op=True)
        self.pending = flags, work
        return agreed


def end_with_launcher(look_every: float = 1.0) -> None:
    """Makes this process end when the launcher that started it is gone, however that ended; alone it does nothing.

    Nobody would be left to end it, and it would hold the GPU and the run folder. It gets a SIGTERM, upon which a run
    writes its checkpoint, and is killed if that takes too long.

    Args:
        look_every: seconds between two looks.
    """
    if under_launcher():
        threading.Thread(target=_follow, args=(os.getppid(), look_every), daemon=True).start()


def _follow(launcher: int, look_every: float) -> None:
    while os.getppid() == launcher:
        time.sleep(look_every)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHANS_END_AFTER_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def ignore_signals_in_worker(worker_id: int) -> None:
    """For data workers: a signal to the whole process group (Ctrl-C, a batch system) reaches them too.

    The training process still needs their batches until the next step boundary. They leave when it tells them to, or
    within seconds of its death.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Ignored altogether, SIGTERM would make a program that ends with an error wait for its workers for ever.
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_the_parent, daemon=True).start()


def _obey_the_parent() -> None:
    """Ends this worker on a SIGTERM of the training process; others are passed over."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
