"""What every run's settings refuse, and in which words; what they work out."""

import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import AdamWOptions, CosineOptions, SGDOptions
from public.runtime.seeding import sample_seed, seed_everything


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 0}, r"runtime\.processes=0 must be 1 or more"),
        ({"num_workers": -1}, r"runtime\.num_workers=-1 must be 0 or more"),
        ({"log_every": 0}, r"runtime\.log_every=0 must be 1 or more"),
        ({"save_every_minutes": 0.0}, r"runtime\.save_every_minutes=0\.0 must be above 0"),
        ({"activation_checkpointing": "on"}, r"runtime\.activation_checkpointing='on'"),
    ],
)
def test_runtime_refuses(fields: dict[str, Any], message: str) -> None:
    """Counts below what makes sense."""
    with pytest.raises(ValueError, match=message):
        RuntimeConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, r"^epochs=0 must be 1 or more"),
        ({"batch_size": 0}, r"batch_size=0 must be 1 or more"),
        ({"accumulation_steps": 0}, r"accumulation_steps=0 must be 1 or more"),
        ({"evaluate_every": 0}, r"evaluate_every=0 must be 1 or more"),
        ({"ema_decay": 1.0}, r"ema_decay=1\.0 must lie within \(0, 1\)"),
        ({"ema_decay": 0.0}, r"ema_decay=0\.0 must lie within \(0, 1\)"),
        ({"clip_grad_norm": 0.0}, r"clip_grad_norm=0\.0 must be greater than 0"),
        ({"name": "a/b"}, r"name='a/b' must be a folder name"),
        ({"name": ".."}, r"name='\.\.' must be a folder name"),
        ({"name": ""}, r"name='' must be a folder name"),
        ({"epochs": 8}, r"\[8\] would never be reached in epochs=8"),
        ({"accumulation_steps": 3}, r"batch_size=16 must be divisible by .* = 1 x 3 = 3"),
        ({"runtime": RuntimeConfig(processes=5)}, r"batch_size=16 must be divisible by .* = 5 x 1 = 5"),
        (
            {"compile": True, "runtime": RuntimeConfig(activation_checkpointing="stages")},
            r"runtime\.activation_checkpointing='stages' has no effect with compile=True",
        ),
        (
            {"parallel": "data_parallel", "runtime": RuntimeConfig(processes=2)},
            r"parallel='data_parallel' runs one process: runtime\.processes=2 must be 1 or None",
        ),
        (
            {"parallel": "data_parallel", "sync_batch_norm": True},
            r"sync_batch_norm=True has no effect with parallel='data_parallel'",
        ),
        ({"parallel": "data_parallel", "compile": True}, r"compile=True makes a graph of one device's work"),
        ({"seed": -1}, r"seed=-1 must lie within 0\.\.9223372036854775807"),
        ({"seed": 2**63}, r"seed=9223372036854775808 must lie within 0\.\.9223372036854775807"),
    ],
)
def test_run_refuses(config: ClassificationConfig, fields: dict[str, Any], message: str) -> None:
    """Settings that are wrong by themselves or do not go together, before anything is done."""
    with pytest.raises(ValueError, match=message):
        replace(config, **fields)


def with_setting(config: ClassificationConfig, section: str | None, name: str, value: Any) -> ClassificationConfig:
    """The config with another value of one setting, of a section or its own."""
    changes = {name: value} if section is None else {section: replace(getattr(config, section), **{name: value})}
    return replace(config, **changes)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("section", "name"),
    [
        (None, "clip_grad_norm"),
        ("optimizer", "weight_decay"),
        ("schedule", "final_factor"),
        ("runtime", "save_every_minutes"),
        ("mixing", "mixup_alpha"),
        ("data", "mean"),
        ("data", "std"),
    ],
)
def test_numbers_are_finite(config: ClassificationConfig, section: str | None, name: str, value: float) -> None:
    """Every setting of every section, also one number of three: nothing that is trained with them would be."""
    config = replace(config, schedule=CosineOptions())
    given: Any = (0.5, value, 0.5) if name in ("mean", "std") else value
    setting = f"{section}.{name}" if section else name
    with pytest.raises(ValueError, match=rf"^{re.escape(f'{setting}={given}')} must be "):
        with_setting(config, section, name, given)


def test_the_ends_of_what_is_allowed(config: ClassificationConfig) -> None:
    """The largest seed is one that torch and our own draws take."""
    largest = replace(config, seed=2**63 - 1)
    seed_everything(largest.seed)
    assert 0 <= sample_seed(largest.seed, 0, 0) < 2**63
    assert replace(config, seed=0).seed == 0
    for size in (1, 8192):
        assert ImageFolderData(folder="x", input_size=size, train_transforms=()).input_size == size


def test_local_batch_size(config: ClassificationConfig) -> None:
    """256 images over 4 processes x 2 accumulation steps: 256 / 8 = 32 images at a time; 6 processes do not divide."""
    config = replace(config, batch_size=256, accumulation_steps=2)
    assert [config.local_batch_size(n) for n in (1, 2, 4, 128)] == [128, 64, 32, 1]
    with pytest.raises(ValueError, match=r"batch_size=256 must be divisible .* = 6 x 2 = 12"):
        config.local_batch_size(6)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_local_batch_size_names_the_remedy(config: ClassificationConfig, num_processes: int) -> None:
    """One image for each step on two GPUs: fewer processes or a larger batch; one process cannot become fewer."""
    fields: Any = {"batch_size": 1} if num_processes == 2 else {"batch_size": 3, "accumulation_steps": 2}
    with pytest.raises(ValueError, match=r"must be divisible by .* = 2\.") as refusal:
        replace(config, **fields).local_batch_size(num_processes)
    remedies = ("--runtime.processes", "CUDA_VISIBLE_DEVICES", "--batch-size")
    assert [remedy in str(refusal.value) for remedy in remedies] == [num_processes == 2] * 3


def test_with_epochs_stretches_the_schedule(config: ClassificationConfig) -> None:
    """10 epochs, milestones 4 and 8, warm-up 1 -> 25 epochs: times 2.5, so 10, 20 and 2.5; the rest is unchanged."""
    stretched = config.with_epochs(25)
    assert stretched.schedule == replace(config.schedule, milestones=(10.0, 20.0), warmup_epochs=2.5)
    assert replace(stretched, epochs=10, schedule=config.schedule) == config
    cosine = replace(config, schedule=CosineOptions(final_factor=0.01))
    assert cosine.with_epochs(1) == replace(cosine, epochs=1)


def test_the_learning_rate_of_another_batch_size() -> None:
    """0.4 at 256: 0.05 at 32 linearly. 0.001 at 8: 0.002 at 32 by the square root, 0.000707107 at 4. 0.1 / 3 is cut."""
    sgd, adamw = SGDOptions(lr=0.4, weight_decay=0.1), AdamWOptions(lr=0.001, weight_decay=0.1)
    assert sgd.for_batch(32, former=256) == replace(sgd, lr=0.05)
    assert [adamw.for_batch(size, former=8).lr for size in (32, 4)] == [0.002, 0.000707107]
    third = replace(sgd, lr=0.1 / 3)
    assert [third.for_batch(size, former=8).lr for size in (8, 16)] == [0.1 / 3, 0.0666667]


def test_configs_are_frozen_and_keyword_only(config: ClassificationConfig) -> None:
    """Nothing can be changed after the checks, and no value can be given without its name."""
    with pytest.raises(FrozenInstanceError):
        config.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="positional"):
        RuntimeConfig("cpu")  # pyright: ignore[reportCallIssue]
