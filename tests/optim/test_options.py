"""What optimizers and schedules refuse, and in which words."""

from dataclasses import fields
from typing import Any

import pytest

from public.config.options import Options
from public.config.run import OptimizerOptions, ScheduleOptions
from public.optim.options import (
    OPTIMIZER_KIND,
    OPTIMIZERS,
    SCHEDULE_KIND,
    SCHEDULES,
    AdamWOptions,
    ConstantOptions,
    CosineOptions,
    LAMBOptions,
    MultistepOptions,
    SGDOptions,
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": 0.0}, r"optimizer\.lr=0\.0 must be greater than 0"),
        ({"lr": -0.1}, r"optimizer\.lr=-0\.1 must be greater than 0"),
        ({"lr": float("nan")}, r"optimizer\.lr=nan must be greater than 0"),
        ({"weight_decay": -1e-4}, r"optimizer\.weight_decay=-0\.0001 must be 0 or more"),
    ],
)
def test_optimizer_refuses(given: dict[str, Any], message: str) -> None:
    """Numbers out of range are named with their values, whatever the kind."""
    for kind in OPTIMIZERS.values():
        with pytest.raises(ValueError, match=message):
            kind(**{"lr": 0.1, "weight_decay": 0.0} | given)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (SGDOptions, {"lr": float("inf")}, r"optimizer\.lr=inf must be greater than 0 and finite"),
        (SGDOptions, {"momentum": -0.1}, r"optimizer\.momentum=-0\.1 must lie within \[0, 1\)"),
        (SGDOptions, {"momentum": 1.0}, r"optimizer\.momentum=1\.0 must lie within \[0, 1\)"),
        (
            SGDOptions,
            {"momentum": 0.0, "nesterov": True},
            r"optimizer\.nesterov=True needs optimizer\.momentum",
        ),
        (AdamWOptions, {"betas": (0.9, 1.0)}, r"optimizer\.betas=\(0\.9, 1\.0\) must lie within"),
    ],
)
def test_optimizer_refuses_too(kind: Any, given: dict[str, Any], message: str) -> None:
    """What torch would refuse later, with a traceback, after the data was read."""
    with pytest.raises(ValueError, match=message):
        kind(**{"lr": 0.1, "weight_decay": 0.0} | given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lookahead_steps": 1}, r"optimizer\.lookahead_steps=1 must be 2 or more"),
        ({"lookahead_steps": 5, "lookahead_alpha": 1.0}, r"optimizer\.lookahead_alpha=1\.0 must lie within \(0, 1\)"),
        ({"lookahead_alpha": 0.25}, r"lookahead_alpha=0\.25 has no effect without optimizer\.lookahead_steps"),
    ],
)
def test_lookahead_refuses(given: Any, message: str) -> None:
    """Numbers out of range, and a share of no steps."""
    with pytest.raises(ValueError, match=message):
        SGDOptions(lr=0.1, weight_decay=0.0, **given)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (ConstantOptions, {"warmup_epochs": -1.0}, r"schedule\.warmup_epochs=-1\.0 must be 0 or more"),
        (CosineOptions, {"warmup_epochs": float("nan")}, r"schedule\.warmup_epochs=nan must be 0 or more"),
        (MultistepOptions, {"milestones": ()}, r"schedule\.kind='multistep' needs at least one schedule\.milestones"),
        (MultistepOptions, {"milestones": (2.0, 2.0)}, r"milestones=\(2\.0, 2\.0\) must be positive and rise"),
        (MultistepOptions, {"milestones": (3.0, 2.0)}, r"milestones=\(3\.0, 2\.0\) must be positive and rise"),
        (MultistepOptions, {"milestones": (0.0, 2.0)}, r"milestones=\(0\.0, 2\.0\) must be positive and rise"),
    ],
)
def test_schedule_refuses(kind: Any, given: dict[str, Any], message: str) -> None:
    """Numbers out of range and milestones out of order."""
    with pytest.raises(ValueError, match=message):
        kind(**given)


STATED: dict[type[Options], dict[str, Any]] = {
    SGDOptions: {"lr": 0.1, "weight_decay": 0.0},
    AdamWOptions: {"lr": 0.1, "weight_decay": 0.0},
    LAMBOptions: {"lr": 0.1, "weight_decay": 0.0},
    MultistepOptions: {"milestones": (2.0,)},
    CosineOptions: {},
    ConstantOptions: {},
}
"""What has no default."""


@pytest.mark.parametrize("table", [OPTIMIZERS, SCHEDULES], ids=["optimizer", "schedule"])
def test_a_kind_has_no_settings_that_it_would_ignore(table: dict[str, type[Options]]) -> None:
    """Each kind is made of what it has no default for; another kind's own settings are no arguments of it."""
    names = {kind: {f.name for f in fields(kind)} for kind in table.values()}
    for kind, own in names.items():
        kind(**STATED[kind])
        for other in set.union(*names.values()) - own:
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{other}'"):
                kind(**STATED[kind], **{other: None})


def test_the_tables() -> None:
    """A kind is known by the name in its options; the command line chooses among all of them."""
    assert [*OPTIMIZERS] == ["sgd", "adamw", "lamb"]
    assert [*SCHEDULES] == ["multistep", "cosine", "constant"]
    for table, kind, base, option in (
        (OPTIMIZERS, OPTIMIZER_KIND, OptimizerOptions, "optimizer.name"),
        (SCHEDULES, SCHEDULE_KIND, ScheduleOptions, "schedule.kind"),
    ):
        assert (kind.option, kind.section, [*kind.names]) == (option, option.split(".")[0], [*table])
        for name, options in table.items():
            assert issubclass(options, base)
            assert (kind.type_of(name), options.kind) == (options, name)


def test_schedule_refuses_negative_factors() -> None:
    """They would turn the learning rate's sign."""
    with pytest.raises(ValueError, match=r"schedule\.gamma=-1\.0 must be greater than 0"):
        MultistepOptions(milestones=(1.0,), gamma=-1.0)
    with pytest.raises(ValueError, match=r"schedule\.final_factor=-0\.5 must be 0 or more"):
        CosineOptions(final_factor=-0.5)


def test_schedule_may_not_reach_beyond_the_run() -> None:
    """A milestone at the last epoch's end is never reached; a warm-up may last as long as the run, not longer."""
    schedule = MultistepOptions(milestones=(3.0, 9.0), warmup_epochs=9.5)
    schedule.check_against(9.5)
    with pytest.raises(ValueError, match=r"milestones=\(3\.0, 9\.0\): \[9\.0\] would never be reached in epochs=9\."):
        schedule.check_against(9)
    with pytest.raises(ValueError, match=r"warmup_epochs=9\.5 is longer than the run of epochs=9"):
        ConstantOptions(warmup_epochs=9.5).check_against(9)
