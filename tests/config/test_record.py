"""Configs as plain data and back: equal objects, no other code, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.experiment import Experiment
from public.config.record import (
    changed_results,
    class_summary,
    config_of,
    differences,
    differing_classes,
    find_type,
    from_record,
    to_record,
)
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.transforms.batch import BatchRandomCrop
from public.transforms.image import Cutout


def with_transforms(config: ClassificationConfig, *calls: Call) -> ClassificationConfig:
    """The row on image files with other training transforms."""
    data = ImageFolderData(folder="images", input_size=32, train_transforms=calls)
    return replace(config, data=data)


def test_sections_are_types_and_keywords(config: ClassificationConfig) -> None:
    """Every section says what it is; transforms are calls; the whole has the number of its format."""
    plain = to_record(config)
    assert plain["format"] == 3
    assert plain["type"] == "public.config.classification.ClassificationConfig"
    assert plain["optimizer"]["type"] == "public.optim.options.SGDOptions"
    assert plain["schedule"]["milestones"] == [4, 8]
    assert plain["ema_decay"] is None
    assert plain["data"]["train_transforms"] == [
        {"call": "public.transforms.batch.BatchRandomHorizontalFlip", "keywords": {}},
        {"call": "public.transforms.batch.BatchRandomCrop", "keywords": {"padding": 4, "size": {"scaled": [1, 1]}}},
    ]


def test_a_record_survives_json_and_torch_and_comes_back(config: ClassificationConfig, tmp_path: Path) -> None:
    """What is read back from config.json or a checkpoint makes an equal config."""
    plain = to_record(config)
    assert from_record(json.loads(json.dumps(plain))) == config
    torch.save(plain, tmp_path / "record.pt")
    assert from_record(torch.load(tmp_path / "record.pt", weights_only=True)) == config


CALLS = [
    Call(v2.Resize, size=(SIZE, SIZE), interpolation=v2.InterpolationMode.BICUBIC),
    Call(v2.ColorJitter, brightness=(0.5, 1.5), hue=0.1),
    Call(v2.AutoAugment, policy=v2.AutoAugmentPolicy.CIFAR10),
    Call(v2.ToDtype, dtype=torch.float32, scale=True),
    Call(v2.RandomApply, transforms=(Call(v2.GaussianBlur, kernel_size=3), Call(Cutout, size=Scaled(8, of=32))), p=0.3),
    Call(BatchRandomCrop, size=Scaled(256, of=224), padding=4, reflect=False),
    Call(v2.RandomRotation, degrees=[-15, 15], center=None),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.type.__name__)
def test_calls_come_back(config: ClassificationConfig, call: Call) -> None:
    """Nested ones, enumerations, dtypes, lengths that follow the size; and what is built of both is alike."""
    row = with_transforms(config, call)
    again = from_record(json.loads(json.dumps(to_record(row))))
    assert again == row
    (found,) = again.data.train_transforms
    assert repr(found.build(64)) == repr(call.build(64))


def test_an_absent_setting_has_its_default(config: ClassificationConfig) -> None:
    """A checkpoint from before a setting existed is one that left it alone."""
    plain = to_record(replace(config, label_smoothing=0.1, runtime=RuntimeConfig(num_workers=0)))
    del plain["label_smoothing"], plain["runtime"]["num_workers"], plain["mixing"]
    assert from_record(plain) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 4}, "the record has format 4, and this version reads 1 to 3: it was written by a newer version"),
        ({"format": "2"}, "the record has format '2'"),
        ({"type": "public.config.run.RuntimeConfig"}, "has no setting"),
        ({"epoch": 3}, "ClassificationConfig has no setting 'epoch' here; the nearest: epochs"),
        ({"optimizer": None}, "optimizer of the ClassificationConfig is None, expected OptimizerOptions"),
        ({"data": 7}, "data of the ClassificationConfig is 7, expected ClassificationData"),
        ({"epochs": "3"}, "epochs of the ClassificationConfig is '3', expected int"),
        ({"label_smoothing": "x"}, "label_smoothing of the ClassificationConfig is 'x', expected float"),
        ({7: 3}, "ClassificationConfig has no setting 7 here; there are: "),
        ({"epochs": 0}, "epochs=0 must be 1 or more"),
        ({"optimizer": {"lr": 0.1}}, "a record without a type was given, its keys are lr"),
        ({"optimizer": {"type": "public.optim.options.SGDOptions"}}, "the record of a SGDOptions is not whole"),
    ],
)
def test_a_record_is_refused(config: ClassificationConfig, change: dict[Any, Any], message: str) -> None:
    """In one sentence that names what is wrong."""
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        from_record(to_record(config) | change)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "subprocess.Popen",
        "public.runtime.checkpoint.load_checkpoint",
        "public.runtime.run_folder.RunFolder",
        "public.config.calls.Call",
        "public.config.experiment.Experiment",
        "public.optim.options.dataclass",
        "public.transforms.image.torch",
        "public.transforms.detection.cv2",
        "public.nothing.Here",
        "public..x",
        "torchvision.transforms.v2.functional",
        "torchvision.datasets.FakeData",
        "tests.config.test_record.CALLS",
        "",
        "SGDOptions",
    ],
)
def test_a_record_names_nothing_else(config: ClassificationConfig, name: str) -> None:
    """Neither as a section nor as a transform: functions, other classes, modules, private corners, other packages."""
    plain = to_record(config)
    call = {"call": name, "keywords": {}}
    for change in ({"optimizer": {"type": name}}, {"data": plain["data"] | {"train_transforms": [call]}}):
        with pytest.raises(ValueError, match="is nothing that a config can hold"):
            from_record(plain | change)


def test_a_section_is_no_transform() -> None:
    """Where a transform is expected, options are refused."""
    assert find_type("public.optim.options.SGDOptions").__name__ == "SGDOptions"
    with pytest.raises(ValueError, match="is nothing that a config can hold"):
        find_type("public.optim.options.SGDOptions", transform=True)


class Unknown:
    """A transform that no record can name."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call(Unknown), "Unknown is nothing that a config can hold"),
        (Call(v2.Lambda, lambd=abs), "cannot be recorded in a checkpoint"),
        (Call(v2.Normalize, mean=torch.zeros(3), std=(1, 1, 1)), "cannot be recorded in a checkpoint"),
    ],
    ids=["class", "function", "tensor"],
)
def test_what_could_not_come_back_is_refused_when_recorded(
    config: ClassificationConfig, call: Call, message: str
) -> None:
    """Before training, then: the record is the first thing that a run makes."""
    with pytest.raises(ValueError, match=message) as error:
        to_record(with_transforms(config, call))
    assert str(error.value).startswith("data.train_transforms")


OWN = """
class Turn:
    def __init__(self, angle=1):
        self.angle = angle
"""


def test_an_experiments_own_class(config: ClassificationConfig, tmp_path: Path) -> None:
    """Named experiment:<file>.<Name>, found in the folder that the caller gives alone; equal by type and keywords."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "turns.py").write_text(OWN)
    here = Experiment(tmp_path / "one")
    row = with_transforms(config, Call(here.find("experiment:turns.Turn"), angle=3))
    plain = to_record(row, here)
    assert plain["data"]["train_transforms"] == [{"call": "experiment:turns.Turn", "keywords": {"angle": 3}}]
    assert from_record(plain, here) == row
    with pytest.raises(ValueError, match=r"turns.Turn is a class of the experiment's own folder: give that folder"):
        from_record(plain)
    elsewhere = from_record(plain, Experiment(tmp_path / "other")).data.train_transforms[0]
    assert elsewhere.type is not row.data.train_transforms[0].type
    assert Path(elsewhere.type.__init__.__globals__["__file__"]).parent == tmp_path / "other"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("experiment:missing.Turn", "has no file missing.py"),
        ("experiment:../turns.Turn", "has no file ../turns.py|has no file"),
        ("experiment:turns.Nothing", "defines no class 'Nothing'"),
        ("experiment:turns.__builtins__", "defines no class"),
        ("experiment:turns.Turn.__init__", "defines no class"),
    ],
)
def test_what_the_folder_does_not_have(tmp_path: Path, name: str, message: str) -> None:
    """A clear word, and no way out of the folder."""
    (tmp_path / "turns.py").write_text(OWN)
    with pytest.raises(ValueError, match=message):
        Experiment(tmp_path).find(name)


def test_differences_name_the_fields(config: ClassificationConfig) -> None:
    """One line a field, sections with a dot, sorted; equal records give none."""
    data = replace(config.data, train_transforms=(Call(BatchRandomCrop, size=SIZE, padding=2),))
    other = replace(config, seed=3, optimizer=replace(config.optimizer, lr=0.2), data=data)
    lines = differences(to_record(config), to_record(other))
    assert lines == [
        "data.train_transforms: (BatchRandomHorizontalFlip(), BatchRandomCrop(padding=4, size=Scaled(length=1, of=1)))"
        " -> (BatchRandomCrop(padding=2, size=Scaled(length=1, of=1)))",
        "optimizer.lr: 0.1 -> 0.2",
        "seed: 0 -> 3",
    ]
    assert differences(to_record(config), to_record(config)) == []


def test_what_changes_no_result_may_differ(config: ClassificationConfig) -> None:
    """Workers, devices and the folder's name may differ between a checkpoint and the run that resumes from it."""
    other = replace(config, name="other", runtime=RuntimeConfig(num_workers=0, device="cpu", processes=2))
    assert changed_results(config, other) == []
    assert changed_results(config, replace(config, batch_size=32)) == ["batch_size: 16 -> 32"]


def test_the_config_of_a_checkpoint(config: ClassificationConfig) -> None:
    """Its record; what holds none is refused."""
    assert config_of({"config": to_record(config)}) == config
    with pytest.raises(ValueError, match="holds no config but a NoneType"):
        config_of({})


def test_classes_that_differ_are_named() -> None:
    """Whatever place they have; in another order they differ too."""
    names = ["a", "b", "c", "d"]
    both = "4 classes (a, b, c, ...) -> 4 classes (a, b, c, ...)"
    assert differing_classes(names, ["a", "b", "c", "e"]) == f"{both}; gone: d; new: e"
    assert differing_classes(names, names[:3]) == "4 classes (a, b, c, ...) -> 3 classes (a, b, c); gone: d"
    swapped = ["b", "a", "c", "d"]
    assert differing_classes(names, swapped).endswith("4 classes (b, a, c, ...); the same in another order")


def test_class_summary() -> None:
    """The number and up to three names."""
    assert class_summary(["a", "b", "c"]) == "3 classes (a, b, c)"
    assert class_summary(["a", "b", "c", "d"]) == "4 classes (a, b, c, ...)"
