"""The kinds of optimizers and schedules, and their settings."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from public.config.checks import require, require_at_least
from public.config.options import Kind, Options
from public.config.run import OptimizerOptions, ScheduleOptions


@dataclass(frozen=True, kw_only=True)
class SGDOptions(OptimizerOptions):
    """Stochastic gradient descent with momentum, as torch's.

    The rate follows the batch linearly: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.1.
    """

    kind: ClassVar[str] = "sgd"
    lr_exponent: ClassVar[float] = 1.0
    momentum: float = 0.9
    """Momentum factor."""
    nesterov: bool = False
    """Nesterov momentum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.momentum < 1, f"optimizer.momentum={self.momentum} must lie within [0, 1).")
        require(not self.nesterov or self.momentum > 0, "optimizer.nesterov=True needs optimizer.momentum above 0.")


@dataclass(frozen=True, kw_only=True)
class AdamWOptions(OptimizerOptions):
    """Adam with decoupled weight decay, as torch's.

    The rate follows the batch by its square root: Malladi et al. 2022, https://arxiv.org/abs/2205.10287. The betas stay
    as they are, unlike theirs.
    """

    kind: ClassVar[str] = "adamw"
    lr_exponent: ClassVar[float] = 0.5
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the two moments."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(0 <= beta < 1 for beta in self.betas), f"optimizer.betas={self.betas} must lie within [0, 1).")


@dataclass(frozen=True, kw_only=True)
class LAMBOptions(AdamWOptions):
    """LAMB, Adam with steps as long as the weights that they change: see `public.optim.lamb`.

    The rate follows the batch by its square root, as AdamW's: You et al. 2019, https://arxiv.org/abs/1904.00962,
    section 4.
    """

    kind: ClassVar[str] = "lamb"


@dataclass(frozen=True, kw_only=True)
class MultistepOptions(ScheduleOptions):
    """Times gamma at each milestone."""

    kind: ClassVar[str] = "multistep"
    milestones: tuple[float, ...]
    """Epochs (fractions allowed) after which the factor is multiplied by gamma."""
    gamma: float = 0.1
    """The factor applied at each milestone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.gamma > 0, f"schedule.gamma={self.gamma} must be greater than 0.")
        require(bool(self.milestones), "schedule.kind='multistep' needs at least one schedule.milestones.")
        rising = all(a < b for a, b in zip((0.0, *self.milestones), self.milestones, strict=False))
        require(rising, f"schedule.milestones={self.milestones} must be positive and rise from one to the next.")

    def factor(self, step: int, *, num_steps: int, warmup_steps: int, steps_per_epoch: int) -> float:
        """See `ScheduleOptions.factor`."""
        return self.gamma ** sum(step >= round(m * steps_per_epoch) for m in self.milestones)

    def check_against(self, epochs: float) -> None:
        """Raises ValueError where the schedule reaches beyond the run."""
        beyond = [m for m in self.milestones if m >= epochs]
        require(
            not beyond,
            f"schedule.milestones={self.milestones}: {beyond} would never be reached in epochs={epochs}. "
            "Give milestones below the number of epochs.",
        )
        super().check_against(epochs)

    def stretched(self, factor: float) -> dict[str, Any]:
        """The fields that change when the run becomes `factor` times as long and the curve keeps its shape."""
        return super().stretched(factor) | {"milestones": tuple(round(m * factor, 6) for m in self.milestones)}


@dataclass(frozen=True, kw_only=True)
class CosineOptions(ScheduleOptions):
    """Half a cosine from 1 to final_factor. Loshchilov & Hutter 2016, https://arxiv.org/abs/1608.03983, no restarts."""

    kind: ClassVar[str] = "cosine"
    final_factor: float = 0.0
    """The factor that the last step approaches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("schedule.final_factor", self.final_factor, 0)

    def factor(self, step: int, *, num_steps: int, warmup_steps: int, steps_per_epoch: int) -> float:
        """See `ScheduleOptions.factor`."""
        progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        return self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True)
class ConstantOptions(ScheduleOptions):
    """Behind the warm-up always the peak."""

    kind: ClassVar[str] = "constant"

    def factor(self, step: int, *, num_steps: int, warmup_steps: int, steps_per_epoch: int) -> float:
        """See `ScheduleOptions.factor`."""
        return 1.0


OPTIMIZERS: dict[str, type[Options]] = {options.kind: options for options in (SGDOptions, AdamWOptions, LAMBOptions)}
SCHEDULES: dict[str, type[Options]] = {
    options.kind: options for options in (MultistepOptions, CosineOptions, ConstantOptions)
}

OPTIMIZER_KIND = Kind("optimizer.name", "optimizer", tuple(OPTIMIZERS), OPTIMIZERS.__getitem__)
SCHEDULE_KIND = Kind("schedule.kind", "schedule", tuple(SCHEDULES), SCHEDULES.__getitem__)
