"""The sections that classification and detection configs share.

A section is data only and is checked when it is made. Fields of a kind that the chosen kind does not use must be
left at None, so that no setting is silently ignored.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, Self

LARGEST_SIDE = 8192
"""Of an input, pixels. Multiply-adds are counted on the CPU, where a ResNet's first maps then take 4 GiB each."""


def require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds: the one way in which a config refuses a setting."""
    if not condition:
        raise ValueError(message)


def require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless the value of the option `name` is one of those allowed."""
    require(value in allowed, f"{name}={value!r} must be one of {', '.join(allowed)}.")


def require_side(name: str, value: int | tuple[int, int]) -> None:
    """Raises ValueError unless the option `name` is a side, or the two sides, of an image that can be computed."""
    sides = (value,) if isinstance(value, int) else value
    require(
        all(1 <= side <= LARGEST_SIDE for side in sides), f"{name}={value} must lie within 1..{LARGEST_SIDE} pixels."
    )


def _not_finite(section: Any, prefix: str = "") -> Iterator[str]:
    """'data.mean=(nan, 0.5, 0.5)' for each setting, also of the sections within, that holds infinity or no number."""
    for one in fields(section):
        value = getattr(section, one.name)
        if is_dataclass(value):
            yield from _not_finite(value, f"{prefix}{one.name}.")
        numbers = value if isinstance(value, list | tuple) else (value,)
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            yield f"{prefix}{one.name}={value}"


def _refuse_unused(section: str, kind: str, kind_name: str, unused: dict[str, object]) -> None:
    """Refuses fields that are set although the chosen kind ignores them."""
    set_fields = [f"{section}.{name}={value!r}" for name, value in unused.items() if value not in (None, ())]
    require(
        not set_fields,
        f"{', '.join(set_fields)} would have no effect: {section}.{kind}={kind_name!r} does not use it. "
        f"Leave it out, set it to None (or an empty list), or choose another {section}.{kind}.",
    )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Which optimizer, and its numbers."""

    name: Literal["sgd", "adamw"]
    """sgd: stochastic gradient descent with momentum; adamw: Adam with decoupled weight decay."""
    lr: float
    """Peak learning rate, for the global batch size that the config states."""
    weight_decay: float
    """Decay factor: L2 added to the gradient in sgd, decoupled (times lr) in adamw."""
    decay_norm_and_bias: bool = True
    """Whether normalisation parameters and biases (every parameter of one dimension) are decayed too."""
    momentum: float | None = None
    """sgd only: momentum factor; None means 0.9."""
    nesterov: bool | None = None
    """sgd only: Nesterov momentum; None means off."""
    betas: tuple[float, float] | None = None
    """adamw only: decay rates of the two moments; None means (0.9, 0.999)."""
    gradient_centralization: bool | None = None
    """Whether the mean over all but the output channels is taken from each weight's gradient; None means no."""
    lookahead_steps: int | None = None
    """Steps after which the weights return to slow ones that follow them (Lookahead, usually 5); None: never."""
    lookahead_alpha: float | None = None
    """Share of the way that the slow weights then go; None means 0.5."""

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, f"optimizer.lr={self.lr} must be greater than 0 and finite.")
        require(self.weight_decay >= 0, f"optimizer.weight_decay={self.weight_decay} must be 0 or greater.")
        unused: dict[str, object] = {"betas": self.betas}
        if self.name == "adamw":
            unused = {"momentum": self.momentum, "nesterov": self.nesterov}
        _refuse_unused("optimizer", "name", self.name, unused)
        momentum = 0.9 if self.momentum is None else self.momentum
        require(0 <= momentum < 1, f"optimizer.momentum={momentum} must lie within [0, 1).")
        require(not self.nesterov or momentum > 0, "optimizer.nesterov=True needs optimizer.momentum above 0.")
        require(
            self.betas is None or all(0 <= beta < 1 for beta in self.betas),
            f"optimizer.betas={self.betas} must lie within [0, 1).",
        )
        self._check_lookahead()

    def _check_lookahead(self) -> None:
        steps, alpha = self.lookahead_steps, self.lookahead_alpha
        require(
            steps is None or steps >= 2,
            f"optimizer.lookahead_steps={steps} must be 2 or more (None: no Lookahead); with 1 it is a smaller lr.",
        )
        require(alpha is None or 0 < alpha < 1, f"optimizer.lookahead_alpha={alpha} must lie within (0, 1).")
        require(
            alpha is None or steps is not None,
            f"optimizer.lookahead_alpha={alpha} has no effect without optimizer.lookahead_steps.",
        )


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves. A pure function of the step: `public.optim.schedules.lr_factor`."""

    kind: Literal["multistep", "cosine", "constant"]
    """multistep: times gamma at each milestone; cosine: half a cosine from 1 to final_factor; constant: 1."""
    warmup_epochs: float = 0.0
    """Length of the linear warm-up in epochs, from lr / warm-up steps at the first step to lr at the last."""
    milestones: tuple[float, ...] = ()
    """multistep only: epochs (fractions allowed) after which the factor is multiplied by gamma."""
    gamma: float | None = None
    """multistep only: the factor applied at each milestone; None means 0.1."""
    final_factor: float | None = None
    """cosine only: the factor that the last step approaches; None means 0."""

    def __post_init__(self) -> None:
        require(self.warmup_epochs >= 0, f"schedule.warmup_epochs={self.warmup_epochs} must be 0 or greater.")
        unused: dict[str, object] = {}
        if self.kind != "multistep":
            unused |= {"milestones": self.milestones, "gamma": self.gamma}
        if self.kind != "cosine":
            unused |= {"final_factor": self.final_factor}
        _refuse_unused("schedule", "kind", self.kind, unused)
        require(self.gamma is None or self.gamma > 0, f"schedule.gamma={self.gamma} must be greater than 0.")
        require(
            self.final_factor is None or self.final_factor >= 0,
            f"schedule.final_factor={self.final_factor} must be 0 or greater.",
        )
        if self.kind == "multistep":
            require(bool(self.milestones), "schedule.kind='multistep' needs at least one schedule.milestones.")
            rising = all(a < b for a, b in zip((0.0, *self.milestones), self.milestones, strict=False))
            require(
                rising,
                f"schedule.milestones={self.milestones} must be positive and rise from one to the next.",
            )

    def check_against(self, epochs: float) -> None:
        """Raises ValueError where the schedule reaches beyond the run."""
        beyond = [m for m in self.milestones if m >= epochs]
        require(
            not beyond,
            f"schedule.milestones={self.milestones}: {beyond} would never be reached in epochs={epochs}. "
            "Give milestones below the number of epochs.",
        )
        require(
            self.warmup_epochs <= epochs,
            f"schedule.warmup_epochs={self.warmup_epochs} is longer than the run of epochs={epochs}.",
        )

    def stretched(self, factor: float) -> dict[str, Any]:
        """The fields that change when the run becomes `factor` times as long and the curve keeps its shape."""
        fields: dict[str, Any] = {}
        if self.milestones:
            fields["milestones"] = tuple(round(m * factor, 6) for m in self.milestones)
        if self.warmup_epochs:
            fields["warmup_epochs"] = self.warmup_epochs * factor
        return fields


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How the run is carried out. Nothing here changes a result, so all of it may differ when a run is resumed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one, else the CPU."""
    processes: int | None = None
    """Processes that `python train.py` starts when no launcher did; None: one per visible GPU, one on a CPU."""
    num_workers: int = 4
    """Processes that read and transform images, for each training process; 0: in the training process itself."""
    log_every: int = 20
    """Steps between two progress lines."""
    save_every_minutes: float = 10.0
    """Minutes between two checkpoints within an epoch (one is always written at its end)."""
    deterministic: bool = False
    """On a GPU: only kernels that add in a fixed order, slower ones, so that a run repeats and resumes bit for bit
    there too; torch warns of those without. A CPU's always do."""

    def __post_init__(self) -> None:
        require(
            self.processes is None or self.processes >= 1,
            f"runtime.processes={self.processes} must be 1 or more.",
        )
        require(self.num_workers >= 0, f"runtime.num_workers={self.num_workers} must be 0 or more.")
        require(self.log_every >= 1, f"runtime.log_every={self.log_every} must be 1 or more.")
        require(
            self.save_every_minutes > 0,
            f"runtime.save_every_minutes={self.save_every_minutes} must be above 0.",
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run states, whatever its task: `ClassificationConfig` and its siblings add their own fields."""

    name: str
    """Name of the run folder, runs/<name>/ in the experiment folder."""
    network: str
    """A name from `public.backbones.catalog.list_backbones()` (or of the detectors' catalogue)."""
    num_classes: int | None = None
    """None: as many as the data set has; a number is checked against the data set."""
    initial_weights: str | None = None
    """None: random. A file, torchvision:<model>[.<weights>] or timm:<model>; only the classifier may be left out."""
    epochs: int
    """Passes over the training set."""
    batch_size: int
    """Images per optimizer step, over all processes and accumulation steps together."""
    accumulation_steps: int = 1
    """Forward/backward passes per optimizer step; each sees batch_size / (processes x accumulation_steps) images."""
    clip_grad_norm: float | None = None
    """Largest allowed norm of the whole gradient; None: not clipped."""
    ema_decay: float | None = None
    """Decay per step of the averaged weights that are then evaluated; None: the weights themselves."""
    sync_batch_norm: bool = False
    """Batch norm statistics over all processes (GPUs only)."""
    parallel: Literal["distributed", "data_parallel"] = "distributed"
    """distributed: one process per GPU; data_parallel: one process and nn.DataParallel."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the device computes it natively, else fp16 on a GPU, else fp32."""
    compile: bool = False
    """torch.compile the network (on a CPU this needs a C++ compiler)."""
    channels_last: bool = False
    """NHWC memory layout: often faster for plain convolutions, often slower for grouped ones."""
    seed: int = 0
    """Seed of the initial weights, the order of images and every augmentation."""
    evaluate_every: int = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    optimizer: OptimizerConfig
    """The optimizer and its numbers."""
    schedule: ScheduleConfig
    """How the learning rate moves."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """How the run is carried out; nothing in it changes a result."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation_steps", "evaluate_every"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be 1 or more.")
        require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            f"ema_decay={self.ema_decay} must lie within (0, 1).",
        )
        clip = self.clip_grad_norm
        require(clip is None or clip > 0, f"clip_grad_norm={clip} must be greater than 0 (None: no clipping).")
        require(
            self.name not in ("", ".", "..") and "/" not in self.name,
            f"name={self.name!r} must be a folder name.",
        )
        require(0 <= self.seed < 2**63, f"seed={self.seed} must lie within 0..{2**63 - 1}.")
        not_finite = ", ".join(_not_finite(self))
        require(not not_finite, f"{not_finite} must be finite, neither inf nor nan.")
        self.schedule.check_against(self.epochs)
        self._check_parallel()

    def _check_parallel(self) -> None:
        one_process = self.runtime.processes in (None, 1)
        require(
            self.parallel == "distributed" or one_process,
            f"parallel='data_parallel' runs one process: runtime.processes={self.runtime.processes} must be 1 or None.",
        )
        require(
            self.parallel == "distributed" or not self.sync_batch_norm,
            "sync_batch_norm=True has no effect with parallel='data_parallel': statistics are shared between processes "
            "only. Leave it out, or choose parallel='distributed'.",
        )
        self.local_batch_size(self.runtime.processes or 1)

    def local_batch_size(self, num_processes: int) -> int:
        """Images of one process in one forward pass; raises ValueError where the batch does not divide."""
        parts = num_processes * self.accumulation_steps
        remedy = (
            " Start fewer processes (--runtime.processes, or fewer GPUs in CUDA_VISIBLE_DEVICES), or give a larger "
            "--batch-size with the --optimizer.lr that goes with it."
        )
        require(
            self.batch_size % parts == 0,
            f"batch_size={self.batch_size} must be divisible by processes x accumulation_steps = "
            f"{num_processes} x {self.accumulation_steps} = {parts}.{remedy if num_processes > 1 else ''}",
        )
        return self.batch_size // parts

    def with_epochs(self, epochs: int) -> Self:
        """The same run over another number of epochs, its schedule stretched to the same shape."""
        schedule = replace(self.schedule, **self.schedule.stretched(epochs / self.epochs))
        return replace(self, epochs=epochs, schedule=schedule)
