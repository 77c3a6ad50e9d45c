"""Data without a validation split: which images become one, and that they stay it."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.detection import DetectionConfig
from public.config.record import config_of
from public.datasets.batches import DataError
from public.datasets.check import check
from public.datasets.cifar100 import Cifar100Data
from public.datasets.classification import build_eval_data, build_train_data
from public.datasets.detection import build_eval_data as build_detection_eval_data
from public.datasets.detection import build_train_data as build_detection_data
from public.datasets.division import validation_rows
from public.datasets.formats import FORMATS
from public.datasets.imagenet import ImageFolderData
from public.datasets.scan import Kind, RawAnnotations
from public.datasets.splits import val_images
from public.datasets.voc import VOC, VocData
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from public.transforms.image import RandomResizedCrop
from tests.datasets.test_detection import config_of as config_of_detection
from tests.datasets.written import voc_object, write_voc
from tests.recipes import tiny_experiment

NAMES = [f"img_{number:03d}.jpg" for number in range(200)]


def test_the_lowest_hashes() -> None:
    """15 % of 200 are the 30 names with the lowest BLAKE2b, whatever their order."""
    lowest = sorted(NAMES, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())[:30]
    assert sorted(np.array(NAMES)[validation_rows(NAMES, 0.15)]) == sorted(lowest)
    backwards = NAMES[::-1]
    assert sorted(np.array(backwards)[validation_rows(backwards, 0.15)]) == sorted(lowest)


def test_accents_are_the_same_letters_everywhere() -> None:
    """macOS takes é apart."""
    composed = [f"\u00e9{number}.jpg" for number in range(20)]
    apart = [f"e\u0301{number}.jpg" for number in range(20)]
    np.testing.assert_array_equal(validation_rows(composed, 0.3), validation_rows(apart, 0.3))


def test_each_group_has_its_share() -> None:
    """Of 100, 10, 2 and 1 images of four classes: 15, 2 (1.5, to even), 1 (never none), none (never all)."""
    groups = np.repeat(np.arange(4), [100, 10, 2, 1])
    chosen = validation_rows(NAMES[:113], 0.15, groups)
    assert np.bincount(groups[chosen], minlength=4).tolist() == [15, 2, 1, 0]
    assert validation_rows(NAMES[:10], 0.99).sum() == 9


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Class folders alone: 10 daisies, 6 roses."""
    for name, count in (("daisy", 10), ("rose", 6)):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (20, 16), (number * 9, 0, 0)).save(tmp_path / "flowers" / name / f"{number}.png")
    return tmp_path / "flowers"


def row_on(config: ClassificationConfig, folder: Path) -> ClassificationConfig:
    """The small row, batches of 4, on class folders."""
    resize = (Call(RandomResizedCrop, size=SIZE),)
    data = ImageFolderData(folder=str(folder), input_size=8, train_transforms=resize, val_fraction=0.3)
    return replace(config, data=data, batch_size=4, runtime=replace(config.runtime, num_workers=0))


@pytest.mark.parametrize("train", [None, "train", "training"])
def test_class_folders_are_divided(
    config: ClassificationConfig,
    flowers: Path,
    context: DistributedContext,
    caplog: pytest.LogCaptureFixture,
    train: str | None,
) -> None:
    """In the folder itself or in train/: 3 daisies and 2 roses of 16, the same wherever they lie; all others are for
    training. The list is in the settled options, from which the evaluation alone takes it."""
    if train is not None:
        flowers.rename(flowers.with_name(train))
        flowers.mkdir()
        flowers.with_name(train).rename(flowers / train)
    row = row_on(config, flowers)
    data = build_train_data(row, context)
    assert isinstance(data.settled, ImageFolderData)
    assert (data.num_images, data.val.num_images, data.class_names) == (11, 5, ["daisy", "rose"])
    expected = {"daisy/0.png", "daisy/2.png", "daisy/5.png", "rose/0.png", "rose/3.png"}
    assert set(data.settled.val_images or ()) == expected
    assert "has no validation split: 5 of its 16 images become one" in caplog.text
    (batch, *_) = build_eval_data(data.settled, batch_size=8, num_workers=0, context=context).loader
    assert batch.labels.tolist() == [0, 0, 0, 1, 1]
    reports = list(check(row))
    assert [(report.content, report.problems) for report in reports] == [
        ("11 images, 2 classes (daisy, rose)", []),
        ("5 images, 2 classes (daisy, rose)", []),
    ]


def test_one_image_of_each_class_cannot_be_divided(
    config: ClassificationConfig, flowers: Path, context: DistributedContext
) -> None:
    """Refused before an epoch is trained, by the evaluation of the split, and by the check."""
    for path in flowers.glob("*/[1-9].png"):
        path.unlink()
    row = row_on(config, flowers)
    message = r"flowers: the division of its 2 images .* leaves no validation image; expected two images or more of a c"
    with pytest.raises(DataError, match=message):
        build_train_data(row, context)
    with pytest.raises(DataError, match=message):
        build_eval_data(row.data, batch_size=8, num_workers=0, context=context)
    (problem,) = [one for report in check(row) for one in report.problems if one.kind == Kind.UNUSABLE_SPLIT]
    assert re.search(message, problem.text)


@pytest.mark.parametrize("val", ["val", "valid", "test"])
def test_a_split_that_is_there_is_taken(
    config: ClassificationConfig, image_folder: Path, context: DistributedContext, val: str
) -> None:
    """By any usual name; then nothing is divided."""
    (image_folder / "val").rename(image_folder / val)
    data = build_train_data(row_on(config, image_folder), context)
    assert (data.num_images, data.val.num_images, data.settled) == (11, 7, None)


def test_without_being_asked_nothing_is_divided(
    config: ClassificationConfig, flowers: Path, context: DistributedContext
) -> None:
    """A data set without a validation split is refused as ever; shares are shares; CIFAR has its split."""
    row = row_on(config, flowers)
    with pytest.raises(DataError, match=r"flowers/train is missing"):
        build_train_data(replace(row, data=replace(row.data, val_fraction=None)), context)
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"data\.val_fraction=.* must lie within \(0, 1\)"):
            replace(row.data, val_fraction=share)
    with pytest.raises(ValueError, match=r"data\.val_fraction=0\.5 has no effect with data\.dataset='cifar100'"):
        Cifar100Data(folder="x", train_transforms=(), val_fraction=0.5)


@pytest.mark.slow
def test_a_run_keeps_its_validation_images(
    flowers: Path, tmp_path: Path, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Resumed with more images, which all are trained on; its checkpoint evaluates the images that it began with. One
    of them gone: refused by its name, and --fresh begins anew."""
    data = replace(tiny_experiment.TINY.data, folder=str(flowers), val_fraction=0.3)
    row = replace(tiny_experiment.TINY, data=data, batch_size=4, epochs=2)
    path = tmp_path / "run"
    assert tiny_experiment.train(row, path) == 0
    began_with = config_of(load_checkpoint(path / "checkpoints" / "latest.pth")).data.val_images
    assert len(began_with) == 5
    for number in range(100, 110):
        Image.new("RGB", (20, 16)).save(flowers / "daisy" / f"{number}.png")
    caplog.clear()
    assert tiny_experiment.train(row, path) == 0
    assert "resuming" in caplog.text
    assert "was trained on 11 images, and there are 21 now" in caplog.text
    kept = config_of(load_checkpoint(path / "checkpoints" / "best.pth")).data
    assert kept.val_images == began_with
    assert build_eval_data(kept, batch_size=8, num_workers=0, context=context).loader.num_images == 5
    (flowers / began_with[0]).unlink()
    with pytest.raises(DataError, match=rf"flowers lacks 1 of the 5 validation images .* such as {began_with[0]}: put"):
        tiny_experiment.train(row, path)
    assert tiny_experiment.train(row, path, fresh=True) == 0
    assert len(config_of(load_checkpoint(path / "checkpoints" / "latest.pth")).data.val_images) == 8


# ---- images with boxes -----------------------------------------------------------------------------------------------


def raccoons_on(folder: Path) -> DetectionConfig:
    """A row on one split of twenty images in VOC's format, a raccoon on each."""
    write_voc(folder, {f"r{number}": voc_object("raccoon", 1, 1, number + 2, 9) for number in range(20)}, "Own/all")
    return config_of_detection(VocData, folder, ["Own/all"], ["Own/all"], classes=("raccoon",), val_fraction=0.15)


def test_the_only_split_is_divided(
    tmp_path: Path, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """3 of 20 images; the rest is trained on. The settled options give the same to whatever evaluates, draws or checks,
    also when there are more images."""
    row = raccoons_on(tmp_path)
    data = build_detection_data(row, context)
    assert isinstance(data.settled, VocData)
    val, train = (set(one.files.tolist()) for one in (data.val_annotations, data.annotations))
    assert (len(val), len(train), len(val | train)) == (3, 17, 20)
    assert {name.encode() for name in data.settled.val_images or ()} == val
    assert "has no validation split: 3 of its images become one" in caplog.text
    assert [report.content.partition(",")[0] for report in check(row)] == ["17 images", "3 images"]
    names = [f"r{number}" for number in range(20)] + ["s1", "s2", "s3"]
    write_voc(tmp_path, {name: voc_object("raccoon", 1, 1, 5, 9) for name in names}, "Own/all")
    later = build_detection_data(replace(row, data=data.settled), context)
    assert set(later.val_annotations.files.tolist()) == val
    assert (later.num_images, later.settled) == (20, data.settled)
    alone = build_detection_eval_data(data.settled, batch_size=2, num_workers=0, context=context)
    assert set(alone.annotations.files.tolist()) == val
    assert {str(path.relative_to(tmp_path)).encode() for path in val_images(data.settled)} == val


def test_the_only_split_is_read_once(
    tmp_path: Path, context: DistributedContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For both of its parts, by training and by the check."""
    row, scanned = raccoons_on(tmp_path), []

    def scan(folder: Path, splits: Sequence[str], data: VocData) -> RawAnnotations:
        scanned.append(tuple(splits))
        return VOC.scan(folder, splits, data)

    monkeypatch.setitem(FORMATS, "voc", replace(VOC, scan=scan))
    build_detection_data(row, context)
    assert scanned == [("Own/all",)]
    assert [report.problems for report in check(row)] == [[], []]
    assert scanned == [("Own/all",)] * 2


def test_a_part_without_objects(tmp_path: Path, context: DistributedContext) -> None:
    """Is named, and not the data that have one."""
    row = raccoons_on(tmp_path)
    val = {Path(os.fsdecode(file)).stem for file in build_detection_data(row, context).val_annotations.files.tolist()}
    objects = {f"r{n}": "" if f"r{n}" in val else voc_object("raccoon", 1, 1, n + 2, 9) for n in range(20)}
    write_voc(tmp_path, objects, "Own/all")
    with pytest.raises(
        DataError, match=r"^the part of .* by data\.val_fraction=0\.15 .* holds no object to find: 3 images"
    ):
        build_detection_data(row, context)


def test_one_image_cannot_be_divided(tmp_path: Path, context: DistributedContext) -> None:
    """Said in one sentence."""
    write_voc(tmp_path, {"r": voc_object("raccoon", 1, 1, 5, 9)}, "Own/all")
    row = config_of_detection(VocData, tmp_path, ["Own/all"], ["Own/all"], classes=("raccoon",), val_fraction=0.15)
    message = r"the division of its 1 images by data\.val_fraction leaves no validation image; expected two images or"
    with pytest.raises(DataError, match=message):
        build_detection_data(row, context)
    (problem,) = [one for report in check(row) for one in report.problems if one.kind == Kind.UNUSABLE_SPLIT]
    assert re.search(message, problem.text)


def test_a_run_whose_training_images_are_gone(tmp_path: Path, context: DistributedContext) -> None:
    """Refused, where the validation images that it keeps are all that is left; these are evaluated."""
    row = raccoons_on(tmp_path)
    settled = build_detection_data(row, context).settled
    assert settled is not None
    assert settled.val_images is not None
    stems = [Path(name).stem for name in settled.val_images]
    (tmp_path / "Own/ImageSets/Main/all.txt").write_text("\n".join(stems))
    with pytest.raises(DataError, match=r"the division of its 3 images by data\.val_fraction leaves no training image"):
        build_detection_data(replace(row, data=settled), context)
    assert build_detection_eval_data(settled, batch_size=2, num_workers=0, context=context).annotations.num_images == 3
