"""What every run states, whatever its task: its length, batch, precision, seed, and how it is carried out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, Self, get_args

from public.config.checks import require, require_at_least, require_one_of
from public.config.options import Options

Checkpointing = Literal["off", "norms", "stages"]
CheckpointingChoice = Literal["auto", "off", "norms", "stages"]
"""What a backward pass computes again instead of keeping it."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions(Options):
    """What every optimizer lets one set; `public/optim/options.py` has the kinds."""

    lr_exponent: ClassVar[float]
    """The learning rate follows the batch size to this power: 1 linearly, 0.5 by its square root."""
    lr: float
    """Peak learning rate, for the global batch size that the config states."""
    weight_decay: float
    """Decay factor: L2 added to the gradient in sgd, decoupled (times lr) in adamw, added to the direction in lamb."""
    decay_norm_and_bias: bool = True
    """Whether normalization parameters and biases (every parameter of one dimension) are decayed too."""
    gradient_centralization: bool = False
    """Whether the mean over all but the output channels is taken from each weight's gradient."""
    lookahead_steps: int | None = None
    """Steps after which the weights return to slow ones that follow them (Lookahead, usually 5); None: never."""
    lookahead_alpha: float = 0.5
    """Share of the way that the slow weights then go."""

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, f"optimizer.lr={self.lr} must be greater than 0 and finite.")
        require_at_least("optimizer.weight_decay", self.weight_decay, 0)
        steps, alpha = self.lookahead_steps, self.lookahead_alpha
        require(
            steps is None or steps >= 2,
            f"optimizer.lookahead_steps={steps} must be 2 or more (None: no Lookahead); with 1 it is a smaller lr.",
        )
        require(0 < alpha < 1, f"optimizer.lookahead_alpha={alpha} must lie within (0, 1).")
        require(
            alpha == 0.5 or steps is not None,
            f"optimizer.lookahead_alpha={alpha} has no effect without optimizer.lookahead_steps.",
        )

    def for_batch(self, size: int, former: int) -> Self:
        """The settings with which batches of `size` images train as those of `former` do: another learning rate.

        It has six digits, so that what the log shows can be typed.
        """
        if size == former:
            return self
        return replace(self, lr=float(f"{self.lr * (size / former) ** self.lr_exponent:.6g}"))


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions(Options):
    """How the learning rate moves: a pure function of the step. `public/optim/options.py` has the kinds."""

    warmup_epochs: float = 0.0
    """Length of the linear warm-up in epochs, from lr / warm-up steps at the first step to lr at the last."""

    def __post_init__(self) -> None:
        require_at_least("schedule.warmup_epochs", self.warmup_epochs, 0)

    def factor(self, step: int, *, num_steps: int, warmup_steps: int, steps_per_epoch: int) -> float:
        """The factor on the peak learning rate behind the warm-up.

        Args:
            step: optimizer steps done before this one, from 0; `warmup_steps` or more.
            num_steps: of the whole run.
            warmup_steps: of the warm-up.
            steps_per_epoch: optimizer steps of an epoch.
        """
        raise NotImplementedError

    def check_against(self, epochs: float) -> None:
        """Raises ValueError where the schedule reaches beyond the run."""
        require(
            self.warmup_epochs <= epochs,
            f"schedule.warmup_epochs={self.warmup_epochs} is longer than the run of epochs={epochs}.",
        )

    def stretched(self, factor: float) -> dict[str, Any]:
        """The fields that change when the run becomes `factor` times as long and the curve keeps its shape."""
        return {"warmup_epochs": self.warmup_epochs * factor} if self.warmup_epochs else {}


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
    activation_checkpointing: CheckpointingChoice = "auto"
    """What the backward pass computes again instead of keeping it. norms: what lies between two convolutions (norms,
    activations, sums); stages: also the backbone's convolutions, stage by stage (our networks, not those of timm);
    off: nothing; auto: norms on a GPU for a detector without depthwise convolutions, else off. A compiled network
    decides by itself."""

    def __post_init__(self) -> None:
        for name, lowest in {"processes": 1, "num_workers": 0, "log_every": 1}.items():
            require_at_least(f"runtime.{name}", getattr(self, name), lowest)
        require(
            self.save_every_minutes > 0,
            f"runtime.save_every_minutes={self.save_every_minutes} must be above 0.",
        )
        choices = get_args(CheckpointingChoice)
        require_one_of("runtime.activation_checkpointing", self.activation_checkpointing, choices)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run states, whatever its task: `ClassificationConfig` and its siblings add their own fields."""

    name: str
    """Name of the run folder, runs/<name>/ in the experiment folder."""
    num_classes: int | None = None
    """None: as many as the data set has; a number is checked against the data set."""
    initial_weights: str | None = None
    """None: random. A file, torchvision:<model>[.<weights>] or timm:<model>; only the classifier may be skipped."""
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
    """auto: bf16 where the device is faster in it than in fp32, else fp16 on a GPU, else fp32."""
    compile: bool = False
    """torch.compile network, targets and losses (on a CPU this needs a C++ compiler)."""
    channels_last: bool = False
    """NHWC memory layout: faster for plain and depthwise convolutions, often slower for others in groups."""
    seed: int = 0
    """Seed of the initial weights, the order of images and every augmentation."""
    evaluate_every: int = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    optimizer: OptimizerOptions
    """The optimizer and its numbers."""
    schedule: ScheduleOptions
    """How the learning rate moves."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """How the run is carried out; nothing in it changes a result."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation_steps", "evaluate_every"):
            require_at_least(name, getattr(self, name), 1)
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
        require(
            not self.compile or self.runtime.activation_checkpointing != "stages",
            "runtime.activation_checkpointing='stages' has no effect with compile=True, whose graphs decide "
            "by themselves what is computed again. Leave one of them out.",
        )
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
        require(
            self.parallel == "distributed" or not self.compile,
            "compile=True makes a graph of one device's work, and parallel='data_parallel' does that of several in one "
            "process. Leave it out, or choose parallel='distributed'.",
        )
        self.local_batch_size(self.runtime.processes or 1)

    def local_batch_size(self, num_processes: int) -> int:
        """Images of one process in one forward pass; raises ValueError where the batch does not divide."""
        parts = num_processes * self.accumulation_steps
        remedy = (
            " Start fewer processes (--runtime.processes, or fewer GPUs in CUDA_VISIBLE_DEVICES), or give a larger "
            "--batch-size, which the learning rate follows."
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


def _not_finite(section: Any, prefix: str = "") -> Iterator[str]:
    """'data.mean=(nan, 0.5, 0.5)' for each setting, also of the sections within, that holds infinity or no number."""
    for one in fields(section):
        value = getattr(section, one.name)
        if is_dataclass(value):
            yield from _not_finite(value, f"{prefix}{one.name}.")
        numbers = value if isinstance(value, list | tuple) else (value,)
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            yield f"{prefix}{one.name}={value}"
