"""The learning rate as one pure function of the step: nothing to store, nothing to get out of step on a resume."""

import math

from public.config.sections import ScheduleConfig


def lr_factor(schedule: ScheduleConfig, step: int, *, epochs: int, steps_per_epoch: int) -> float:
    """The factor on the peak learning rate for one optimizer step.

    Args:
        schedule: the curve.
        step: optimizer steps done before this one, from 0.
        epochs: length of the run in epochs.
        steps_per_epoch: optimizer steps of an epoch.
    """
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "multistep":
        passed = sum(step >= round(m * steps_per_epoch) for m in schedule.milestones)
        return (0.1 if schedule.gamma is None else schedule.gamma) ** passed
    progress = (step - warmup_steps) / max(1, epochs * steps_per_epoch - warmup_steps)
    final = schedule.final_factor or 0.0
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
