"""The learning rate as one pure function of the step: nothing to store, nothing to get out of step on a resume."""

from public.config.run import ScheduleOptions


def lr_factor(schedule: ScheduleOptions, step: int, *, epochs: int, steps_per_epoch: int) -> float:
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
    num_steps = epochs * steps_per_epoch
    return schedule.factor(step, num_steps=num_steps, warmup_steps=warmup_steps, steps_per_epoch=steps_per_epoch)
