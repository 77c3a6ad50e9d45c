"""Every trick of a classification config in a whole run: it changes the result, and a stopped run ends alike."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from public.backbones import build
from public.backbones.resnet import ResNet, ResNetOptions
from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig, MixingConfig
from public.datasets.batches import ClassificationBatch
from public.layers.drop_block import DropBlock
from public.layers.residual import BasicBlock
from public.recipes import classification as recipe
from public.recipes.preparation import preparation
from public.runtime.checkpoint import load_checkpoint
from public.transforms.image import Cutout, RandomErasing
from tests.recipes import runs
from tests.recipes.runs import ONE_PROCESS
from tests.recipes.tiny_experiment import TINY

pytestmark = pytest.mark.usefixtures("no_plots")

STEPS = 4
"""Of an epoch: 16 images in batches of 4."""


def build_small(name: str, num_classes: int, **options: Any) -> ResNet:
    """A ResNet of four blocks, 4 to 32 channels wide, with every option that the family has."""
    return ResNet(BasicBlock, (1, 1, 1, 1), width=4, num_classes=num_classes, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training and 4 validation images of noise, in two classes."""
    root = tmp_path_factory.mktemp("tricks")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 4)):
        for number in range(count):
            folder = root / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def baseline(data: Path, monkeypatch: pytest.MonkeyPatch) -> ClassificationConfig:
    """One epoch of the small ResNet, whose catalog knows it."""
    monkeypatch.setattr(build, "build_backbone", build_small)
    tiny_data = replace(
        TINY.data,
        folder=str(data),
        input_size=32,
        train_transforms=(Call(v2.RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip)),
        val_transforms=(Call(v2.Resize, size=(SIZE, SIZE)),),
    )
    schedule = replace(TINY.schedule, warmup_epochs=0)
    config = replace(
        TINY, network="resnet18", epochs=1, batch_size=4, ema_decay=None, schedule=schedule, data=tiny_data
    )
    return replace(config, optimizer=replace(config.optimizer, lr=0.05))


def with_transform(config: ClassificationConfig, type_: type[Any], **keywords: Any) -> ClassificationConfig:
    """The row with one more training transform."""
    return replace(
        config, data=replace(config.data, train_transforms=(*config.data.train_transforms, Call(type_, **keywords)))
    )


def with_network(config: ClassificationConfig, **options: Any) -> ClassificationConfig:
    """The row with another network."""
    return replace(config, network_options=ResNetOptions(**options))


def with_optimizer(config: ClassificationConfig, **fields: Any) -> ClassificationConfig:
    """The row with other settings of its optimizer."""
    return replace(config, optimizer=replace(config.optimizer, **fields))


TRICKS: dict[str, Callable[[ClassificationConfig], ClassificationConfig]] = {
    "label smoothing": lambda c: replace(c, label_smoothing=0.1),
    "no decay of norm and bias": lambda c: with_optimizer(c, decay_norm_and_bias=False),
    "mixup": lambda c: replace(c, mixing=MixingConfig(mixup_alpha=0.2)),
    "cutmix": lambda c: replace(c, mixing=MixingConfig(cutmix_alpha=1.0)),
    "mixup or cutmix, accumulated": lambda c: replace(
        c, accumulation_steps=2, mixing=MixingConfig(mixup_alpha=0.8, cutmix_alpha=1.0, probability=0.8)
    ),
    "random rotation": lambda c: with_transform(c, v2.RandomRotation, degrees=(-15, 15)),
    "cutout": lambda c: with_transform(c, Cutout, size=16),
    "random erasing": lambda c: with_transform(c, RandomErasing),
    "dropout": lambda c: with_network(c, dropout=0.3),
    "drop path": lambda c: with_network(c, drop_path=0.5),
    "lookahead": lambda c: with_optimizer(c, lookahead_steps=3),
    "gradient centralization": lambda c: with_optimizer(c, gradient_centralization=True),
    "zero gamma": lambda c: with_network(c, zero_init_residual=True),
    "relu6": lambda c: with_network(c, activation="relu6"),
    "swish": lambda c: with_network(c, activation="swish"),
    "prelu": lambda c: with_network(c, activation="prelu"),
    "switch norm": lambda c: with_network(c, norm="switch"),
    "drop block": lambda c: replace(c, drop_block=0.5, drop_block_size=2),
    "autoaugment": lambda c: with_transform(c, v2.AutoAugment),
    "randaugment": lambda c: with_transform(c, v2.RandAugment),
    "trivialaugment": lambda c: with_transform(c, v2.TrivialAugmentWide),
    "color jitter": lambda c: with_transform(c, v2.ColorJitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "ema": lambda c: replace(c, ema_decay=0.8),
    "repeated augmentation": lambda c: replace(c, data=replace(c.data, repeated_augmentation=2)),
    "progressive size": lambda c: replace(c, data=replace(c.data, input_size=64), start_size=32, epochs=2),
}
WITH_STATE_OR_DRAWS = (
    *("mixup or cutmix, accumulated", "random erasing", "drop path", "dropout", "lookahead", "switch norm"),
    *("drop block", "ema", "repeated augmentation", "progressive size"),
)
"""What a resumed run has to take up, or to draw as if it had not been stopped."""


def train(config: ClassificationConfig, path: Path) -> dict[str, Any]:
    """Runs to the end in this process; gives latest.pth."""
    assert recipe.train(config, path, ONE_PROCESS) == 0
    return load_checkpoint(path / "checkpoints" / "latest.pth")


def row_of(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Losses and metrics."""
    return runs.result_rows(checkpoint["metrics"]["history"])


@pytest.mark.slow
def test_every_trick_runs_and_changes_the_result(baseline: ClassificationConfig, tmp_path: Path) -> None:
    """An epoch with each ends with finite numbers, and with other losses than without."""
    expected = row_of(train(baseline, tmp_path / "baseline"))
    same = []
    for name, apply in TRICKS.items():
        checkpoint = train(apply(baseline), tmp_path / name)
        assert all(tensor.isfinite().all() for tensor in runs.tensors_of(checkpoint).values()), name
        same += [name] if row_of(checkpoint) == expected else []
    assert same == []


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_STATE_OR_DRAWS)
def test_a_run_with_a_trick_resumes_bit_for_bit(
    name: str, baseline: ClassificationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the second of four steps and gone on with."""
    config = TRICKS[name](baseline)
    reference = train(config, tmp_path / "reference")
    runs.stop_after_polls(monkeypatch)(2)
    assert recipe.train(config, tmp_path / "run", ONE_PROCESS) == 143
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "latest.pth")["step"] == 2
    runs.assert_same_result(train(config, tmp_path / "run"), reference, num_tensors=len(runs.tensors_of(reference)))


def test_the_list_is_the_issues() -> None:
    """25 runs; synchronized batch norm needs GPUs and is refused on a CPU (tests/runtime/test_parallel.py)."""
    assert len(TRICKS) == 25


@pytest.mark.slow
def test_the_state_of_lookahead_is_in_the_checkpoint(baseline: ClassificationConfig, tmp_path: Path) -> None:
    """A slow weight for each parameter beside its momentum."""
    checkpoint = train(TRICKS["lookahead"](baseline), tmp_path / "run")
    slots = checkpoint["optimizer"]["state"].values()
    assert all(slot.keys() == {"momentum_buffer", "slow"} for slot in slots)
    assert checkpoint["optimizer"]["param_groups"][0]["lookahead_step"] == STEPS


def drop_block_rates(config: ClassificationConfig, step: int) -> tuple[float, float]:
    """What a step sets in the two deepest levels."""
    network = build_small("small", 2)
    preparation(config, network, STEPS)([], step)

    def rate_in(layer: nn.Module) -> float:
        (rate,) = {m.rate.item() for m in layer.modules() if isinstance(m, DropBlock)}
        return rate

    assert not any(isinstance(m, DropBlock) for m in network.layer2.modules())
    return rate_in(network.layer3), rate_in(network.layer4)


@pytest.mark.parametrize("step", [0, 6, 11, 3])
def test_drop_blocks_rate_grows_linearly(baseline: ClassificationConfig, step: int) -> None:
    """0.4 x step / 12 in c5 of 3 epochs of 4 steps, a quarter of it in c4; asked in any order."""
    config = replace(baseline, epochs=3, drop_block=0.4)
    assert drop_block_rates(config, step) == pytest.approx((0.1 * step / 12, 0.4 * step / 12))


def test_images_grow_and_are_mixed_at_their_size(baseline: ClassificationConfig) -> None:
    """64 pixels, in two epochs of 4 steps: 32 until step 3, 64 from step 4 on. A constant image stays constant."""
    data = replace(baseline.data, input_size=64)
    config = replace(baseline, epochs=2, data=data, start_size=32, mixing=MixingConfig(cutmix_alpha=1.0))
    prepare = preparation(config, build_small("small", 2), STEPS)
    images = torch.full((4, 3, 64, 64), 9, dtype=torch.uint8)
    sizes = []
    for step in (0, 3, 4, 7):
        ((mixed, *labels),) = prepare([ClassificationBatch(images, torch.arange(4))], step)
        sizes.append(mixed.shape[-1])
        assert len(labels) == 3
        torch.testing.assert_close(mixed.float(), torch.full_like(mixed, 9).float())
    assert sizes == [32, 32, 64, 64]


def test_drop_block_needs_a_norm(baseline: ClassificationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network without any is refused."""
    network = build_small("small", 2)
    for level in ("layer3", "layer4"):
        setattr(network, level, nn.Identity())
    with pytest.raises(ValueError, match=r"drop_block=0\.4: resnet18 has no norm behind which it could stand"):
        preparation(replace(baseline, drop_block=0.4), network, STEPS)
