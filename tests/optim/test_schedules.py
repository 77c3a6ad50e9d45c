"""Learning rates at exact steps, worked out by hand, and against torch's own schedulers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import lr_scheduler

from public.config.run import ScheduleOptions
from public.optim.options import ConstantOptions, CosineOptions, MultistepOptions
from public.optim.schedules import lr_factor


def factors(schedule: ScheduleOptions, epochs: int, steps_per_epoch: int) -> list[float]:
    """The factor of every step of a run."""
    steps = range(epochs * steps_per_epoch)
    return [lr_factor(schedule, step, epochs=epochs, steps_per_epoch=steps_per_epoch) for step in steps]


def test_constant() -> None:
    """Always 1."""
    assert factors(ConstantOptions(), 2, 3) == [1.0] * 6


def test_warmup_starts_at_one_step_and_ends_at_the_peak() -> None:
    """2 epochs of 4 steps: 1/8 at step 0, 8/8 at step 7 (the last of the warm-up), never 0 and never above 1."""
    values = factors(ConstantOptions(warmup_epochs=2), 3, 4)
    assert values == [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("warmup_epochs", "expected"), [(0.0, 1.0), (0.1, 1.0), (0.25, 1.0), (0.5, 0.5), (0.6, 0.5)])
def test_a_short_warmup_is_rounded_to_whole_steps(warmup_epochs: float, expected: float) -> None:
    """Of 4 steps: 0, 0.4 -> 0 and 1 step start at the peak; 2 and 2.4 -> 2 steps start at 1/2."""
    schedule = ConstantOptions(warmup_epochs=warmup_epochs)
    assert lr_factor(schedule, 0, epochs=1, steps_per_epoch=4) == expected


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1.0), (11, 1.0), (12, 0.5), (29, 0.5), (30, 0.25), (35, 0.25), (36, 0.125), (39, 0.125)]
)
def test_multistep_changes_at_the_milestone(step: int, expected: float) -> None:
    """Milestones 3, 7.5 and 9 epochs of 4 steps: the first steps after 12, 30 and 36 done; gamma 1/2."""
    schedule = MultistepOptions(milestones=(3, 7.5, 9), gamma=0.5)
    assert lr_factor(schedule, step, epochs=10, steps_per_epoch=4) == expected


def test_gamma_is_a_tenth_unless_stated() -> None:
    """After one and two milestones; 0.1 ** 2 in floating point."""
    values = factors(MultistepOptions(milestones=(1, 2)), 3, 1)
    assert values == pytest.approx([1, 0.1, 0.01], abs=1e-15)


def test_milestones_count_from_the_start_of_the_run() -> None:
    """A warm-up of 2 epochs does not move a milestone at 3; one within the warm-up holds from its end."""
    schedule = MultistepOptions(milestones=(1, 3), gamma=0.5, warmup_epochs=2)
    assert factors(schedule, 4, 2) == [0.25, 0.5, 0.75, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (8, 1.0),  # progress 0
        (16, 0.5 * (1 + math.sqrt(0.5))),  # progress 8/32: cos(45 degrees)
        (24, 0.5),  # progress 16/32: cos(90 degrees)
        (32, 0.5 * (1 - math.sqrt(0.5))),  # progress 24/32
        (39, 0.5 * (1 + math.cos(math.pi * 31 / 32))),  # the last step does not reach 0
    ],
)
def test_cosine(step: int, expected: float) -> None:
    """10 epochs of 4 steps, 8 of them warm-up: half a cosine over the other 32."""
    schedule = CosineOptions(warmup_epochs=2)
    assert lr_factor(schedule, step, epochs=10, steps_per_epoch=4) == pytest.approx(expected, abs=1e-12)


def test_cosine_ends_near_its_final_factor() -> None:
    """1 and 0.2 at the ends; half-way between them, 0.6, in the middle."""
    values = factors(CosineOptions(final_factor=0.2), 1, 100)
    assert values[0] == 1
    assert values[50] == pytest.approx(0.6)
    assert values[99] == pytest.approx(0.2, abs=3e-4)  # 0.8 x (pi/200)^2 = 2.0e-4 above it
    assert values == sorted(values, reverse=True)


def test_a_warmup_as_long_as_the_run() -> None:
    """No step is left for the cosine, and nothing is divided by zero."""
    schedule = CosineOptions(warmup_epochs=2)
    assert factors(schedule, 2, 2) == [0.25, 0.5, 0.75, 1.0]
    assert lr_factor(schedule, 4, epochs=2, steps_per_epoch=2) == 1.0


def test_a_pure_function_of_the_step() -> None:
    """Asked in any order, the values are those of the run in order."""
    schedule = CosineOptions(warmup_epochs=1)
    forward = factors(schedule, 5, 7)
    backward = [lr_factor(schedule, step, epochs=5, steps_per_epoch=7) for step in reversed(range(35))]
    assert backward[::-1] == forward


@pytest.mark.parametrize(
    ("schedule", "build"),
    [
        (
            MultistepOptions(milestones=(2, 5), gamma=0.2),
            lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [14, 35], gamma=0.2),
        ),
        (
            CosineOptions(final_factor=0.05),
            lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=56, eta_min=0.05),
        ),
        (
            ConstantOptions(warmup_epochs=3),
            lambda optimizer: lr_scheduler.LinearLR(optimizer, start_factor=1 / 21, total_iters=20),
        ),
    ],
)
def test_equals_torchs_schedulers(
    schedule: ScheduleOptions, build: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]
) -> None:
    """8 epochs of 7 steps at a peak of 1, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build(optimizer)
    expected = []
    for _ in range(56):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert factors(schedule, 8, 7) == pytest.approx(expected, abs=1e-12)
