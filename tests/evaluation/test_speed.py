"""Times by a clock that the test moves."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from public.evaluation import speed
from public.evaluation.speed import Timing, time_inference
from tests.clock import Clock

CPU = torch.device("cpu")


class Batch(NamedTuple):
    """The least that a loader gives."""

    images: torch.Tensor


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The module's clock."""
    fake = Clock(7.0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=fake))
    return fake


def batches(clock: Clock, load_seconds: list[float], num_images: int = 4) -> Iterator[Batch]:
    """Batches that take so long to come."""
    for seconds in load_seconds:
        clock.now += seconds
        yield Batch(torch.zeros(num_images, 3, 2, 2, dtype=torch.uint8))


def test_by_hand(clock: Clock) -> None:
    """Two slow batches of warm-up, then loads of 0.1, 0.2, 0.3 s, 0.4 s each forward, 0.2 s each decode; 4 images."""
    seen: list[int] = []

    def forward(batch: Batch) -> str:
        clock.now += 9.0 if len(seen) < 2 else 0.4
        seen.append(len(batch.images))
        return "outputs"

    def decode(outputs: str) -> None:
        assert outputs == "outputs"
        clock.now += 0.2

    stages: dict[str, Any] = {"forward": forward, "decode": decode}
    timing = time_inference(stages, batches(clock, [5, 5, 0.1, 0.2, 0.3]), CPU, num_warmup=2)
    assert timing.parts == pytest.approx({"load": 50.0, "forward": 100.0, "decode": 50.0})
    assert (timing.num_images, len(seen)) == (12, 5)


def test_no_more_batches_than_asked_for(clock: Clock) -> None:
    """1 of warm-up and 2 measured: the fourth is never loaded."""
    source = batches(clock, [1.0] * 10)
    assert time_inference({"forward": lambda batch: None}, source, CPU, num_warmup=1, num_measured=2).num_images == 8
    assert len(list(source)) == 7


def test_the_device_is_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's work that is still running when a stage returns counts as forward time."""
    monkeypatch.setattr(speed, "synchronize", lambda device: setattr(clock, "now", clock.now + 2))
    timing = time_inference({"forward": lambda batch: None}, batches(clock, [1.0, 1.0]), CPU, num_warmup=1)
    assert timing.parts == pytest.approx({"load": 250.0, "forward": 500.0})


def test_too_few_batches(clock: Clock) -> None:
    """Three of warm-up leave nothing to measure."""
    with pytest.raises(ValueError, match=r"fewer than 4 batches: too few to measure after 3 of warm-up"):
        time_inference({"forward": lambda batch: None}, batches(clock, [1.0] * 3), CPU)


def test_as_text() -> None:
    """Total and parts."""
    assert (
        str(Timing({"load": 1.234, "forward": 2.0}, 40)) == "3.23 ms per image: load 1.23 + forward 2.00 (mean of 40)"
    )
