"""Records of format 1: every row of every experiment, and what its transforms' reprs become."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.command_line import with_kinds
from public.config.experiment import load_configs
from public.config.record import changed_results, config_of, from_record
from public.config.upgrade import FORMAT, RENAMED, renamed_option, upgraded
from public.recipes.classification import ClassificationTask
from public.recipes.detection import DetectionTask
from public.transforms.batch import BatchCutout, EachImage
from public.transforms.forgotten import Forgotten
from public.transforms.image import RandomErasing, RandomResizedCrop
from tests.old_runs.make import old_records

ROOT = Path(__file__).parents[2]
OLD = old_records()
ROWS = {key: key.rpartition("/") for key in OLD}


def present(key: str) -> Any:
    """The row as its train.py has it today, its network's options of the family's kind."""
    folder, _, row = ROWS[key]
    kinds = DetectionTask.kinds if folder.startswith("detection") else ClassificationTask.kinds
    return with_kinds(load_configs(ROOT / folder)[row], kinds)


@pytest.mark.slow
@pytest.mark.parametrize("key", OLD)
def test_every_row_of_format_1_is_the_row_of_today(key: str) -> None:
    """Equal objects, so that a run begun then resumes now; nothing of the old record is lost.

    Some rows train in NHWC since: a run of theirs resumes with --no-channels-last, as it is told.
    """
    old, now = from_record(OLD[key]), present(key)
    assert replace(old, channels_last=now.channels_last) == now
    assert now.channels_last or not old.channels_last


def test_a_checkpoint_kept_its_name_beside_the_record() -> None:
    """And left the settings out that change no result."""
    key = next(iter(OLD))
    record = {name: value for name, value in OLD[key].items() if name not in ("name", "runtime")}
    config = config_of({"config": record, "name": "mine"})
    assert config.name == "mine"
    assert changed_results(config, present(key)) == []


CLASSIFICATION = OLD["imagenet_experiments/resnet50_tricks_imagenet/baseline"]
DETECTION = OLD["detection_experiments/resnet18_fcos_sample_train_example/resnet18_fcos"]


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (v2.Resize(232), Call(v2.Resize, size=Scaled(232, of=224))),
        (
            v2.Resize((224, 200), v2.InterpolationMode.BICUBIC),
            Call(v2.Resize, size=(SIZE, Scaled(200, of=224)), interpolation=v2.InterpolationMode.BICUBIC),
        ),
        (v2.RandomResizedCrop(224, scale=(0.2, 1.0)), Call(RandomResizedCrop, size=SIZE, scale=(0.2, 1.0))),
        (
            v2.RandomResizedCrop(224, interpolation=v2.InterpolationMode.BICUBIC),  # ours has no other interpolation
            Call(v2.RandomResizedCrop, size=SIZE, interpolation=v2.InterpolationMode.BICUBIC),
        ),
        (v2.ColorJitter(hue=0.1), Call(v2.ColorJitter, hue=0.1)),
        (v2.ColorJitter((0.5, 1.2)), Call(v2.ColorJitter, brightness=(0.5, 1.2))),
        (v2.AutoAugment(v2.AutoAugmentPolicy.SVHN), Call(v2.AutoAugment, policy=v2.AutoAugmentPolicy.SVHN)),
        (v2.RandomErasing(p=0.25), Call(v2.RandomErasing, p=0.25, value=(0.0,))),
        (RandomErasing(0.25), Call(RandomErasing, probability=0.25)),
        (BatchCutout(size=8), Call(BatchCutout, size=8)),
        (EachImage(transform=v2.RandAugment(num_ops=1)), Call(EachImage, transform=Call(v2.RandAugment, num_ops=1))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_transforms_by_their_repr(transform: Any, expected: Call) -> None:
    """Arguments at their defaults are skipped; lengths follow the size that they had."""
    record = CLASSIFICATION | {"data": CLASSIFICATION["data"] | {"train_transforms": [repr(transform)]}}
    assert from_record(record).data.train_transforms == (expected,)


def test_a_transform_that_nobody_knows_does_not_keep_a_network_from_being_evaluated() -> None:
    """It is remembered by its text, and says so when it is to be made."""
    data = DETECTION["data"] | {"train_transforms": ["Mosaic(tiles=4)", *DETECTION["data"]["train_transforms"]]}
    first, *others = from_record(DETECTION | {"data": data}).data.train_transforms
    assert first == Call(Forgotten, text="Mosaic(tiles=4)")
    assert others == list(from_record(DETECTION).data.train_transforms)
    with pytest.raises(ValueError, match=r"the transform Mosaic\(tiles=4\) was recorded by an older version"):
        first.build(64)


@pytest.mark.parametrize(
    ("key", "former", "present"),
    [
        ("resnet50_retinanet_voc2012_finetune/one_device", {"normalise": "image"}, {"normalize": "image"}),
        ("resnet50_retinanet_voc2012_finetune/one_device", {"anchors": "centred"}, {"anchors": "centered"}),
        ("detnet59_cascade_rcnn_voc/voc07", {"class_agnostic": True}, {}),
        ("detnet59_faster_rcnn_voc/voc07", {"class_agnostic": True}, {"class_agnostic": True}),
        ("detnet59_faster_rcnn_voc/voc07", {"pool_size": None}, {"pool_size": 7}),
    ],
)
def test_settings_of_detectors_that_are_called_otherwise(
    key: str, former: dict[str, Any], present: dict[str, Any]
) -> None:
    """Names, words and what went without saying."""
    record = OLD[f"detection_experiments/{key}"]
    row = from_record(record)
    changed = from_record(record | {"detector": record["detector"] | former})
    assert changed == replace(row, detector=replace(row.detector, **present))


def test_a_setting_that_did_not_exist_yet_has_its_default() -> None:
    """Checkpoints of the first weeks have no tricks."""
    young = {name: value for name, value in CLASSIFICATION.items() if name not in ("mixing", "network_options")}
    assert from_record(young) == from_record(CLASSIFICATION)


@pytest.mark.parametrize("lacking", ["optimizer", "data", "schedule"])
def test_a_damaged_record(lacking: str) -> None:
    """Is refused in one sentence."""
    record = {name: value for name, value in CLASSIFICATION.items() if name != lacking}
    with pytest.raises(ValueError, match=f"the record of the config is damaged: it lacks '{lacking}'"):
        from_record(record)


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ({"class_names": ["a", "b"], "class_file": None}, ["a", "b"]),
        ({"class_names": None, "class_file": "x.txt"}, None),
    ],
)
def test_classes_of_format_2(former: dict[str, Any], present: list[str] | None) -> None:
    """VOC's names are every format's `classes`; a file of them is forgotten, for a checkpoint knows its classes."""
    key = next(key for key, record in OLD.items() if record["data"].get("dataset") == "voc")
    new = upgraded(OLD[key])
    assert not {"class_names", "class_file"} & new["data"].keys()
    old = new | {"format": 2, "data": {n: v for n, v in new["data"].items() if n != "classes"} | former}
    assert upgraded(old)["data"].get("classes") == present
    assert from_record(old).data.classes == (None if present is None else tuple(present))
    assert renamed_option("data.class-names") == renamed_option("data.class-file") == "data.classes"


def test_upgrading_changes_nothing_that_is_new() -> None:
    """And the old record is left as it was."""
    before = json.dumps(CLASSIFICATION)
    new = upgraded(CLASSIFICATION)
    assert json.dumps(CLASSIFICATION) == before
    assert new["format"] == FORMAT
    assert upgraded(new) == new


def test_old_options_are_named_by_the_same_table() -> None:
    """With hyphens or underscores."""
    assert renamed_option("canvas-size") == renamed_option("canvas_size") == "data.input-size"
    assert renamed_option("detector.normalise") == "detector.normalize"
    assert renamed_option("epochs") is None
    assert all(new not in RENAMED for new in RENAMED.values())
