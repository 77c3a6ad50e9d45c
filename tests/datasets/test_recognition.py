"""A folder is recognized by what lies in it: each layout of each format, none, and two at once."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from public.config.calls import SIZE, Call
from public.config.command_line import parse_config
from public.datasets.batches import DataError
from public.datasets.check import check
from public.datasets.coco import CocoData
from public.datasets.detection import build_train_data
from public.datasets.formats import DATA_KIND, AutoData, recognize, resolved
from public.datasets.scan import Kind
from public.datasets.splits import PURPOSES, scan_split
from public.datasets.voc import VocData
from public.datasets.yolo import YoloData
from public.recipes.detection import DetectionTask
from public.runtime.distributed import DistributedContext
from public.transforms.detection import SquareResize
from tests.datasets.test_detection import config_of
from tests.datasets.written import coco_content, voc_object, write_coco, write_image, write_voc, write_yolo

BOXES = [(7, 3, 0, 0, 20, 15), (2, 90, 0, 0, 10, 5)]


def auto(folder: Path, **settings: Any) -> AutoData:
    """Nothing is stated but the folder."""
    resize = (Call(SquareResize, size=SIZE),)
    return AutoData(folder=str(folder), input_size=40, train_transforms=resize, val_transforms=resize, **settings)


def coco_2017(root: Path) -> None:
    """annotations/ and images/<split>/."""
    for split in ("train2017", "val2017"):
        write_coco(root, coco_content(BOXES), split)


def coco_archives(root: Path) -> None:
    """The official archives, unpacked side by side."""
    coco_2017(root)
    for split in ("train2017", "val2017"):
        (root / "images" / split).rename(root / split)
    (root / "images").rmdir()


def coco_flat(root: Path) -> None:
    """One folder of images for both."""
    coco_2017(root)
    for split in ("train2017", "val2017"):
        for path in (root / "images" / split).iterdir():
            path.rename(root / "images" / path.name)
        (root / "images" / split).rmdir()


def coco_other_names(root: Path) -> None:
    """annotations/<split>.json, beside files that are none."""
    coco_2017(root)
    for split in ("train", "val"):
        (root / f"annotations/instances_{split}2017.json").rename(root / f"annotations/{split}.json")
        (root / f"images/{split}2017").rename(root / split)
    (root / "annotations/notes.json").write_text('{"images": []}')
    (root / "annotations/empty.json").touch()


def coco_roboflow(root: Path) -> None:
    """A folder for each split with its images and annotations, and a placeholder."""
    content = coco_content(BOXES)
    names = {"cat": "pets", "dog": "pets"}
    categories = [one | {"supercategory": names[one["name"]]} for one in content["categories"]]
    content["categories"] = [{"id": 0, "name": "pets", "supercategory": "none"}, *categories]
    for split in ("train", "valid", "test"):
        path = write_coco(root, content, split)
        (root / "images" / split).rename(root / split)
        path.rename(root / split / "_annotations.coco.json")
    (root / "images").rmdir()
    (root / "annotations").rmdir()


def voc_own(root: Path, year: str = "Own") -> None:
    """With lists, in a folder."""
    objects = {"a": voc_object("dog", 1, 1, 20, 15), "b": voc_object("cat", 1, 1, 10, 5)}
    for split in ("train", "val", "cat_train"):
        write_voc(root, objects, f"{year}/{split}")


def voc_itself(root: Path) -> None:
    """The folder itself holds the three."""
    voc_own(root.parent, root.name)


def voc_devkit(root: Path) -> None:
    """VOCdevkit/VOC2007 with trainval and test."""
    objects = {"a": voc_object("dog", 1, 1, 20, 15), "b": voc_object("cat", 1, 1, 10, 5)}
    for split in ("trainval", "test"):
        write_voc(root / "VOCdevkit", objects, f"Cells/{split}")


def voc_roboflow(root: Path) -> None:
    """A folder for each split with its images and their xml."""
    voc_own(root / "other")
    for split in ("train", "valid"):
        (root / split).mkdir()
        for kind in ("JPEGImages", "Annotations"):
            for path in (root / "other/Own" / kind).iterdir():
                (root / split / path.name).write_bytes(path.read_bytes())
    for path in sorted((root / "other").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / "other").rmdir()


def yolo(root: Path, name: str = "data.yaml", val: str = "val") -> None:
    """data.yaml and two folders each."""
    for split in ("train", "val"):
        write_yolo(root, {"a": "0 0.25 0.25 0.5 0.5\n", "b": "1 0.125 0.1 0.25 0.2\n"}, split)
    (root / name).write_text(f"train: images/train\n{val}: images/val\nnames: [dog, cat]\n")


LAYOUTS: dict[str, tuple[Callable[[Path], None], type, tuple[str, str], dict[str, Any]]] = {
    "COCO 2017": (coco_2017, CocoData, ("train2017", "val2017"), {}),
    "COCO's archives": (coco_archives, CocoData, ("train2017", "val2017"), {}),
    "COCO, one folder of images": (coco_flat, CocoData, ("train2017", "val2017"), {}),
    "COCO, files of other names": (coco_other_names, CocoData, ("train", "val"), {}),
    "COCO of Roboflow": (coco_roboflow, CocoData, ("train", "valid"), {}),
    "VOC": (voc_own, VocData, ("Own/train", "Own/val"), {}),
    "VOC, the folder itself": (voc_itself, VocData, ("train", "val"), {}),
    "VOC, a devkit": (voc_devkit, VocData, ("VOCdevkit/Cells/trainval", "VOCdevkit/Cells/test"), {}),
    "VOC of Roboflow": (voc_roboflow, VocData, ("train/*", "valid/*"), {}),
    "YOLO": (yolo, YoloData, ("train", "val"), {}),
    "YOLO, another name": (
        lambda root: yolo(root, "coco8.yml", "valid"),
        YoloData,
        ("train", "valid"),
        {"file": "coco8.yml"},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str, context: DistributedContext) -> None:
    """The options become those of the format with its splits, which train; the same objects come from all."""
    write, kind, (train, val), settings = LAYOUTS[layout]
    root = tmp_path / "pets"
    root.mkdir()
    write(root)
    data = resolved(auto(root))
    assert type(data) is kind
    assert (data.train_splits, data.val_splits, data.metrics, data.folder) == ((train,), (val,), "coco", str(root))
    assert {name: getattr(data, name) for name in settings} == settings
    assert resolved(data) is data
    found = build_train_data(replace(config_of(CocoData, root, ["x"], ["x"]), data=data), context)
    boxes = {
        (name, *found.annotations.boxes[i].round(3).tolist())
        for i, name in enumerate(found.class_names[label] for label in found.annotations.labels)
    }
    assert boxes == {("dog", 0, 0, 20, 15), ("cat", 0, 0, 10, 5) if kind is not YoloData else ("cat", 0, 0, 10, 6)}
    assert found.val_annotations.num_boxes == 2


def voc_raccoons(root: Path) -> None:
    """annots/ and images/ alone."""
    voc_own(root / "other")
    (root / "other/Own/Annotations").rename(root / "annots")
    (root / "other/Own/JPEGImages").rename(root / "images")


def coco_one_file(root: Path) -> None:
    """One file of any name that gives the images by their paths below the folder, as Label Studio exports it."""
    content = coco_content(BOXES)
    for image in content["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    write_coco(root, content, "all")
    (root / "annotations/instances_all.json").rename(root / "result.json")
    for name in ("a.jpg", "b.jpg"):
        (root / "images/all" / name).rename(root / "images" / name)


UNSPLIT: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "COCO": (lambda root: write_coco(root, coco_content(BOXES), "default"), ("default",)),
    "COCO, one file": (coco_one_file, ("result",)),
    "VOC": (voc_raccoons, ("*",)),
    "YOLO": (lambda root: yolo(root, val="ignored"), ("train",)),
}


@pytest.mark.parametrize("layout", UNSPLIT)
def test_a_folder_without_a_split(tmp_path: Path, layout: str) -> None:
    """Is recognized as one that has none; used, it asks for one. Two lists of its images divide it."""
    write, train = UNSPLIT[layout]
    write(tmp_path)
    splits = recognize(tmp_path).layout.splits
    assert (splits.train[:1], splits.val) == (train, ())
    with pytest.raises(DataError, match=r"holds no validation split: state one \(--data\.val-splits\), or divide"):
        resolved(auto(tmp_path))
    lists = {
        "train_list": "a.txt",
        "val_list": "b.txt",
        "val_splits": splits.train[:1],
        "train_splits": splits.train[:1],
    }
    data = resolved(auto(tmp_path, **lists))
    assert (data.train_list, data.val_list, data.train_splits) == ("a.txt", "b.txt", data.val_splits)


def test_what_is_not_recognized(tmp_path: Path) -> None:
    """No folder, none of the formats, two of them, two files of splits: one sentence each, and the check says it."""
    with pytest.raises(DataError, match=r"^there is no folder .*/nowhere\. Put it there, or say"):
        recognize(tmp_path / "nowhere")
    message = r"is in none of the formats coco, voc, yolo: it has neither annotations/instances_<split>\.json"
    with pytest.raises(DataError, match=message):
        recognize(tmp_path)
    row = replace(config_of(CocoData, tmp_path, ["x"], ["x"]), data=auto(tmp_path))
    ((problem,),) = [report.problems for report in check(row)]
    assert "is in none of the formats" in problem.text
    write_voc(tmp_path / "half", {"a": voc_object("dog", 1, 1, 20, 15)}, "Own/train")
    for path in (tmp_path / "half/Own/JPEGImages").iterdir():
        path.unlink()
    (tmp_path / "half/Own/JPEGImages").rmdir()
    with pytest.raises(DataError, match=r"/Own/Annotations holds Pascal VOC's .* no folder .*/half/Own/JPEGImages or"):
        recognize(tmp_path / "half")
    yolo(tmp_path)
    coco_2017(tmp_path / "two")
    yolo(tmp_path / "two")
    message = (
        r"more than one format, COCO's \(annotations/instances_<split>\.json\) and YOLO's \(data\.yaml\): choose by"
    )
    with pytest.raises(DataError, match=message):
        recognize(tmp_path / "two")
    yolo(tmp_path, "more.yaml")
    with pytest.raises(DataError, match=r"holds more than one YAML file of splits: data\.yaml, more\.yaml"):
        recognize(tmp_path)


def test_auto_on_the_command_line(tmp_path: Path, context: DistributedContext) -> None:
    """Of any row, whose splits and classes are of its own data; the task records what was found."""
    row = config_of(VocData, tmp_path / "x", ["Own/train"], ["Own/val"], classes=("a", "b"))
    row = replace(row, best_metric="AP", data=replace(row.data, metrics="coco"))
    root = tmp_path / "pets"
    coco_roboflow(root)
    args = ["--data.dataset", "auto", "--data.folder", str(root), "--data.input-size", "32"]
    config, _ = parse_config({"tiny": row}, args, [DATA_KIND])
    assert isinstance(config.data, AutoData)
    assert (config.data.train_splits, config.data.classes) == ((), None)
    data = DetectionTask.resolve(config).data
    assert (type(data), data.train_splits, data.val_splits, data.input_size) == (CocoData, ("train",), ("valid",), 32)
    config, _ = parse_config({"tiny": row}, [*args, "--data.val-splits", "test"], [DATA_KIND])
    assert DetectionTask.resolve(config).data.val_splits == ("test",)
    kinds = [{one.kind for one in report.problems} for report in check(replace(config, num_classes=2))]
    assert kinds == [{Kind.PLACEHOLDER}] * 2


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("place", ["images/nowhere", "https://example.org/images.zip"])
def test_a_split_of_yolo_that_is_not_there(tmp_path: Path, context: DistributedContext, split: str, place: str) -> None:
    """Is refused by training and by the check: what is left is not what was meant."""
    yolo(tmp_path)
    text = (tmp_path / "data.yaml").read_text()
    (tmp_path / "data.yaml").write_text(text.replace(f"images/{split}\n", f"{place}\n"))
    data = resolved(auto(tmp_path, val_fraction=0.5))
    assert (data.train_splits, data.val_splits) == (("train",), ("val",))
    row = replace(config_of(CocoData, tmp_path, ["x"], ["x"]), data=data)
    message = rf"data\.yaml: {split} names '{place}', and there is no {tmp_path}/"
    with pytest.raises(DataError, match=message):
        build_train_data(row, context)
    (problem,) = [one for report in check(row) for one in report.problems if one.is_refused]
    assert re.search(message, problem.text)


def test_a_test_split_of_yolo_that_is_not_there(tmp_path: Path, context: DistributedContext) -> None:
    """As published files have it: trained without, and a warning of the check; keys that are no splits are none."""
    yolo(tmp_path)
    with (tmp_path / "data.yaml").open("a") as file:
        file.write("test: test2017.txt\nlicense: MIT\n")
    row = replace(config_of(CocoData, tmp_path, ["x"], ["x"]), data=resolved(auto(tmp_path)))
    assert build_train_data(row, context).num_images == 2
    (problem,) = [one for report in check(row) for one in report.problems]
    assert (problem.kind, problem.is_refused) == (Kind.MISSING_SPLIT, False)
    assert problem.text == f"test names 'test2017.txt', and there is no {tmp_path}/test2017.txt"


def without(root: Path, *names: str) -> None:
    """Takes files away."""
    for name in names:
        (root / name).unlink()


def coco_val_alone(root: Path) -> None:
    """As when the other file was forgotten."""
    coco_2017(root)
    without(root, "annotations/instances_train2017.json")


def voc_val_alone(root: Path) -> None:
    """val.txt, and nothing of train.txt."""
    voc_own(root)
    without(root, "Own/ImageSets/Main/train.txt", "Own/ImageSets/Main/cat_train.txt")


def yolo_test_alone(root: Path) -> None:
    """An empty train."""
    yolo(root)
    (root / "data.yaml").write_text("train:\ntest: images/val\nnames: [dog, cat]\n")


def yolo_val_alone(root: Path) -> None:
    """No train at all."""
    yolo(root)
    (root / "data.yaml").write_text("val: images/val\nnames: [dog, cat]\n")


VAL_ALONE: dict[str, tuple[Callable[[Path], None], str]] = {
    "COCO": (coco_val_alone, "val2017"),
    "VOC": (voc_val_alone, "Own/val"),
    "YOLO": (yolo_val_alone, "val"),
    "YOLO, test": (yolo_test_alone, "test"),
}


@pytest.mark.parametrize("layout", VAL_ALONE)
def test_validation_images_are_not_trained_on_unasked(tmp_path: Path, layout: str) -> None:
    """Without a training split: refused, by the check too; asked for, they are divided. All of them are evaluated."""
    write, split = VAL_ALONE[layout]
    write(tmp_path)
    data = auto(tmp_path, val_fraction=0.5)
    message = rf"holds no training split; its splits are {split}\. State one .* \(--data\.train-splits\)"
    with pytest.raises(DataError, match=message):
        resolved(data)
    ((problem,),) = [one.problems for one in check(replace(config_of(CocoData, tmp_path, ["x"], ["x"]), data=data))]
    assert re.search(message, problem.text)
    stated = resolved(replace(data, train_splits=(split,)))
    assert (stated.train_splits, stated.val_splits, stated.val_fraction) == ((split,), (split,), 0.5)
    evaluated = resolved(data, trains=False)
    assert (evaluated.val_splits, len(scan_split(evaluated, "val").files)) == ((split,), 2)


def test_data_of_another_format_than_is_read(tmp_path: Path) -> None:
    """As of a checkpoint that was trained on YOLO's, evaluated on a folder of VOC's."""
    write_voc(tmp_path, {"a": voc_object("dog", 1, 1, 20, 15)}, "Own/val")
    resize = (Call(SquareResize, size=SIZE),)
    where: dict[str, Any] = {"folder": str(tmp_path), "train_splits": ("train",), "val_splits": ("val",)}
    data = YoloData(input_size=40, train_transforms=resize, val_transforms=resize, **where)
    told = r"data\.yaml is missing.* of kind yolo, and .* in Pascal VOC's \(Own\) format, which --data\.dataset auto"
    with pytest.raises(DataError, match=told):
        scan_split(data, "val")


@pytest.mark.parametrize("split", ["val/", "train2017/", ""])
def test_a_folder_of_classes_for_a_detector(tmp_path: Path, split: str) -> None:
    """It is called so, as data with boxes is of a classifier; images whose annotations are missing are no classes."""
    data = config_of(CocoData, tmp_path, ["train2017"], ["val2017"]).data
    for name in ("cat", "dog"):
        write_image(tmp_path / f"{split}{name}" / "a.jpg")
    told = (
        rf"holds folders of images \({split}cat, {split}dog\), as a classification has .*instances_val2017\.json is mis"
    )
    with pytest.raises(DataError, match=told):
        scan_split(data, "val")
    with pytest.raises(
        DataError, match=rf"\({split}cat, {split}dog\), as a .*: imagenet_experiments/own_images_finetune"
    ):
        resolved(auto(tmp_path))
    shutil.rmtree(tmp_path / f"{split}dog")
    for name in (f"{split}images", "images/train2017", "images/val2017", "val2017", "test2017"):
        write_image(tmp_path / name / "a.jpg")
    with pytest.raises(DataError, match=r"^\S*instances_val2017\.json is missing"):
        scan_split(data, "val")


def test_folders_below_those_of_voc(tmp_path: Path) -> None:
    """Where lists name them."""
    objects = {f"camera/{name}": voc_object("dog", 1, 1, 20, 15) for name in "abc"}
    for kind in ("Annotations", "JPEGImages"):
        (tmp_path / "Own" / kind / "camera").mkdir(parents=True)
    write_voc(tmp_path, objects, "Own/train")
    write_voc(tmp_path, {"camera/d": voc_object("dog", 1, 1, 20, 15)}, "Own/val")
    data = resolved(auto(tmp_path))
    assert (data.train_splits, data.val_splits) == (("Own/train",), ("Own/val",))
    assert [len(scan_split(data, purpose).files) for purpose in PURPOSES] == [3, 1]


def test_a_list_of_voc_for_training_alone(tmp_path: Path) -> None:
    """Its images are divided, and those of no list stay out."""
    objects = {name: voc_object("dog", 1, 1, 20, 15) for name in "abcd"}
    write_voc(tmp_path, objects, "Own/all")
    write_voc(tmp_path, {name: objects[name] for name in "abc"}, "Own/train")
    data = resolved(auto(tmp_path, val_fraction=0.3))
    assert (data.train_splits, data.val_splits) == (("Own/train",), ("Own/train",))
    parts = {Path(file).stem for purpose in PURPOSES for file in scan_split(data, purpose).files}
    assert parts == set("abc")
