"""What annotation tools write beside YOLO's labels instead of a data.yaml: is recognized, read and told apart."""

from collections.abc import Callable
from pathlib import Path

import pytest

from public.datasets.batches import DataError
from public.datasets.formats import NoFormatError, recognize, resolved
from public.datasets.scan import clean
from public.datasets.splits import PURPOSES, scan_split
from public.datasets.yolo import YoloData, scan_yolo
from tests.datasets.test_recognition import auto
from tests.datasets.written import write_image, write_yolo

DOG, CAT = "0 0.25 0.25 0.5 0.5\n", "1 0.125 0.1 0.25 0.2\n"


def label_img(root: Path) -> None:
    """Images, labels and classes in one folder."""
    for name, line in (("a", DOG), ("b", CAT), ("c", "")):
        write_image(root / f"{name}.jpg")
        (root / f"{name}.txt").write_text(line)
    (root / "classes.txt").write_text("dog\ncat\n\n")


def label_img_two_folders(root: Path) -> None:
    """Its labels, and so its classes, were saved apart."""
    labels = write_yolo(root, {"a": DOG, "b": CAT, "c": None}, "")
    (labels / "classes.txt").write_text("dog\r\ncat\r\n")


def label_studio(root: Path) -> None:
    """Folders of images and labels, classes and notes."""
    write_yolo(root, {"a": DOG, "b": CAT, "c": ""}, "")
    (root / "classes.txt").write_text("\ufeffdog\ncat")
    (root / "notes.json").write_text('{"categories": [{"id": 0, "name": "dog"}], "info": {"year": 2026}}')


def cvat(root: Path, prefix: str = "data/") -> None:
    """YOLO 1.1, of one subset; its paths begin with a folder that the archive does not have."""
    for name, line in (("a", DOG), ("b", CAT), ("c", "")):
        write_image(root / "obj_train_data" / f"{name}.jpg")
        (root / "obj_train_data" / f"{name}.txt").write_text(line)
    (root / "obj.names").write_text("dog\ncat\n")
    (root / "train.txt").write_text("".join(f"{prefix}obj_train_data/{name}.jpg\n" for name in "abc"))
    (root / "obj.data").write_text(
        f"# of CVAT\nclasses = 2\ntrain = {prefix}train.txt\nnames = {prefix}obj.names\nbackup = backup/\n"
    )


ONE_SPLIT: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "labelImg": (label_img, "classes.txt", "all"),
    "labelImg, two folders": (label_img_two_folders, "labels/classes.txt", "all"),
    "Label Studio": (label_studio, "classes.txt", "all"),
    "CVAT": (cvat, "obj.data", "train"),
    "CVAT, as it documents it": (lambda root: cvat(root, ""), "obj.data", "train"),
}


@pytest.mark.parametrize("tool", ONE_SPLIT)
def test_a_tool_s_export(tmp_path: Path, tool: str) -> None:
    """Without a step between: it is recognized, and divided, since there is nothing to evaluate on."""
    write, file, split = ONE_SPLIT[tool]
    write(tmp_path)
    data = resolved(auto(tmp_path, val_fraction=0.4))
    assert isinstance(data, YoloData)
    assert (data.file, data.train_splits, data.val_splits) == (file, (split,), (split,))
    parts = [[Path(name).stem for name in scan_split(data, purpose).files] for purpose in PURPOSES]
    assert [len(part) for part in parts] == [2, 1]
    found = clean(scan_yolo(tmp_path, [split], file))
    assert (found.class_names, found.labels.tolist(), found.num_images) == (["dog", "cat"], [0, 1], 3)
    assert found.boxes.tolist() == [[0, 0, 20, 15], [0, 0, 10, 6]]  # of 40 x 30 pixels


@pytest.mark.parametrize("folder", ["{}", "images/{}", "{}/images"])
def test_folders_are_the_splits_of_a_list_of_classes(tmp_path: Path, folder: str) -> None:
    """By their names, wherever the images lie in them."""
    for split, line in (("train", DOG), ("valid", CAT)):
        place = tmp_path / folder.format(split)
        write_image(place / "a.jpg")
        labels = Path(str(place).replace("images", "labels"))
        labels.mkdir(parents=True, exist_ok=True)
        (labels / "a.txt").write_text(line)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    data = resolved(auto(tmp_path))
    assert (data.train_splits, data.val_splits) == (("train",), ("valid",))
    assert [scan_split(data, purpose).labels.tolist() for purpose in PURPOSES] == [[0], [1]]


def test_darknet_s_valid(tmp_path: Path) -> None:
    """A list of its own; other keys are no splits."""
    cvat(tmp_path)
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.jpg\n")
    (tmp_path / "valid.txt").write_text("obj_train_data\\b.jpg\n")
    with (tmp_path / "obj.data").open("a") as file:
        file.write("valid=data/valid.txt\neval = coco\n")
    data = resolved(auto(tmp_path))
    assert (data.train_splits, data.val_splits) == (("train",), ("valid",))
    assert [[Path(one).stem for one in scan_split(data, purpose).files] for purpose in PURPOSES] == [["a"], ["b"]]


def test_a_list_of_classes_alone_is_no_data(tmp_path: Path) -> None:
    """As of CUB-200: class folders beside a classes.txt; nor are captions beside images labels."""
    write_image(tmp_path / "images/001.Albatross/a.jpg")
    (tmp_path / "images/001.Albatross/a.txt").write_text("1 0 bird on 1 branch\n")
    (tmp_path / "classes.txt").write_text("1 001.Albatross\n")
    with pytest.raises(NoFormatError):
        recognize(tmp_path)


@pytest.mark.parametrize("write", [label_img, label_studio])
def test_labels_whose_classes_nothing_names(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """What to write, and where."""
    write(tmp_path)
    (tmp_path / "classes.txt").unlink()
    told = rf"holds labels .* such as \S*a\.txt, and nothing .*: write {tmp_path}/classes\.txt, one class a line"
    with pytest.raises(DataError, match=told):
        recognize(tmp_path)


BAD = {
    "an empty list": ("obj.names", "\n", r"obj\.names must hold the classes, .* numbers; it is empty\."),
    "a gap": ("obj.names", "dog\n\ncat\n", r"obj\.names must hold the classes, .*; line 2 is empty\."),
    "another number": ("obj.names", "dog\n", r"obj\.data: classes says '2', and \S*obj\.names has 1\."),
    "no text": ("obj.names", b"\xff\xfe\x00", r"obj\.names cannot be read as text: "),
    "no names": ("obj.data", "train = train.txt\n", r"obj\.data: names must be .*; it has no line names = obj\.names"),
    "names of nowhere": ("obj.data", "names = gone.names\n", r"names must be a file .* there is no \S*/gone\.names\."),
    "no split": ("obj.data", "names = obj.names\n", r"obj\.data has no split 'train'; it has none\."),
    "a list of nowhere": ("obj.data", "names=obj.names\ntrain=gone.txt\n", r"train names 'gone\.txt', and there is no"),
}


@pytest.mark.parametrize("flaw", BAD)
def test_flaws_are_named(tmp_path: Path, flaw: str) -> None:
    """In one sentence, with the file."""
    file, content, told = BAD[flaw]
    cvat(tmp_path)
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=told):
        scan_yolo(tmp_path, ["train"], "obj.data")
