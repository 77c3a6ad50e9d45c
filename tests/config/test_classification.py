"""What a classification's settings refuse, and in which words; what they work out."""

from dataclasses import replace
from typing import Any

import pytest
from torchvision.transforms import v2

from public.backbones.options import DropPathOptions, given
from public.config.calls import Call
from public.config.classification import ClassificationConfig, MixingConfig
from public.config.options import NetworkOptions
from public.datasets.cifar100 import Cifar100Data
from public.datasets.imagenet import ImageFolderData
from public.optim.options import ConstantOptions
from public.transforms.batch import BatchCutout

IMAGES = ImageFolderData(folder="x", input_size=64, train_transforms=())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0 must lie within \(0, 1\)"),
        ({"drop_block": 0.0}, r"drop_block=0\.0 must lie within \(0, 1\)"),
        ({"drop_block": 0.1, "drop_block_size": 0}, r"drop_block_size=0 must be 1 or more"),
        ({"drop_block_size": 7}, r"drop_block_size=7 has no effect without drop_block"),
        (
            {"sync_batch_norm": True, "network_options": NetworkOptions(norm="switch")},
            r"sync_batch_norm=True has no effect with network_options\.norm='switch': no batch norm is left",
        ),
        (
            {"mixing": MixingConfig(mixup_alpha=0.2), "accumulation_steps": 16},
            r"mixing pairs the images of each forward pass, .* 16 accumulation_steps gives an odd number, 1",
        ),
        ({"start_size": 32}, r"start_size=32 must be 32 or more and a multiple of 32 below data\.input_size=32"),
        ({"start_size": 16, "data": IMAGES}, r"start_size=16 must be 32 or more"),
        ({"start_size": 48, "data": IMAGES}, r"start_size=48 must be .* a multiple of 32 below data\.input_size=64"),
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


@pytest.mark.parametrize(("name", "kind"), [("dropout", NetworkOptions), ("drop_path", DropPathOptions)])
def test_network_options_refuse(name: str, kind: type[NetworkOptions]) -> None:
    """A share of 1 would leave nothing; only what is given is passed on."""
    with pytest.raises(ValueError, match=rf"network_options\.{name}=1\.0 must lie within \[0, 1\)"):
        kind(**{name: 1.0})  # pyright: ignore[reportArgumentType]
    chosen: Any = {name: 0.0, "activation": "swish"}
    assert given(kind(**chosen)) == chosen


@pytest.mark.parametrize(("name", "value"), [("activation", "tanh"), ("norm", "batch")])
def test_network_options_are_among_those_there_are(name: str, value: Any) -> None:
    """Also in a config.py, which no parser reads."""
    with pytest.raises(ValueError, match=rf"network_options\.{name}='{value}' must be one of .*s"):
        NetworkOptions(**{name: value})


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
    growing = replace(config, schedule=schedule, epochs=epochs, data=replace(IMAGES, input_size=224), start_size=128)
    assert [growing.train_size(epoch) for epoch in range(epochs)] == sizes
    assert {replace(growing, start_size=None).train_size(epoch) for epoch in range(epochs)} == {224}


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Cifar100Data, {"std": (0.2, 0.0, 0.2)}, r"data\.std=\(0\.2, 0\.0, 0\.2\) must be above 0"),
        (Cifar100Data, {"input_size": 64}, r"data\.input_size=64 must be 32: CIFAR-100's images are used as they are"),
        (
            Cifar100Data,
            {"val_transforms": (Call(BatchCutout, size=8),)},
            r"data\.val_transforms has no effect with data\.dataset='cifar100'",
        ),
        (
            Cifar100Data,
            {"train_transforms": (Call(v2.RandomHorizontalFlip),)},
            r"data\.train_transforms holds Call\(RandomHorizontalFlip\), which works on one image; data\.dataset",
        ),
        (ImageFolderData, {"input_size": 0}, r"data\.input_size=0 must lie within 1\.\.8192 pixels"),
        (ImageFolderData, {"input_size": 8193}, r"data\.input_size=8193 must lie within 1\.\.8192 pixels"),
        (
            ImageFolderData,
            {"val_transforms": (v2.CenterCrop(64),)},
            r"data\.val_transforms holds CenterCrop\(.*\): list it as Call\(<class>, <argument>=\.\.\.\)",
        ),
    ],
)
def test_data_refuses(kind: Any, fields: dict[str, Any], message: str) -> None:
    """A division by zero, sizes that nothing can be of, and transforms that are made or do not fit the data."""
    with pytest.raises(ValueError, match=message):
        kind(**{"folder": "x", "input_size": 32, "train_transforms": ()} | fields)


@pytest.mark.parametrize(("kind", "ignored"), [(Cifar100Data, "decoder"), (ImageFolderData, "published_archive")])
def test_data_has_no_settings_that_it_would_ignore(kind: Any, ignored: str) -> None:
    """Another format's are no arguments."""
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{ignored}'"):
        kind(folder="x", input_size=32, train_transforms=(), **{ignored: None})
