"""What a config refuses, and in which words; what it works out."""

import ast
import re
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from public.config.sections import OptimizerConfig, ScheduleConfig

from public.config import classification, sections
from public.config.checks import require
from public.config.classification import ClassificationConfig, ClassificationDataConfig, MixingConfig, NetworkConfig
from public.config.run import RuntimeConfig
from public.optim.options import ConstantOptions, CosineOptions, MultistepOptions
from public.runtime.seeding import sample_seed, seed_everything


def test_require_raises_only_where_the_condition_fails() -> None:
    """The message is passed on as it is."""
    require(True, "unseen")
    with pytest.raises(ValueError, match=r"^lr=0 must be above 0$"):
        require(False, "lr=0 must be above 0")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr": 0.0}, r"optimizer\.lr=0\.0 must be greater than 0"),
        ({"lr": -0.1}, r"optimizer\.lr=-0\.1 must be greater than 0"),
        ({"lr": float("nan")}, r"optimizer\.lr=nan must be greater than 0"),
        ({"weight_decay": -1e-4}, r"optimizer\.weight_decay=-0\.0001 must be 0 or greater"),
        ({"betas": (0.9, 0.99)}, r"optimizer\.betas=\(0\.9, 0\.99\) would have no effect: optimizer\.name='sgd'"),
        ({"name": "adamw", "momentum": 0.9}, r"optimizer\.momentum=0\.9 would have no effect: optimizer\.name='adamw'"),
        ({"name": "adamw", "nesterov": False}, r"optimizer\.nesterov=False would have no effect"),
        (
            {"name": "adamw", "momentum": 0.9, "nesterov": True},
            r"optimizer\.momentum=0\.9, optimizer\.nesterov=True would have no effect",
        ),
    ],
)
def test_optimizer_refuses(fields: dict[str, Any], message: str) -> None:
    """Numbers out of range, and fields that the chosen optimizer would ignore, are named with their values."""
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**{"name": "sgd", "lr": 0.1, "weight_decay": 0.0} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "constant", "warmup_epochs": -1.0}, r"schedule\.warmup_epochs=-1\.0 must be 0 or greater"),
        ({"kind": "constant", "warmup_epochs": float("nan")}, r"schedule\.warmup_epochs=nan must be 0 or greater"),
        ({"kind": "constant", "gamma": 0.1}, r"schedule\.gamma=0\.1 would have no effect: schedule\.kind='constant'"),
        ({"kind": "constant", "final_factor": 0.0}, r"schedule\.final_factor=0\.0 would have no effect"),
        ({"kind": "cosine", "milestones": (1.0,)}, r"schedule\.milestones=\(1\.0,\) would have no effect"),
        (
            {"kind": "cosine", "milestones": (1.0,), "gamma": 0.1},
            r"schedule\.milestones=\(1\.0,\), schedule\.gamma=0\.1 would have no effect: schedule\.kind='cosine'",
        ),
        ({"kind": "multistep"}, r"schedule\.kind='multistep' needs at least one schedule\.milestones"),
        ({"kind": "multistep", "milestones": (2.0,), "final_factor": 0.1}, r"final_factor=0\.1 would have no effect"),
        ({"kind": "multistep", "milestones": (2.0, 2.0)}, r"milestones=\(2\.0, 2\.0\) must be positive and rise"),
        ({"kind": "multistep", "milestones": (3.0, 2.0)}, r"milestones=\(3\.0, 2\.0\) must be positive and rise"),
        ({"kind": "multistep", "milestones": (0.0, 2.0)}, r"milestones=\(0\.0, 2\.0\) must be positive and rise"),
    ],
)
def test_schedule_refuses(fields: dict[str, Any], message: str) -> None:
    """Numbers out of range, milestones out of order, and fields that the chosen kind would ignore."""
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**fields)


def test_schedule_may_not_reach_beyond_the_run() -> None:
    """A milestone at the last epoch's end is never reached; a warm-up may last as long as the run, not longer."""
    schedule = MultistepOptions(milestones=(3.0, 9.0), warmup_epochs=9.5)
    schedule.check_against(9.5)
    with pytest.raises(ValueError, match=r"milestones=\(3\.0, 9\.0\): \[9\.0\] would never be reached in epochs=9\."):
        schedule.check_against(9)
    with pytest.raises(ValueError, match=r"warmup_epochs=9\.5 is longer than the run of epochs=9"):
        ConstantOptions(warmup_epochs=9.5).check_against(9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 0}, r"runtime\.processes=0 must be 1 or more"),
        ({"num_workers": -1}, r"runtime\.num_workers=-1 must be 0 or more"),
        ({"log_every": 0}, r"runtime\.log_every=0 must be 1 or more"),
        ({"save_every_minutes": 0.0}, r"runtime\.save_every_minutes=0\.0 must be above 0"),
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
            {"parallel": "data_parallel", "runtime": RuntimeConfig(processes=2)},
            r"parallel='data_parallel' runs one process: runtime\.processes=2 must be 1 or None",
        ),
        (
            {"parallel": "data_parallel", "sync_batch_norm": True},
            r"sync_batch_norm=True has no effect with parallel='data_parallel'",
        ),
        ({"seed": -1}, r"seed=-1 must lie within 0\.\.9223372036854775807"),
        ({"seed": 2**63}, r"seed=9223372036854775808 must lie within 0\.\.9223372036854775807"),
        ({"input_size": 0}, r"input_size=0 must lie within 1\.\.8192 pixels"),
        ({"input_size": 8193}, r"input_size=8193 must lie within 1\.\.8192 pixels"),
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
    largest = replace(config, seed=2**63 - 1, input_size=8192)
    seed_everything(largest.seed)
    assert 0 <= sample_seed(largest.seed, 0, 0) < 2**63
    assert replace(config, seed=0, input_size=1).input_size == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"std": (0.2, 0.0, 0.2)}, r"data\.std=\(0\.2, 0\.0, 0\.2\) must be above 0"),
        ({"decoder": "pil"}, r"data\.decoder='pil' has no effect with data\.dataset='cifar100'"),
        ({"dataset": "imagenet", "download": True}, r"data\.download=True has no effect with data\.dataset='imagenet'"),
        ({"dataset": "imagenet", "published_archive": False}, r"data\.published_archive=False has no effect"),
    ],
)
def test_data_refuses(fields: dict[str, Any], message: str) -> None:
    """A division by zero, and fields that the data set would ignore."""
    with pytest.raises(ValueError, match=message):
        ClassificationDataConfig(**{"dataset": "cifar100", "folder": "x", "train_transforms": ()} | fields)


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
    remedies = ("--runtime.processes", "CUDA_VISIBLE_DEVICES", "--batch-size", "--optimizer.lr")
    assert [remedy in str(refusal.value) for remedy in remedies] == [num_processes == 2] * 4


def test_with_epochs_stretches_the_schedule(config: ClassificationConfig) -> None:
    """10 epochs, milestones 4 and 8, warm-up 1 -> 25 epochs: times 2.5, so 10, 20 and 2.5; the rest is unchanged."""
    stretched = config.with_epochs(25)
    assert stretched.schedule == replace(config.schedule, milestones=(10.0, 20.0), warmup_epochs=2.5)
    assert replace(stretched, epochs=10, schedule=config.schedule) == config
    cosine = replace(config, schedule=CosineOptions(final_factor=0.01))
    assert cosine.with_epochs(1) == replace(cosine, epochs=1)


def test_configs_are_frozen_and_keyword_only(config: ClassificationConfig) -> None:
    """Nothing can be changed after the checks, and no value can be given without its name."""
    with pytest.raises(FrozenInstanceError):
        config.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="positional"):
        RuntimeConfig("cpu")  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(("module", "num_classes", "num_fields"), [(sections, 4, 40), (classification, 4, 27)])
def test_every_field_has_a_docstring(module: Any, num_classes: int, num_fields: int) -> None:
    """Each annotated field of each config class is followed by a string: --help shows it."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    pairs = [(a, b) for body in bodies for a, b in pairwise(body) if isinstance(a, ast.AnnAssign)]
    assert (len(bodies), len(pairs)) == (num_classes, num_fields)
    for statement, following in pairs:
        assert isinstance(following, ast.Expr), ast.unparse(statement)
        assert isinstance(following.value, ast.Constant), ast.unparse(statement)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr": float("inf")}, r"optimizer\.lr=inf must be greater than 0 and finite"),
        ({"momentum": -0.1}, r"optimizer\.momentum=-0\.1 must lie within \[0, 1\)"),
        ({"momentum": 1.0}, r"optimizer\.momentum=1\.0 must lie within \[0, 1\)"),
        ({"momentum": 0.0, "nesterov": True}, r"optimizer\.nesterov=True needs optimizer\.momentum above 0"),
        ({"name": "adamw", "betas": (0.9, 1.0)}, r"optimizer\.betas=\(0\.9, 1\.0\) must lie within"),
    ],
)
def test_optimizer_refuses_too(fields: dict[str, Any], message: str) -> None:
    """What torch would refuse later, with a traceback, after the data was read."""
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**{"name": "sgd", "lr": 0.1, "weight_decay": 0.0} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lookahead_steps": 1}, r"optimizer\.lookahead_steps=1 must be 2 or more"),
        ({"lookahead_steps": 5, "lookahead_alpha": 1.0}, r"optimizer\.lookahead_alpha=1\.0 must lie within \(0, 1\)"),
        ({"lookahead_alpha": 0.5}, r"lookahead_alpha=0\.5 has no effect without optimizer\.lookahead_steps"),
    ],
)
def test_lookahead_refuses(fields: dict[str, Any], message: str) -> None:
    """Numbers out of range, and a share of no steps."""
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**{"name": "sgd", "lr": 0.1, "weight_decay": 0.0} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0 must lie within \(0, 1\)"),
        ({"drop_block": 0.0}, r"drop_block=0\.0 must lie within \(0, 1\)"),
        ({"drop_block": 0.1, "drop_block_size": 0}, r"drop_block_size=0 must be 1 or more"),
        ({"drop_block_size": 7}, r"drop_block_size=7 has no effect without drop_block"),
        (
            {"sync_batch_norm": True, "network_options": NetworkConfig(norm="switch")},
            r"sync_batch_norm=True has no effect with network_options\.norm='switch': no batch norm is left",
        ),
        (
            {"mixing": MixingConfig(mixup_alpha=0.2), "accumulation_steps": 16},
            r"mixing pairs the images of each forward pass, .* 16 accumulation_steps gives an odd number, 1",
        ),
        ({"start_size": 32}, r"start_size=32 must be 32 or more and a multiple of 32 below input_size=32"),
        ({"start_size": 16, "input_size": 64}, r"start_size=16 must be 32 or more"),
        ({"start_size": 48, "input_size": 64}, r"start_size=48 must be .* a multiple of 32 below input_size=64"),
    ],
)
def test_tricks_refuse(config: ClassificationConfig, fields: dict[str, Any], message: str) -> None:
    """What is out of range, without effect, or does not go together."""
    with pytest.raises(ValueError, match=message):
        replace(config, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mixup_alpha": 0.0}, r"mixing\.mixup_alpha=0\.0 must be greater than 0 \(None: off\)"),
        ({"cutmix_alpha": -1.0}, r"mixing\.cutmix_alpha=-1\.0 must be greater than 0"),
        ({"cutmix_alpha": 1.0, "probability": 0.0}, r"mixing\.probability=0\.0 must lie within \(0, 1\]"),
        ({"probability": 0.5}, r"mixing\.probability=0\.5 has no effect without mixing\.mixup_alpha or"),
    ],
)
def test_mixing_refuses(fields: dict[str, Any], message: str) -> None:
    """Numbers out of range, and a share of steps that would do nothing."""
    with pytest.raises(ValueError, match=message):
        MixingConfig(**fields)


@pytest.mark.parametrize("name", ["dropout", "drop_path"])
def test_network_options_refuse(name: str) -> None:
    """A share of 1 would leave nothing; only what is given is passed on."""
    with pytest.raises(ValueError, match=rf"network_options\.{name}=1\.0 must lie within \[0, 1\)"):
        replace(NetworkConfig(), **{name: 1.0})
    given: Any = {name: 0.0, "activation": "swish"}
    assert NetworkConfig(**given).options() == given


def test_repeated_augmentation_refuses(config: ClassificationConfig) -> None:
    """Once is None; a batch holds each image equally often."""
    with pytest.raises(ValueError, match=r"data\.repeated_augmentation=1 must be 2 or more"):
        replace(config.data, repeated_augmentation=1)
    with pytest.raises(ValueError, match=r"batch_size=16 must be divisible by data\.repeated_augmentation=3"):
        replace(config, data=replace(config.data, repeated_augmentation=3))


def test_mixing_needs_an_even_number_of_images_in_each_process(config: ClassificationConfig) -> None:
    """16 images over 8 processes are 2 each; over 16 one, which has no partner."""
    mixing = replace(config, mixing=MixingConfig(cutmix_alpha=1.0))
    assert mixing.local_batch_size(8) == 2
    assert config.local_batch_size(16) == 1
    with pytest.raises(ValueError, match=r"over 16 processes x 1 accumulation_steps gives an odd number, 1"):
        mixing.local_batch_size(16)


@pytest.mark.parametrize(
    ("epochs", "sizes"),
    [(8, [128, 128, 160, 160, 192, 192, 224, 224]), (6, [128, 160, 160, 192, 224, 224]), (2, [160, 224]), (1, [224])],
)
def test_progressive_sizes_by_hand(config: ClassificationConfig, epochs: int, sizes: list[int]) -> None:
    """128, 160, 192 and 224, each for a quarter of the epochs: number ceil(4 (epoch + 1) / epochs); 224 at last."""
    schedule = ConstantOptions()
    growing = replace(config, schedule=schedule, epochs=epochs, input_size=224, start_size=128)
    assert [growing.train_size(epoch) for epoch in range(epochs)] == sizes
    assert {replace(growing, start_size=None).train_size(epoch) for epoch in range(epochs)} == {224}


def test_schedule_refuses_negative_factors() -> None:
    """They would turn the learning rate's sign."""
    with pytest.raises(ValueError, match=r"schedule\.gamma=-1\.0 must be greater than 0"):
        MultistepOptions(milestones=(1.0,), gamma=-1.0)
    with pytest.raises(ValueError, match=r"schedule\.final_factor=-0\.5 must be 0 or greater"):
        CosineOptions(final_factor=-0.5)
