"""From a detection config to loaders: what is checked, refused and logged between the two."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig, DetectionData
from public.config.options import DetectorOptions
from public.config.run import RuntimeConfig
from public.datasets import detection
from public.datasets.batches import DataError
from public.datasets.coco import CocoData, coco_rows
from public.datasets.detection import build_eval_data, build_train_data, canvas_size
from public.datasets.detection_loaders import DetectionTrainLoader, GroupedEpochBatchSampler
from public.datasets.formats import FORMATS
from public.datasets.loaders import EpochBatchSampler
from public.datasets.predictions import Predictions
from public.datasets.splits import val_images
from public.datasets.voc import VocData
from public.evaluation.coco import CocoEvaluator
from public.geometry.labels import IGNORED, PADDING
from public.optim.options import ConstantOptions, SGDOptions
from public.runtime.distributed import DistributedContext
from public.transforms.detection import RandomHorizontalFlip, ShortSideResize, SquareResize
from tests.datasets.written import coco_content, voc_object, write_coco, write_voc

BOXES = [(7, 90, 4, 6, 10, 12), (7, 3, 0, 0, 20, 30, 1), (7, 3, 5, 5, 0, 3), (7, 3, 1, 2, 3, 4)]
"""Of image 7: a cat; a crowd of dogs; a dog without area; a dog. Image 2 has none."""


def config_of(
    kind: type[DetectionData], folder: Path, train: Sequence[str], val: Sequence[str], **data: Any
) -> DetectionConfig:
    """A row with batches of 2 on canvases of 40 x 40."""
    return DetectionConfig(
        name="tiny",
        epochs=1,
        batch_size=2,
        best_metric="AP" if kind is CocoData else "mAP50",
        detector=DetectorOptions(backbone="resnet18"),
        data=kind(
            folder=str(folder),
            input_size=40,
            train_splits=tuple(train),
            val_splits=tuple(val),
            train_transforms=(Call(SquareResize, size=SIZE),),
            val_transforms=(Call(SquareResize, size=SIZE),),
            **data,
        ),
        optimizer=SGDOptions(lr=0.1, weight_decay=1e-4),
        schedule=ConstantOptions(),
        runtime=RuntimeConfig(num_workers=0),
    )


@pytest.fixture
def coco(tmp_path: Path) -> DetectionConfig:
    """Two images of 40 x 30 and 20 x 10 in train2017, the same in val2017; the classes are dog (id 3) and cat (90)."""
    write_coco(tmp_path, coco_content(BOXES), "train2017")
    write_coco(tmp_path, coco_content(BOXES[:1]), "val2017")
    return config_of(CocoData, tmp_path, ["train2017"], ["val2017"])


@pytest.fixture
def voc(tmp_path: Path) -> DetectionConfig:
    """Images a, b, c to train on and d to evaluate on, over three lists."""
    write_voc(tmp_path, {"a": voc_object("wheel", 2, 3, 11, 22), "b": ""}, "Own/train")
    write_voc(tmp_path, {"c": voc_object("door", 1, 1, 40, 30, "1")}, "More/train")
    write_voc(tmp_path, {"d": voc_object("door", 1, 1, 4, 4)}, "Own/val")
    (tmp_path / "classes.txt").write_text("door\nwheel\n")
    return config_of(VocData, tmp_path, ["Own/train", "More/train"], ["Own/val"])


def test_coco(coco: DetectionConfig, context: DistributedContext) -> None:
    """Both loaders and what they were made from; one global batch of both images, whichever way round."""
    data = build_train_data(coco, context)
    assert isinstance(data.train, DetectionTrainLoader)
    assert (data.train.steps_per_epoch, data.val.num_images, data.val.batch_size) == (1, 2, 2)
    assert data.annotations.class_names == data.val_annotations.class_names == ["dog", "cat"]
    assert (data.annotations.num_boxes, data.val_annotations.num_boxes) == (3, 1)
    (batch,) = data.train.epoch(0)
    row = batch.image_ids.tolist().index(7)
    assert sorted(batch.image_ids.tolist()) == [2, 7]
    assert batch.images.shape == (2, 3, 40, 40)
    assert batch.labels[row].tolist() == [1, IGNORED, 0]
    assert batch.boxes[row].tolist() == [[4, 6, 14, 18], [0, 0, 20, 30], [1, 2, 4, 6]]
    assert batch.labels[1 - row].tolist() == [PADDING] * 3
    assert batch.sizes.content[row].tolist() == [30, 40]


def test_voc(voc: DetectionConfig, context: DistributedContext) -> None:
    """Several lists make one split; classes.txt numbers the classes; pixels that count from 1 are shifted."""
    data = build_train_data(voc, context)
    assert (data.annotations.num_images, data.val.num_images) == (3, 1)
    assert data.annotations.class_names == ["door", "wheel"]
    (batch,) = data.val
    assert batch.boxes.tolist() == [[[0, 0, 4, 4]]]
    assert batch.labels.tolist() == [[0]]
    boxes, labels = data.annotations.of(0)
    assert (boxes.tolist(), labels.tolist()) == ([[1, 2, 11, 22]], [1])


def test_some_of_the_classes(voc: DetectionConfig, coco: DetectionConfig, context: DistributedContext) -> None:
    """Named in the config, in that order, whatever the format; objects of the others are skipped and counted."""
    classes = ("wheel",)
    data = build_train_data(replace(voc, data=replace(voc.data, classes=("wheel", "door"))), context)
    assert (data.class_names, data.annotations.labels.tolist()) == (["wheel", "door"], [0, 1])
    with pytest.raises(DataError, match=r"not one of its 1 classes \(door\) is among the 1 classes \(wheel\)"):
        build_train_data(replace(voc, data=replace(voc.data, classes=classes)), context)
    data = build_train_data(replace(coco, data=replace(coco.data, classes=("cat",))), context)
    assert (data.class_names, data.category_ids) == (["cat"], [90])
    assert (data.annotations.labels.tolist(), data.annotations.boxes.tolist()) == ([0], [[4, 6, 14, 18]])
    assert data.annotations.skipped == {"objects of other classes": 3}
    truth = data.val_annotations.truth
    assert truth is not None
    assert (truth.labels.tolist(), truth.boxes.tolist()) == ([0], [[4, 6, 10, 12]])


def test_a_class_that_there_is_not(voc: DetectionConfig, coco: DetectionConfig, context: DistributedContext) -> None:
    """A mistyped name would be a class that nothing is learnt of."""
    for row, name, nearest in ((coco, "dgo", "the nearest: dog"), (voc, "window", "there are: door, wheel")):
        wanted = replace(row, data=replace(row.data, classes=(name,)))
        with pytest.raises(DataError, match=rf"data\.classes names '{name}', and no class is called so; {nearest}\.$"):
            build_train_data(wanted, context)


def test_no_classes_on_the_command_line(voc: DetectionConfig) -> None:
    """None takes back what a row names; a class cannot be called so by accident."""
    named = replace(voc.data, classes=("wheel", "door"))
    assert isinstance(named, VocData)
    assert tyro.cli(VocData, args=[], default=named).classes == ("wheel", "door")
    assert tyro.cli(VocData, args=["--classes", "None"], default=named).classes is None
    assert tyro.cli(VocData, args=["--classes", "a", "b"], default=named).classes == ("a", "b")


@pytest.mark.parametrize(("train", "val"), [(("a", "b"), ("c",)), (("a",), ("b", "c"))])
def test_coco_has_one_split_each(coco: DetectionConfig, train: tuple[str, ...], val: tuple[str, ...]) -> None:
    """One annotation file to train on and one to evaluate on."""
    with pytest.raises(ValueError, match=r"^data\.dataset='coco' takes one split each in data\.train_splits and data"):
        replace(coco.data, train_splits=train, val_splits=val)


@pytest.mark.parametrize(
    ("resize", "input_size", "canvas"),
    [
        (Call(ShortSideResize, short=SIZE, long_cap=Scaled(1333, of=800)), 800, (800, 1066)),
        (Call(ShortSideResize, short=SIZE, long_cap=Scaled(1000, of=600)), 600, (600, 800)),
        (Call(ShortSideResize, short=SIZE, long_cap=Scaled(320, of=240)), 240, (240, 320)),
        (Call(SquareResize, size=SIZE), 667, (667, 667)),
    ],
)
def test_the_canvas_of_a_usual_picture(
    coco: DetectionConfig, resize: Call, input_size: int, canvas: tuple[int, int]
) -> None:
    """Of 640 x 480 pixels, not yet rounded up to what a batch has: what the experiments stated by hand."""
    assert canvas_size(replace(coco.data, val_transforms=(resize,), input_size=input_size)) == canvas


def test_groups_of_similar_shape(coco: DetectionConfig, context: DistributedContext) -> None:
    """Asked for by number."""
    for number, kind in ((None, EpochBatchSampler), (0, GroupedEpochBatchSampler), (3, GroupedEpochBatchSampler)):
        train = build_train_data(replace(coco, data=replace(coco.data, group_by_aspect=number)), context).train
        assert isinstance(train, DetectionTrainLoader)
        assert type(train.share) is kind


def test_rare_classes_come_more_often(
    voc: DetectionConfig, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A wheel on 1 of 3 images, and a difficult door, which does not count: sqrt(1 / (1/3)) = 1.73, 3.73 in sum."""
    train = build_train_data(replace(voc, data=replace(voc.data, balance=1.0)), context).train
    assert train.steps_per_epoch == 2
    assert "data.balance: an epoch takes 4 images of 3, each 1 to 1.73 times" in caplog.messages
    for balance in (0.0, 1.5):
        with pytest.raises(ValueError, match=rf"data\.balance={balance} must lie within \(0, 1\]"):
            replace(voc.data, balance=balance)


def test_how_pictures_are_read(
    coco: DetectionConfig, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """data.orientation and data.max_pixels get to the loader: a.jpg of 40 x 30 pixels is stored lying on its side."""
    path = Path(coco.data.folder) / "images/val2017/a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    for changes, message in (
        (
            {"orientation": "stored"},
            "a.jpg is not the one that its boxes were drawn on: it is 40 pixels high and 30 wide",
        ),
        ({"max_pixels": 1199}, "it has 30 x 40 = 1,200 pixels, more than the 1,199 that are read"),
    ):
        data = build_eval_data(replace(coco.data, **changes), batch_size=1, num_workers=0, context=context)
        with pytest.raises(DataError, match=message):
            list(data.loader)
    for orientation in ("annotated", "upright"):
        data = replace(coco.data, orientation=orientation)
        list(build_eval_data(data, batch_size=1, num_workers=0, context=context).loader)


def test_the_validation_split_alone(coco: DetectionConfig, voc: DetectionConfig, context: DistributedContext) -> None:
    """Testing needs nothing of the training split: it is not there."""
    (Path(coco.data.folder) / "annotations" / "instances_train2017.json").unlink()
    (Path(voc.data.folder) / "Own" / "ImageSets" / "Main" / "train.txt").unlink()
    for row, num_images in ((coco, 2), (voc, 1)):
        data = build_eval_data(row.data, batch_size=3, num_workers=0, context=context)
        assert (data.loader.num_images, data.loader.batch_size) == (num_images, 3)
        assert data.annotations.num_images == num_images


def test_each_process_has_its_share(coco: DetectionConfig) -> None:
    """Of a global batch of 2 over two processes each trains on one image and evaluates on the other, or on the same."""
    worlds = [DistributedContext(rank=rank, size=2, device=torch.device("cpu")) for rank in range(2)]
    found = [build_train_data(coco, context) for context in worlds]
    for batches in ([list(data.train.epoch(0)) for data in found], [list(data.val) for data in found]):
        assert sorted(batch.image_ids.tolist() for (batch,) in batches) == [[2], [7]]
    assert [data.val.batch_size for data in found] == [1, 1]


def test_accumulation_makes_smaller_evaluation_batches(coco: DetectionConfig, context: DistributedContext) -> None:
    """A training batch is cut by the recipe; evaluation's is what one forward pass of training sees."""
    data = build_train_data(replace(coco, accumulation_steps=2), context)
    assert [len(batch.images) for batch in data.train.epoch(0)] == [2]
    assert [len(batch.images) for batch in data.val] == [1, 1]


# ---- what is logged ----------------------------------------------------------------------------------------------


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Level and text of what this module logged."""
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == detection.__name__]


def test_the_log(coco: DetectionConfig, context: DistributedContext, caplog: pytest.LogCaptureFixture) -> None:
    """A line for each split: how much there is, and how much was skipped."""
    build_train_data(coco, context)
    where = f"{coco.data.folder}/annotations/instances"
    assert messages(caplog) == [
        (logging.WARNING, f"{where}_val2017.json holds no validation object of 1 of 2 classes (dog): they have no AP."),
        (
            logging.INFO,
            "training: 2 images, 3 boxes (1 of them ignored), 2 classes (dog, cat) from "
            f"{where}_train2017.json; skipped: boxes without area: 1",
        ),
        (
            logging.INFO,
            f"evaluation: 2 images, 1 boxes (0 of them ignored), 2 classes (dog, cat) from {where}_val2017.json",
        ),
    ]


def test_classes_that_are_never_seen(
    voc: DetectionConfig, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """The only door is a difficult one, to be ignored: a warning names it."""
    build_train_data(voc, context)
    warnings = [text for level, text in messages(caplog) if level == logging.WARNING]
    assert warnings == [
        f"{voc.data.folder} holds no training object of 1 of 2 classes (door): they will not be learnt.",
        f"{voc.data.folder} holds no validation object of 1 of 2 classes (wheel): they have no AP.",
    ]


def test_other_processes_log_nothing(voc: DetectionConfig, caplog: pytest.LogCaptureFixture) -> None:
    """The main one has said it."""
    build_train_data(voc, DistributedContext(rank=1, size=2, device=torch.device("cpu")))
    assert messages(caplog) == []


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_another_number_of_classes(coco: DetectionConfig, context: DistributedContext) -> None:
    """Both numbers; the right one passes."""
    build_train_data(replace(coco, num_classes=2), context)
    with pytest.raises(
        DataError, match=r"^num_classes=80, and .*/instances_train2017\.json has 2 classes \(dog, cat\)\.$"
    ):
        build_train_data(replace(coco, num_classes=80), context)


def test_classes_are_matched_by_name(
    coco: DetectionConfig, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Validation numbers them otherwise, lacks one and has one more: labels are the training split's, ids its own."""
    categories = [{"id": 5, "name": "cow"}, {"id": 7, "name": "cat"}]
    content = coco_content([(7, 7, 1, 1, 2, 2), (7, 5, 3, 3, 4, 4)], categories=categories)
    write_coco(Path(coco.data.folder), content, "val2017")
    data = build_train_data(coco, context)
    val = data.val_annotations
    assert (val.class_names, val.category_ids) == (["dog", "cat"], [1, 7])
    assert (val.labels.tolist(), val.boxes.tolist()) == ([1], [[1, 1, 3, 3]])
    assert val.skipped == {"objects of other classes": 1}
    assert f"{val.source} holds no validation object of 1 of 2 classes (dog): they have no AP." in caplog.messages
    evaluated = CocoEvaluator(val)
    found = Predictions(np.array([7]), val.boxes, np.ones(1, np.float32), np.array([1]))
    assert evaluated.evaluate(found).metrics["AP"] == pytest.approx(1)
    assert evaluated.evaluate(found).absent == ["dog"]
    assert coco_rows(found, val.category_ids)[0]["category_id"] == 7


def test_no_class_in_common(coco: DetectionConfig, context: DistributedContext) -> None:
    """Refused, with both lists."""
    write_coco(Path(coco.data.folder), coco_content(BOXES, categories=[{"id": 3, "name": "cow"}]), "val2017")
    message = r"_val2017\.json: not one of its 1 classes \(cow\) is among the 2 classes \(dog, cat\) of what is trained"
    with pytest.raises(DataError, match=r"category_id 90, which no category has"):
        build_train_data(coco, context)
    write_coco(Path(coco.data.folder), coco_content((), categories=[{"id": 3, "name": "cow"}]), "val2017")
    with pytest.raises(DataError, match=message):
        build_train_data(coco, context)


def test_one_split_divided_by_lists(coco: DetectionConfig, voc: DetectionConfig, context: DistributedContext) -> None:
    """Each list names images as the format has them; problems of an image go with it, and what is gone is counted."""
    root = Path(coco.data.folder)
    (root / "train.txt").write_text("a.jpg\ngone.jpg\n")
    (root / "val.txt").write_text("b.jpg\n")
    content = coco_content([*BOXES, (2, 90, 1, 1, 2, 2)])
    content["images"][1]["width"] = None
    write_coco(root, content, "train2017")
    lists = {"train_list": "train.txt", "val_list": str(root / "val.txt")}
    data = build_train_data(
        replace(coco, batch_size=1, data=replace(coco.data, val_splits=("train2017",), **lists)), context
    )
    train, val = data.annotations, data.val_annotations
    assert (train.files.tolist(), val.files.tolist()) == ([b"a.jpg"], [b"b.jpg"])
    assert (train.num_boxes, val.num_boxes, val.boxes.tolist()) == (3, 1, [[1, 1, 3, 3]])
    assert train.skipped == {"boxes without area": 1, "listed images that are not there": 1}
    assert (train.filled, val.filled) == ({}, {"image sizes that are not stated": 1})
    options = replace(coco.data, val_splits=("train2017",), **lists)
    assert val_images(options) == [root / "images/train2017/b.jpg"]
    for text, message in (("x.jpg\n", r"holds not one of the 1 images of the list: x\.jpg"), ("\n", "names no image")):
        (root / "val.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            build_eval_data(options, batch_size=1, num_workers=0, context=context)
    (root / "val.txt").unlink()
    with pytest.raises(DataError, match=r"^data\.val_list=.*val\.txt' cannot be read: .*No such file"):
        build_eval_data(options, batch_size=1, num_workers=0, context=context)


@pytest.mark.parametrize(
    ("boxes", "skipped"), [(BOXES[1:3], "boxes without area: 1; each is named by .*check"), ((), "nothing")]
)
def test_nothing_to_learn(
    coco: DetectionConfig, context: DistributedContext, boxes: Sequence[Sequence[float]], skipped: str
) -> None:
    """Crowds and boxes without area are no objects; a detector may look at such a split, but not choose by it."""
    write_coco(Path(coco.data.folder), coco_content(boxes), "train2017")
    with pytest.raises(
        DataError, match=rf"_train2017\.json holds no object to learn: 2 images, .*skipped: {skipped}\.$"
    ):
        build_train_data(coco, context)
    swapped = replace(coco.data, train_splits=("val2017",), val_splits=("train2017",))
    with pytest.raises(DataError, match=r"_train2017\.json holds no object to find: 2 images"):
        build_train_data(replace(coco, data=swapped), context)
    assert build_eval_data(swapped, batch_size=1, num_workers=0, context=context).loader.num_images == 2


def test_transforms_are_checked_before_anything_is_read(coco: DetectionConfig, context: DistributedContext) -> None:
    """With the name of the setting, and without a data set."""
    data = replace(coco.data, folder="/nowhere")
    with pytest.raises(DataError, match=r"^data\.train_transforms=\[\] must hold one resize"):
        build_train_data(replace(coco, data=replace(data, train_transforms=())), context)
    random = replace(data, val_transforms=(Call(RandomHorizontalFlip), Call(SquareResize, size=8)))
    message = r"^data\.val_transforms holds RandomHorizontalFlip\(probability=0\.5\), which may draw"
    with pytest.raises(DataError, match=message):
        build_train_data(replace(coco, data=random), context)
    with pytest.raises(DataError, match=message):
        build_eval_data(random, batch_size=1, num_workers=0, context=context)


def test_a_missing_data_set(coco: DetectionConfig, context: DistributedContext) -> None:
    """The file that was looked for."""
    with pytest.raises(DataError, match=r"/nowhere/annotations/instances_train2017\.json"):
        build_train_data(replace(coco, data=replace(coco.data, folder="/nowhere")), context)


# ---- download ----------------------------------------------------------------------------------------------------

Calls = list[tuple[str, Path, tuple[str, ...]]]


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What would have been fetched: format, folder, splits."""
    calls: Calls = []

    def recorder(name: str) -> Callable[[Path, Sequence[str]], None]:
        return lambda folder, splits: calls.append((name, folder, tuple(splits)))

    for name, row in list(FORMATS.items()):
        if row.published is None:
            continue
        published = row.published._replace(download=recorder(name))
        monkeypatch.setitem(FORMATS, name, replace(row, published=published))
    return calls


def test_download_is_asked_for_the_splits(
    coco: DetectionConfig, voc: DetectionConfig, context: DistributedContext, downloads: Calls
) -> None:
    """Only where the config says so: all of the splits for training, those of evaluation for testing."""
    build_train_data(coco, context)
    assert downloads == []
    build_train_data(replace(coco, data=replace(coco.data, download=True)), context)
    build_eval_data(replace(voc.data, download=True), batch_size=1, num_workers=0, context=context)
    assert downloads == [
        ("coco", Path(coco.data.folder), ("train2017", "val2017")),
        ("voc", Path(voc.data.folder), ("Own/val",)),
    ]


def test_the_main_process_alone_downloads(
    coco: DetectionConfig, downloads: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait, before they read."""
    waited: list[int] = []
    monkeypatch.setattr(DistributedContext, "barrier", lambda context: waited.append(context.rank))
    for rank in (1, 0):
        context = DistributedContext(rank=rank, size=2, device=torch.device("cpu"))
        build_train_data(replace(coco, data=replace(coco.data, download=True)), context)
    assert waited == [1, 0]
    assert len(downloads) == 1


# ---- real pictures -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "folder", "splits", "numbers"),
    [
        (CocoData, "coco_mini", ("train2017", "val2017"), (160, 158, 80)),
        (VocData, "bccd/VOCdevkit", ("BCCD/train", "BCCD/val"), (205, 87, 3)),
    ],
)
def test_the_small_real_sets(
    real_data: Path,
    context: DistributedContext,
    kind: type[DetectionData],
    folder: str,
    splits: tuple[str, str],
    numbers: tuple[int, int, int],
) -> None:
    """All images decode at their annotated size, and every box of a canvas lies on its picture."""
    if not (real_data / folder).is_dir():
        pytest.skip(f"no {real_data / folder}")
    names = {"classes": ("RBC", "WBC", "Platelets")} if kind is VocData else {}
    config = config_of(kind, real_data / folder, splits[:1], splits[1:], **names)
    data = build_train_data(replace(config, batch_size=8), context)
    assert (data.annotations.num_images, data.val.num_images, len(data.annotations.class_names)) == numbers
    num_boxes = 0
    for batch in data.val:
        boxes, height_width = batch.boxes[batch.labels != PADDING], batch.content_sizes.flip(1).repeat(1, 2)
        limits = height_width[:, None].expand(batch.boxes.shape)[batch.labels != PADDING]
        assert (boxes >= 0).all()
        assert (boxes <= limits).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        num_boxes += len(boxes)
    assert num_boxes == data.val_annotations.num_boxes
