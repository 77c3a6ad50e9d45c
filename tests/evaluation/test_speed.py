"""Times by a clock that the test moves."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from public.evaluation import speed
from public.evaluation.speed import Timing, time_inference
from tests.clock import Clock

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The module's clock."""
    fake = Clock(7.0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=fake))
    return fake


def batches(clock: Clock, load_seconds: list[float], num_images: int = 4) -> Iterator[tuple[torch.Tensor, int]]:
    """Batches that take so long to come."""
    for seconds in load_seconds:
        clock.now += seconds
        yield torch.zeros(num_images, 3, 2, 2, dtype=torch.uint8), 0


def test_by_hand(clock: Clock) -> None:
    """Two slow batches of warm-up, then loads of 0.1, 0.2, 0.3 s and 0.4 s each forward, 4 images: 50 and 100 ms."""
    seen: list[int] = []

    def predict(images: torch.Tensor) -> None:
        clock.now += 9.0 if len(seen) < 2 else 0.4
        seen.append(len(images))

    timing = time_inference(predict, batches(clock, [5, 5, 0.1, 0.2, 0.3]), CPU, num_warmup=2)
    assert (timing.load, timing.forward) == pytest.approx((50.0, 100.0))
    assert (timing.num_images, len(seen)) == (12, 5)


def test_no_more_batches_than_asked_for(clock: Clock) -> None:
    """1 of warm-up and 2 measured: the fourth is never loaded."""
    source = batches(clock, [1.0] * 10)
    assert time_inference(lambda images: None, source, CPU, num_warmup=1, num_measured=2).num_images == 8
    assert len(list(source)) == 7


def test_the_device_is_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's work that is still running when `predict` returns counts as forward time."""
    monkeypatch.setattr(speed, "synchronize", lambda device: setattr(clock, "now", clock.now + 2))
    timing = time_inference(lambda images: None, batches(clock, [1.0, 1.0]), CPU, num_warmup=1)
    assert (timing.load, timing.forward) == pytest.approx((250.0, 500.0))


def test_too_few_batches(clock: Clock) -> None:
    """Three of warm-up leave nothing to measure."""
    with pytest.raises(ValueError, match=r"fewer than 4 batches: too few to measure after 3 of warm-up"):
        time_inference(lambda images: None, batches(clock, [1.0] * 3), CPU)


def test_as_text() -> None:
    """Total and parts."""
    assert str(Timing(1.234, 2.0, 40)) == "3.23 ms an image: load 1.23 + forward 2.00 (mean of 40)"
