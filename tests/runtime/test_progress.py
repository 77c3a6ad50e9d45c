"""Progress lines with a clock that the test moves."""

import io
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from public.runtime import progress as progress_module
from public.runtime.progress import Progress, clock
from tests.clock import Clock


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The module's clock."""
    fake = Clock(100.0)
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(perf_counter=fake))
    return fake


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.4, "0:00:59"), (59.5, "0:01:00"), (3599.6, "1:00:00"), (90061, "25:01:01")],
)
def test_clock(seconds: float, text: str) -> None:
    """h:mm:ss of the nearest second: 90061 = 25 x 3600 + 60 + 1."""
    assert clock(seconds) == text


def test_plain_lines_without_a_terminal(time: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Steps of 2 s, half a second of it waiting: 8 images / 2 s, 25 % waiting, 10 - 4 = 6 steps x 2 s left."""
    progress = Progress("epoch 1/3", 10, 0, every=4, shown=True)
    assert progress.bar is None
    for _ in range(5):
        time.now += 2
        progress.wait_seconds += 0.5
        progress.advance(8, lambda: "loss 0.5")
    (line,) = caplog.messages
    assert line == "epoch 1/3  step 4/10  loss 0.5  4 images/s  waiting for data 25%  eta 0:00:12"
    assert "\r" not in line
    assert "\x1b" not in line


def test_lines_every_so_many_steps_and_at_the_end(time: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """10 steps, a line every 4: after 4, 8 and the last, which has nothing left."""
    progress = Progress("evaluate", 10, 0, every=4, shown=True)
    for _ in range(10):
        time.now += 1
        progress.advance(1)
    assert [line.split("step ")[1].split()[0] for line in caplog.messages] == ["4/10", "8/10", "10/10"]
    assert caplog.messages[-1] == "evaluate  step 10/10  1 images/s  waiting for data 0%  eta 0:00:00"


def test_a_resumed_epoch_counts_its_own_steps_only(time: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Resumed at step 6 of 10, after 2 steps of 3 s: 2 steps x 3 s left, 5 images / 3 s, not those done before."""
    progress = Progress("epoch 1/3", 10, 6, every=8, shown=True)
    for _ in range(2):
        time.now += 3
        progress.advance(5)
    assert caplog.messages == ["epoch 1/3  step 8/10  2 images/s  waiting for data 0%  eta 0:00:06"]
    assert progress.images_per_second == pytest.approx(10 / 6)


def test_other_processes_measure_and_stay_silent(time: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """`describe` may wait for a GPU: it is not called where nothing is shown."""
    progress = Progress("epoch", 2, 0, every=1, shown=False)
    time.now += 2
    progress.advance(6, lambda: pytest.fail("called"))
    assert caplog.messages == []
    assert progress.images_per_second == pytest.approx(3)


def test_timed_counts_waiting_but_not_working(time: Clock) -> None:
    """Each of 3 batches takes 1 s to come and 3 s to be worked on: 3 s of 12 are waiting."""

    def batches() -> Iterator[int]:
        for number in range(3):
            time.now += 1
            yield number

    progress = Progress("epoch", 3, 0, every=10, shown=False)
    seen = []
    for batch in progress.timed(batches()):
        time.now += 3
        seen.append(batch)
    assert seen == [0, 1, 2]
    assert (progress.wait_seconds, progress.seconds, progress.wait_share) == (3, 12, 0.25)


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The bar starts where the epoch was left, takes the place of lines, and is gone at the end."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    progress = Progress("epoch 2/3", 4, 1, every=1, shown=True)
    assert progress.bar is not None
    progress.advance(8, lambda: "loss 0.5")
    assert (progress.bar.n, progress.bar.total) == (2, 4)
    progress.close()
    assert "epoch 2/3" in terminal.getvalue()
    assert "loss 0.5" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")
    assert caplog.messages == []
