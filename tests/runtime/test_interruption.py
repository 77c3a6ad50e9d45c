"""Signals and the save timer as decisions at step boundaries."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from public.runtime import interruption as interruption_module
from public.runtime.distributed import DistributedContext
from public.runtime.interruption import Decision, Interruption, Stopped, ignore_signals_in_worker
from tests.clock import Clock


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The module's clock."""
    fake = Clock(50.0)
    monkeypatch.setattr(interruption_module, "time", SimpleNamespace(monotonic=fake))
    return fake


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_at_the_next_step_boundary(
    context: DistributedContext, number: signal.Signals, exit_code: int
) -> None:
    """The signal only sets a flag; `poll` reports it, and the exit code is 128 + its number (15, 2)."""
    with Interruption(context, 10).listening() as interruption:
        assert interruption.poll() == Decision(stop_signal=0, save=False)
        interruption.stop_if_asked(interruption.poll())
        signal.raise_signal(number)
        decision = interruption.poll()
        assert decision == Decision(stop_signal=int(number), save=False)
        with pytest.raises(Stopped, match=f"stopped by {number.name}") as stop:
            interruption.stop_if_asked(decision)
    assert stop.value.exit_code == exit_code


def test_the_former_handlers_come_back(context: DistributedContext) -> None:
    """Afterwards, and after an error too."""
    former = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Interruption(context, 10).listening():
        assert signal.getsignal(signal.SIGTERM) is not former[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == former
    with contextlib.suppress(ZeroDivisionError), Interruption(context, 10).listening():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == former


def test_a_repeated_signal_is_one_request_a_later_one_means_at_once(context: DistributedContext, time: Clock) -> None:
    """A launcher's echo within 2 s changes nothing, not even the first signal's number; a person's second one does."""
    with Interruption(context, 10).listening() as interruption:
        signal.raise_signal(signal.SIGTERM)
        time.now += 1.9
        signal.raise_signal(signal.SIGINT)
        assert interruption.poll().stop_signal == signal.SIGTERM
        time.now += 0.2
        with pytest.raises(SystemExit) as stop:
            signal.raise_signal(signal.SIGINT)
    assert stop.value.code == 130


def test_a_checkpoint_is_due_every_so_many_minutes(context: DistributedContext, time: Clock) -> None:
    """Every half minute, counted from the last one: at 30 s, then not before 75 s if that one came at 45 s."""
    interruption = Interruption(context, 0.5)
    due = []
    for seconds in (29, 30, 31, 45, 59, 61, 74, 75):
        time.now = 50.0 + seconds
        if seconds == 45:
            interruption.last_save = time.now  # saved for another reason
        due.append(interruption.poll().save)
    assert due == [False, True, False, False, False, False, False, True]


def test_only_the_main_process_watches_the_clock(time: Clock) -> None:
    """The others' clocks may differ; a decision must not."""
    other = Interruption(DistributedContext(rank=1, size=1, device=torch.device("cpu")), 0.5)
    time.now += 1000
    assert other.poll() == Decision(0, False)


def test_all_processes_stop_at_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only process 1 gets the signal, before step 1; both read the maximum one step later and stop at step 2."""
    flags: dict[tuple[int, int], torch.Tensor] = {}
    calls = [0, 0]

    def all_reduce(tensor: torch.Tensor, op: Any, group: Any, async_op: bool) -> Any:
        assert (op, async_op) == (dist.ReduceOp.MAX, True)
        rank, step = int(group), calls[int(group)]
        calls[rank] += 1
        flags[step, rank] = tensor

        def wait() -> None:
            both = torch.maximum(flags[step, 0], flags[step, 1])
            tensor.copy_(both)

        return SimpleNamespace(wait=wait)

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    worlds = [DistributedContext(rank=rank, size=2, device=torch.device("cpu"), control=rank) for rank in (0, 1)]
    both = [Interruption(context, 10) for context in worlds]
    decisions = []
    for step in range(3):
        both[1].received_signal = 15 if step == 1 else both[1].received_signal
        decisions.append([interruption.poll().stop_signal for interruption in both])
    assert decisions == [[0, 0], [0, 0], [15, 15]]


def test_workers_leave_ctrl_c_to_the_training_process() -> None:
    """SIGINT is ignored in a data worker; this process's handlers are put back afterwards."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ignore_signals_in_worker(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # programs that later tests start inherit the mask


def test_a_checkpoint_is_decided_on_once_by_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every minute, agreed on one step later: asked at 61 s, due at 62 s, and not again before 121 + 1 step."""
    monkeypatch.setattr(dist, "all_reduce", lambda flags, **options: SimpleNamespace(wait=lambda: None))
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(interruption_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    interruption = Interruption(DistributedContext(rank=0, size=2, device=torch.device("cpu")), 1)
    due = []
    for seconds in (10, 61, 62, 63, 64, 100, 124, 125, 126, 127):
        clock.now = seconds
        due.append(interruption.poll().save)
    assert due == [False, False, True, False, False, False, False, True, False, False]


def test_a_process_ends_with_its_launcher(tmp_path: Path) -> None:
    """The launcher is killed outright: what it started gets a SIGTERM, upon which a run saves."""
    child = (
        "import pathlib, signal, sys, time\n"
        "from public.runtime.interruption import end_with_launcher\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, lambda *_: ((folder / 'saved').touch(), sys.exit()))\n"
        "end_with_launcher(look_every=0.05)\n"
        "(folder / 'started').touch()\n"
        "time.sleep(60)\n"
    )
    launcher = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', *sys.argv[1:]])\n"
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    with subprocess.Popen([sys.executable, "-c", launcher, child, str(tmp_path)], env=os.environ | place) as process:
        wait_for(tmp_path / "started")
        process.kill()
    wait_for(tmp_path / "saved")


def wait_for(path: Path) -> None:
    """Until the file is there."""
    for _ in range(1200):
        if path.exists():
            return
        sleep(0.05)
    pytest.fail(f"{path} never came")
