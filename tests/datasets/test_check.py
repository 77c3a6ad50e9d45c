"""The check of a data set: every kind of problem by its file, counts, exit codes, and agreement with training."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from public.config.detection import DetectionConfig
from public.config.experiment import load_configs
from public.datasets import check as checks
from public.datasets.batches import DataError
from public.datasets.check import check, main
from public.datasets.coco import CocoData
from public.datasets.detection import build_train_data
from public.datasets.image_folder import ImageList
from public.datasets.scan import TREATMENT, Kind
from public.runtime.distributed import DistributedContext
from tests.datasets.test_detection import config_of
from tests.datasets.written import coco_content, voc_object, write_coco, write_image, write_voc, write_yolo

# Whether a machine has as many processors as workers is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are read in this process, and the page, whose tests are elsewhere, is not drawn."""
    monkeypatch.setattr(checks, "num_cores", lambda: 0)
    monkeypatch.setattr(checks, "statistics_page", lambda title, reports: f"{title}: {len(reports)} reports")


DETECTION_CONFIG = """
from public.config.calls import SIZE, Call
from public.config.detection import DetectionConfig
from public.config.options import DetectorOptions
from public.config.run import RuntimeConfig
from public.datasets.formats import FORMATS
from public.optim.options import ConstantOptions, SGDOptions
from public.transforms.detection import SquareResize

resize = (Call(SquareResize, size=SIZE),)
row = DetectionConfig(
    name="row",
    epochs=1,
    batch_size=1,
    best_metric={metric!r},
    detector=DetectorOptions(backbone="resnet18"),
    data=FORMATS[{dataset!r}].options(
        folder={folder!r},
        input_size=32,
        train_splits=({train!r},),
        val_splits=({val!r},),
        train_transforms=resize,
        val_transforms=resize,
    ),
    optimizer=SGDOptions(lr=0.1, weight_decay=0.0),
    schedule=ConstantOptions(),
    runtime=RuntimeConfig(num_workers=0),
)
CONFIGS = {{"row": row}}
"""

CLASSIFICATION_CONFIG = """
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.image_formats import IMAGE_FORMATS
from public.optim.options import ConstantOptions, SGDOptions

row = ClassificationConfig(
    name="row",
    network="resnet18cifar",
    epochs=1,
    batch_size=4,
    data=IMAGE_FORMATS[{dataset!r}].options(folder={folder!r}, input_size=32, train_transforms=()),
    optimizer=SGDOptions(lr=0.1, weight_decay=0.0),
    schedule=ConstantOptions(),
    runtime=RuntimeConfig(num_workers=0),
)
CONFIGS = {{"row": row}}
"""


def experiment(path: Path, text: str, **fields: str) -> Path:
    """An experiment folder with one row."""
    path.mkdir(exist_ok=True)
    (path / "config.py").write_text(text.format(**fields))
    return path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """An experiment on a sound data set in COCO's format: each class in both images, in both splits."""
    boxes = [(7, 3, 1, 1, 5, 5), (7, 90, 2, 2, 5, 5), (2, 3, 1, 1, 5, 5), (2, 90, 2, 2, 5, 5)]
    for split in ("train2017", "val2017"):
        write_coco(tmp_path / "data", coco_content(boxes), split)
    fields = {"dataset": "coco", "metric": "AP", "train": "train2017", "val": "val2017"}
    return experiment(tmp_path / "experiment", DETECTION_CONFIG, folder=str(tmp_path / "data"), **fields)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """The same in VOC's format: images x, y for training, z for validation."""
    root = tmp_path / "data"
    both = voc_object("dog", 1, 1, 9, 9) + voc_object("cat", 2, 2, 9, 9)
    write_voc(root, {"x": both, "y": both}, "Own/train")
    write_voc(root, {"z": both}, "Own/val")
    (root / "classes.txt").write_text("dog\ncat\n")
    fields = {"dataset": "voc", "metric": "mAP50", "train": "Own/train", "val": "Own/val"}
    return experiment(tmp_path / "experiment", DETECTION_CONFIG, folder=str(root), **fields)


def cut_short(path: Path) -> None:
    """All but the last tenth of the file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])


def change_annotation(root: Path, **fields: object) -> None:
    """Changes the first annotation of the training split."""
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= fields
    path.write_text(json.dumps(content))


def rename_class(root: Path, name: str = "fox", old: str = "dog") -> None:
    """Renames a class of the validation split."""
    path = root / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace(f'"{old}"', f'"{name}"'))


def turn_classes(root: Path) -> None:
    """The validation split has its two names the other way round."""
    for names in (("x", "dog"), ("dog", "cat"), ("cat", "x")):
        rename_class(root, *names)


def forget_sizes(root: Path) -> None:
    """The training split without width and height."""
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"] = [{key: image[key] for key in ("id", "file_name")} for image in content["images"]]
    path.write_text(json.dumps(content))


def repeat_annotation(root: Path) -> None:
    """Writes the first annotation of the training split twice."""
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"].append(content["annotations"][0])
    path.write_text(json.dumps(content))


def photograph(root: Path) -> None:
    """Stores the 40 x 30 image lying on its side, which its EXIF orientation puts right."""
    path = root / "images/train2017/a.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[274] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def turn_as_stored(root: Path, **orientations: int) -> None:
    """Gives training images an EXIF orientation, and leaves pixels and annotations as they are."""
    for name, orientation in orientations.items():
        path = root / f"images/train2017/{name}.jpg"
        with Image.open(path) as image:
            exif = image.getexif()
            exif[274] = orientation
            image.copy().save(path, exif=exif)


COCO_CHANGES: dict[str, tuple[Callable[[Path], object], Kind | None]] = {
    "nothing": (lambda root: None, None),
    "EXIF orientation": (photograph, None),
    "a half turn": (lambda root: turn_as_stored(root, a=3), None),
    "quarter turns as stored": (lambda root: turn_as_stored(root, a=6, b=8), None),
    "a half turn where a quarter is as stored": (lambda root: turn_as_stored(root, a=6, b=3), Kind.UNCLEAR_WAY),
    "no annotations": (lambda root: (root / "annotations/instances_train2017.json").unlink(), Kind.UNUSABLE_SPLIT),
    "cut annotations": (lambda root: cut_short(root / "annotations/instances_val2017.json"), Kind.UNUSABLE_SPLIT),
    "no box": (lambda root: change_annotation(root, bbox=None), Kind.NO_BOX),
    "a box of a text": (lambda root: change_annotation(root, bbox="1, 1, 2, 2"), Kind.UNREADABLE_ANNOTATION),
    "no area of an outline": (lambda root: change_annotation(root, area=-3), Kind.BAD_AREA),
    "no sizes": (forget_sizes, Kind.NO_SIZE),
    "classes in another order": (turn_classes, None),
    "two classes of one name": (lambda root: rename_class(root, "cat"), Kind.BAD_NAME),
    "a huge number": (lambda root: change_annotation(root, bbox=[1, 1, 10**400, 5]), Kind.UNREADABLE_ANNOTATION),
    "unknown image": (lambda root: change_annotation(root, image_id=1), Kind.UNKNOWN_IMAGE),
    "unknown class": (lambda root: change_annotation(root, category_id=1), Kind.UNKNOWN_CLASS),
    "another class": (rename_class, Kind.OTHER_CLASS),
    "other classes": (lambda root: (rename_class(root), rename_class(root, "cow", "cat")), Kind.DIFFERENT_CLASSES),
    "missing image": (lambda root: (root / "images/val2017/a.jpg").unlink(), Kind.MISSING_IMAGE),
    "cut image": (lambda root: cut_short(root / "images/train2017/a.jpg"), Kind.TRUNCATED_IMAGE),
    "cut in validation": (lambda root: cut_short(root / "images/val2017/b.jpg"), Kind.TRUNCATED_IMAGE),
    "empty image": (lambda root: (root / "images/train2017/a.jpg").write_bytes(b""), Kind.UNREADABLE_IMAGE),
    "no image": (lambda root: (root / "images/train2017/a.jpg").write_text("404"), Kind.UNREADABLE_IMAGE),
    "other size": (lambda root: write_image(root / "images/train2017/a.jpg", 40, 31), Kind.WRONG_SIZE),
    "no area": (lambda root: change_annotation(root, bbox=[1, 1, 0, 5]), Kind.NO_AREA),
    "outside": (lambda root: change_annotation(root, bbox=[41, 1, 2, 5]), Kind.OUTSIDE),
    "partly outside": (lambda root: change_annotation(root, bbox=[38, 1, 3, 5]), Kind.PARTLY_OUTSIDE),
    "by rounding": (lambda root: change_annotation(root, bbox=[38, 1, 2.4, 5]), None),
    "duplicate": (repeat_annotation, Kind.DUPLICATE),
    "nothing to learn": (
        lambda root: write_coco(root, coco_content([(7, 3, 1, 1, 5, 5, 1)]), "train2017"),
        Kind.TOO_LITTLE,
    ),
}


def train_an_epoch(config: DetectionConfig, context: DistributedContext) -> None:
    """Reads every batch of an epoch and of an evaluation."""
    data = build_train_data(config, context)
    assert len(list(data.train.epoch(0))) == data.annotations.num_images
    list(data.val)


@pytest.mark.slow
@pytest.mark.parametrize("change", COCO_CHANGES)
def test_each_kind_is_found_and_training_agrees(
    coco: Path, tmp_path: Path, context: DistributedContext, change: str
) -> None:
    """The kind that is expected and, apart from classes that then are not seen, no other; training refuses exactly
    what the check calls an error."""
    spoil, kind = COCO_CHANGES[change]
    spoil(tmp_path / "data")
    config = load_configs(coco)["row"]
    found = {problem.kind for report in check(config) for problem in report.problems} - {Kind.UNSEEN_CLASS}
    if kind is Kind.DIFFERENT_CLASSES:
        found -= {Kind.OTHER_CLASS}
    assert found == ({kind} if kind else set())
    code = main([str(coco)])
    assert code == int(kind is not None and kind not in TREATMENT)
    if code:
        with pytest.raises(DataError):
            train_an_epoch(config, context)
    else:
        train_an_epoch(config, context)


def test_all_problems_of_a_split_at_once(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nine problems of training and one of validation: each on a line under its split, those of a file together."""
    root = tmp_path / "data"
    objects = [
        voc_object("dgo", 1, 1, 9, 9),
        voc_object("dog", 5, 5, 5, 5),
        voc_object("dog", 50, 1, 60, 9),
        voc_object("dog", 30, 1, 60, 9),
        voc_object("dog", 1, 1, 9, 9),
        voc_object("dog", 1, 1, 9, 9),
        "<object><name>dog</name></object>",
    ]
    write_voc(root, {"x": "".join(objects), "y": "", "w": ""})
    (root / "Own/JPEGImages/w.jpg").unlink()
    cut_short(root / "Own/JPEGImages/z.jpg")
    cut_short(root / "Own/Annotations/y.xml")
    assert main([str(voc)]) == 1
    train, val = capsys.readouterr().out.split(f"{root} Own/val: ")
    x, y = root / "Own/Annotations/x.xml", root / "Own/Annotations/y.xml"
    box = f"  warning: {x}: the box (xmin, ymin, xmax, ymax) ="
    lines = train.splitlines()
    assert lines[0] == f"{root} Own/train: 3 images, 5 boxes (0 of them ignored), 2 classes (dog, cat)"
    assert lines[1].startswith(f"  warning: {root}: no usable box of 1 of 2 classes in this split: cat")
    assert lines[2].startswith(f"  error: {x}: object 1 is of class 'dgo', which is not among the 2 classes")
    assert lines[3].startswith(f"  error: {x}: object 7 (dog) has no <bndbox>")
    assert lines[4:8] == [
        f"{box} (5, 5, 5, 5) of class 'dog' has no area",
        f"{box} (50, 1, 60, 9) of class 'dog' lies outside the image of 40 x 30 pixels",
        f"{box} (30, 1, 60, 9) of class 'dog' reaches out of the image of 40 x 30 pixels",
        f"{box} (1, 1, 9, 9) of class 'dog' is there more than once",
    ]
    assert lines[8].startswith(f"  error: {y}: it is not XML, or was cut short")
    assert lines[9].startswith(f"  error: {root}/Own/JPEGImages/w.jpg: the file is missing")
    assert len(lines) == 10
    lines = val.splitlines()
    assert lines[0] == "1 images, 2 boxes (0 of them ignored), 2 classes (dog, cat)"
    cut = "a JPEG file of 40 x 30 pixels that is cut short or damaged"
    assert lines[1] == f"  error: {root}/Own/JPEGImages/z.jpg: {cut}"
    assert "       2 x unreadable annotation: training refuses" in lines
    assert "       1 x boxes without area: training skips them" in lines
    assert "       1 x boxes partly outside the image: training clips them" in lines
    assert lines[-1] == "problems: 10"


def test_a_sound_data_set(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its folder or its config.py, with a row's name and a setting; both splits and nothing else."""
    assert main([str(coco / "config.py"), "row", "--runtime.log-every", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines[:2]] == [
        "2 images, 4 boxes (0 of them ignored), 2 classes (dog, cat)"
    ] * 2
    page = coco / "runs" / "check" / "row.html"
    assert lines[2:] == [f"statistics: {page}", "nothing is wrong"]
    assert page.read_text() == f"{coco.parent / 'data'}: 2 reports"


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process and in two others."""
    cut_short(tmp_path / "data/images/train2017/a.jpg")
    write_image(tmp_path / "data/images/train2017/b.jpg", 10, 20)
    outputs = []
    for num_workers in ("0", "2"):
        assert main([str(coco), "--runtime.num-workers", num_workers]) == 1
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "it is 10 x 20 pixels, and its annotation says 20 x 10" in outputs[0]


def test_a_process_whose_threads_of_opencv_run(coco: Path) -> None:
    """Such as the page's: they are ended before the fork, which has none of them, and often waited without end."""
    cv2.setNumThreads(4)
    cv2.cvtColor(np.zeros((2000, 2000, 3), np.uint8), cv2.COLOR_BGR2HSV)
    assert main([str(coco), "--runtime.num-workers", "2"]) == 0
    assert cv2.getNumThreads() == 1


def test_settings_that_the_data_contradicts(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another number of classes, and a batch that two images do not fill."""
    assert main([str(coco), "--num-classes", "80", "--batch-size", "3"]) == 1
    printed = capsys.readouterr().out
    assert "2 classes (dog, cat), and the config states num_classes=80" in printed
    assert "holds 2 training images, fewer than one global batch (batch_size=3)" in printed


@pytest.mark.slow
def test_an_image_folder(image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file cut short and one that is none; then a class that is only in one split."""
    folder = experiment(tmp_path / "experiment", CLASSIFICATION_CONFIG, dataset="imagenet", folder=str(image_folder))
    assert main([str(folder)]) == 0
    assert f"{image_folder}/train: 11 images, 2 classes (bird, cat)\n" in capsys.readouterr().out
    cut_short(image_folder / "train/cat/3.png")
    (image_folder / "val/bird/1.png").write_text("404")
    for decoder in ("opencv", "pil"):
        assert main([str(folder), "--data.decoder", decoder]) == 1
        printed = capsys.readouterr().out
        assert f"error: {image_folder}/train/cat/3.png: a PNG file of 12 x 10 pixels that is cut short" in printed
        assert f"error: {image_folder}/val/bird/1.png: " in printed
        assert printed.endswith("problems: 2\n")
    (image_folder / "val/cat").rename(image_folder / "val/lynx")
    assert main([str(folder)]) == 1
    assert "only here ['lynx'], only there ['cat']" in capsys.readouterr().out


def test_file_names_that_are_no_text(image_folder: Path, tmp_path: Path) -> None:
    """Bytes of another encoding, as old archives hold: shown by their numbers, in the list and on the page."""
    folder = experiment(tmp_path / "experiment", CLASSIFICATION_CONFIG, dataset="imagenet", folder=str(image_folder))
    cut = os.path.join(os.fsencode(image_folder), b"train", b"cat", b"\xe9.png")
    os.rename(image_folder / "train/cat/3.png", cut)
    Path(os.fsdecode(cut)).write_bytes(b"404")
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(printed):
        assert main([str(folder)]) == 1
    printed.seek(0)
    assert f"error: {image_folder}/train/cat/\\udce9.png: " in printed.read()


def test_class_names_that_are_no_text(tmp_path: Path) -> None:
    """Refused, and the page gets what can be written: matplotlib and OpenCV end on halves of letters."""
    content = coco_content([(7, 3, 0, 0, 20, 15)])
    content["categories"] = [{"id": 3, "name": "do\udcffg"}, {"id": 90, "name": "cat"}]
    for split in ("train", "val"):
        write_coco(tmp_path, content, split)
    reports = list(check(config_of(CocoData, tmp_path, ["train"], ["val"])))
    assert Kind.BAD_NAME in {problem.kind for problem in reports[0].problems}
    assert [report.facts.class_names for report in reports[:2] if report.facts] == [["do\\udcffg", "cat"]] * 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the patch reaches the reader by a fork")
def test_a_reader_that_is_ended(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By lack of memory, or a damaged page of a packed file: one sentence, and exit code 1."""
    folder = experiment(tmp_path / "experiment", CLASSIFICATION_CONFIG, dataset="imagenet", folder=str(image_folder))
    monkeypatch.setattr(checks, "num_cores", lambda: 1)
    monkeypatch.setattr(ImageList, "read", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert main([str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {image_folder}/train: a process that reads images was ended (")
    assert error.count("\n") == 1
    assert "pack FOLDER --check" in error


def test_what_a_folder_of_classes_holds_beside_images(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hidden files, images of kinds that are not read, and a class that val lacks: named, and training goes on."""
    experiment_folder = experiment(
        tmp_path / "experiment", CLASSIFICATION_CONFIG, dataset="imagenet", folder=str(image_folder)
    )
    (image_folder / "train/cat/._0.png").touch()
    (image_folder / "train/cat/photo.heic").touch()
    shutil.rmtree(image_folder / "val/bird")
    assert main([str(experiment_folder)]) == 0
    out = capsys.readouterr().out
    assert f"warning: {image_folder}/train/cat/._0.png: it is hidden, and passed over" in out
    assert f"warning: {image_folder}/train/cat/photo.heic: it is an image of a kind that is not read" in out
    assert f"warning: {image_folder}/val: no image of 1 of 2 classes in this split: bird" in out
    assert "problems: 3" in out


def test_missing_folders_of_classification(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What training would say, for each split of a folder of images and once for CIFAR-100."""
    for dataset, count in (("imagenet", 2), ("cifar100", 1)):
        folder = experiment(tmp_path / dataset, CLASSIFICATION_CONFIG, dataset=dataset, folder=str(tmp_path / "no"))
        assert main([str(folder)]) == 1
        printed = capsys.readouterr().out
        assert printed.count("say where it is (--data.folder)") == count
        assert f"{count} x unusable split: training refuses" in printed


@pytest.mark.slow
def test_real_data(real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """COCO's excerpt is sound; the blood cells have one point in train and one in val, which training leaves out."""
    fields = {"dataset": "voc", "metric": "mAP50", "folder": str(real_data / "bccd/VOCdevkit")}
    folder = experiment(tmp_path / "bccd", DETECTION_CONFIG, train="BCCD/train", val="BCCD/val", **fields)
    assert main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "BloodImage_00338.xml: the box (xmin, ymin, xmax, ymax) = (504, 337, 504, 337) of class 'RBC'" in printed
    assert "BloodImage_00343.xml: the box (xmin, ymin, xmax, ymax) = (181, 329, 181, 329) of class 'RBC'" in printed
    assert "2 x boxes without area: training skips them\n" in printed
    assert "JPEGImages: 72 files look like images and are in no split that is read: BloodImage_00007.jpg, " in printed
    assert printed.endswith("problems: 3\n")
    fields = {"dataset": "coco", "metric": "AP", "folder": str(real_data / "coco_mini")}
    folder = experiment(tmp_path / "coco", DETECTION_CONFIG, train="train2017", val="val2017", **fields)
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out.endswith("11 x class far out of balance: training continues\nproblems: 11\n")


def test_what_all_splits_show(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A validation image that is trained on and a photo that nobody lists: warnings, after those of the splits. That
    the usual page cannot be written is one, too."""
    images = tmp_path / "data" / "images"
    (images / "val2017" / "b.jpg").write_bytes((images / "train2017" / "b.jpg").read_bytes())
    write_image(images / "train2017" / "c.jpg")
    (coco / "runs").touch()
    assert main([str(coco)]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[2:5] == [
        f"{tmp_path}/data, all splits: 4 images",
        f"  warning: {images}/train2017: 1 files look like images and are in no split that is read: c.jpg",
        f"  warning: {images}/val2017/b.jpg: the same image is {images}/train2017/b.jpg, of train2017",
    ]
    assert "1 x validation image that is trained on: training continues" in printed.out
    page = coco / "runs" / "check" / "row.html"
    assert printed.err == f"warning: the page of statistics {page} could not be written: Not a directory\n"
    assert main([str(coco), "--page", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == f"{tmp_path}/data: 3 reports"


WRONG_COMMANDS = {
    "no folder": (["nowhere"], r"nowhere is not an experiment folder: it has no config\.py"),
    "no file": (["nowhere.py"], r"there is no .*nowhere\.py"),
    "an option first": (["--epochs", "1"], r"give an experiment's folder or its config\.py first, or --data\.folder"),
    "an unknown row": (["EXPERIMENT", "rwo"], r"this experiment has no row 'rwo'; the nearest: row"),
    "a folder as page": (["EXPERIMENT", "--page", "/"], r"--page / is a folder; expected a file to write, such as /ch"),
    "a page below a file": (
        ["EXPERIMENT", "--page", f"{__file__}/page.html"],
        r"--page .*/page\.html cannot be written: folder='.*test_check\.py' is not a folder that can be written to: Fi",
    ),
    "fresh": (["EXPERIMENT", "--fresh"], r"--fresh has no effect on a check of the data"),
}


@pytest.mark.parametrize("kind", WRONG_COMMANDS)
def test_a_wrong_command_line(coco: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one message."""
    args, message = WRONG_COMMANDS[kind]
    with pytest.raises(SystemExit) as stop:
        main([str(coco) if arg == "EXPERIMENT" else arg for arg in args])
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help explains; so does no argument, which is a mistake."""
    assert (main(["--help"]), main([])) == (0, 2)
    assert capsys.readouterr().out.count("python -m public.datasets.check <experiment>") == 2


def test_a_config_without_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A config.py of something else."""
    (tmp_path / "config.py").write_text("ROWS = {}\n")
    with pytest.raises(SystemExit):
        load_configs(tmp_path)
    assert "config.py is not the config of an experiment: it does not define CONFIGS" in capsys.readouterr().err


def test_a_folder_alone(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recognized, typed as it is seen from here; the page lies here too. Settings of the data may follow."""
    assert coco.is_dir()
    monkeypatch.chdir(tmp_path)
    assert main(["--data.folder", "data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == [
        f"{tmp_path}/data {split}" for split in ("train2017", "val2017")
    ]
    assert lines[2:] == ["statistics: check_data.html", "nothing is wrong"]
    assert (tmp_path / "check_data.html").read_text() == f"{tmp_path}/data: 2 reports"
    assert main(["--data.classes", "dog", "--data.folder=data", "--page", "page.html"]) == 0
    assert "1 classes (dog)" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["train", "."])
def test_a_folder_of_classes_alone(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    """With train/ and val/, or divided: 6 birds and 5 cats, of which 1 and 1 are validation images."""
    monkeypatch.chdir(tmp_path)
    assert main(["--data.folder", str(image_folder / split)]) == 0
    counts = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()[:2]]
    expected = (9, 2) if split == "train" else (11, 7)
    assert counts == [f"{count} images, 2 classes (bird, cat)" for count in expected]


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", r"error: there is no folder .*nowhere.*DATA_ROOT=data/sample\.\n$"),
        ("two", r"error: .*two holds data in more than one format, .*: choose by --data\.dataset\.\n$"),
        ("empty", r"is in none of the formats coco, .* for each class\."),
    ],
)
def test_a_folder_that_is_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: str, message: str
) -> None:
    """Exit code 2 and one sentence; images in folders are no classes where the folder is in two formats."""
    (tmp_path / "empty").mkdir()
    write_voc(tmp_path / "two", {"a": voc_object("dog", 1, 1, 20, 15)}, "train/list")
    write_yolo(tmp_path / "two", {"a": "0 0.25 0.25 0.5 0.5\n"}, "train")
    (tmp_path / "two" / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [dog]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["--data.folder", folder])
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)
