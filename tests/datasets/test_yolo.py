"""YOLO's format: shares to pixels, polygons, numbers of classes, every way to name images; a sentence for bad ones."""

from pathlib import Path

import numpy as np
import pytest

from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.predictions import Predictions
from public.datasets.scan import Kind, clean, num_usable
from public.datasets.yolo import YOLO, YoloData, scan_yolo, write_yolo_files
from tests.datasets.written import write_image, write_yolo

NAMES = "names: [cat, dog]\n"
USUAL = f"train: images/train\nval: images/val\n{NAMES}"


def read(root: Path, data: str = USUAL, split: str = "train") -> DetectionAnnotations:
    """Writes data.yaml and reads a split."""
    (root / "data.yaml").write_text(data)
    return clean(scan_yolo(root, [split], "data.yaml"))


def test_shares_become_pixels(tmp_path: Path) -> None:
    """Of an image of 40 x 30: a box, one with a confidence, a triangle; empty and absent files are no objects."""
    lines = "1 0.5 0.5 0.25 0.4\n\n0 0.25 0.5 0.5 1 0.9\n1 0.1 0.2 0.5 0.2 0.3 0.8\n"
    write_yolo(tmp_path, {"a": lines, "b": "", "c": None})
    found = read(tmp_path)
    np.testing.assert_allclose(found.boxes, [[15, 9, 25, 21], [0, 0, 20, 30], [4, 6, 20, 24]], rtol=0, atol=1e-5)
    assert (found.labels.tolist(), found.offsets.tolist()) == ([1, 0, 1], [0, 3, 3, 3])
    assert found.files.tolist() == [f"images/train/{name}.jpg".encode() for name in "abc"]
    assert (found.sizes.tolist(), found.ignored.any()) == ([[30, 40]] * 3, np.False_)
    assert (found.class_names, found.category_ids) == (["cat", "dog"], [0, 1])
    assert found.filled == {"images without an annotation file": 1}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: {1: cat, 2: dog}", (["cat", "dog"], [1, 2], [0])),
        ("names:\n  2: dog\n  1: cat", (["cat", "dog"], [1, 2], [0])),
        ("names: [yes, no]", (["yes", "no"], [0, 1], [1])),
        ("names: [7, 1.0, ~]\nnc: 3", (["7", "1.0", "~"], [0, 1, 2], [1])),
        ("nc: 2", (["0", "1"], [0, 1], [1])),
    ],
)
def test_classes_by_their_numbers(tmp_path: Path, names: str, expected: tuple[list[str], list[int], list[int]]) -> None:
    """A list counts from 0, a map as its keys say; every name is a text; without names there are numbers."""
    write_yolo(tmp_path, {"a": "1 0.5 0.5 0.2 0.2\n"})
    found = read(tmp_path, f"train: images/train\n{names}\n")
    assert (found.class_names, found.category_ids, found.labels.tolist()) == expected


PLACES = {
    "a folder": "train: images/train",
    "a folder in a list": "train: [images/train/b, images/train/a.jpg]",
    "below path": "path: images\ntrain: train",
    "a path that is not there": "path: /content/datasets\ntrain: images/train",
    "Roboflow's": "train: ../images/train",
    "as Windows writes it": "train: ..\\images\\train",
    "a list of images": "train: lists/train.txt",
    "lists in a list": "train:\n- lists/a.txt\n- lists/b.txt",
}


@pytest.mark.parametrize("place", PLACES)
def test_where_images_are(tmp_path: Path, place: str) -> None:
    """Folders with all below them, images, lists of images, lists of these; what is hidden is passed over."""
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.2\n"})
    write_yolo(tmp_path, {"c": "1 0.5 0.5 0.2 0.2\n"}, "train/b")
    write_image(tmp_path / "images/train/.cache/x.jpg")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("../images/train/a.jpg\n\nimages/train/b/c.jpg\r\n")
    (lists / "a.txt").write_text(f"{tmp_path}/images/train/a.jpg\n")
    (lists / "b.txt").write_text("./images/train/b/c.jpg\n")
    found = read(tmp_path, f"{PLACES[place]}\n{NAMES}")
    assert sorted(found.files.tolist()) == [b"images/train/a.jpg", b"images/train/b/c.jpg"]
    assert sorted(found.labels.tolist()) == [0, 1]
    assert found.skipped in ({}, {"hidden files": 1})
    options = {"train_splits": ("train",), "val_splits": ("train",), "train_transforms": ()}
    data = YoloData(folder=str(tmp_path), input_size=40, **options)  # pyright: ignore[reportArgumentType]
    assert YOLO.images(tmp_path, data) == [tmp_path / "images/train/a.jpg", tmp_path / "images/train/b/c.jpg"]


@pytest.mark.parametrize(("shape", "keypoints"), [("[1, 2]", ".9 .9"), ("[2, 3]", ".9 .9 2 0 0 0")])
def test_keypoints_behind_a_box_are_no_polygon(tmp_path: Path, shape: str, keypoints: str) -> None:
    """The box alone is read, also of a line without them; other numbers of them are refused."""
    path = write_yolo(tmp_path, {"a": f"1 0.5 0.5 0.25 0.4 {keypoints}\n0 0.25 0.5 0.5 1\n"}) / "a.txt"
    found = read(tmp_path, f"kpt_shape: {shape}\nflip_idx: [0]\n{USUAL}")
    np.testing.assert_allclose(found.boxes, [[15, 9, 25, 21], [0, 0, 20, 30]], rtol=0, atol=1e-5)
    path.write_text(f"1 0.5 0.5 0.25 0.4 {keypoints} .1 .2\n")
    with pytest.raises(DataError, match=r"line 1 holds \d+ numbers, expected a class, .* of keypoints \(kpt"):
        read(tmp_path, f"kpt_shape: {shape}\n{USUAL}")


def test_labels_beside_the_images(tmp_path: Path) -> None:
    """Without a folder called images, or without a file in its labels."""
    for folder in ("photos", "images"):
        write_image(tmp_path / folder / "x.jpg")
        (tmp_path / folder / "x.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        assert read(tmp_path, f"train: {folder}\n{NAMES}").num_boxes == 1


BAD_LINES = {
    "words": ("0 a b c d", Kind.UNREADABLE_ANNOTATION, r"line 2 holds '0 a b c d', expected numbers"),
    "too few": ("0 0.5 0.5 0.2", Kind.UNREADABLE_ANNOTATION, r"line 2 holds 4 numbers, expected a class, then 4"),
    "half a corner": (
        "0 .1 .1 .2 .2 .3 .3 .4",
        Kind.UNREADABLE_ANNOTATION,
        r"line 2 holds 8 numbers, expected a class",
    ),
    "no such class": (
        "2 0.5 0.5 0.2 0.2",
        Kind.UNKNOWN_CLASS,
        r"line 2 is of class 2, which names does not have \(0 to 1\)",
    ),
    "half a class": ("0.5 0.5 0.5 0.2 0.2", Kind.UNKNOWN_CLASS, r"line 2 is of class 0\.5, which names does not have"),
    "no class": ("nan 0.5 0.5 0.2 0.2", Kind.UNKNOWN_CLASS, r"line 2 is of class nan"),
    "endless": ("inf 0.5 0.5 0.2 0.2", Kind.UNKNOWN_CLASS, r"line 2 is of class inf"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_one_sentence(tmp_path: Path, kind: str) -> None:
    """With the file and the line; the sound ones beside it are read."""
    line, problem, message = BAD_LINES[kind]
    path = write_yolo(tmp_path, {"a": f"0 0.5 0.5 0.2 0.2\n{line}\n"}) / "a.txt"
    with pytest.raises(DataError, match=rf"^{path}: {message}"):
        read(tmp_path)
    raw = scan_yolo(tmp_path, ["train"], "data.yaml")
    assert ([one.kind for one in raw.problems], len(raw.boxes)) == ([problem], 1)


def test_a_class_between_the_numbers(tmp_path: Path) -> None:
    """Numbers with gaps are all named: the first and the last would hold the one that is not there."""
    write_yolo(tmp_path, {"x": "1 0.5 0.5 0.2 0.2\n"})
    with pytest.raises(DataError, match=r"is of class 1, which names does not have \(0, 2\)"):
        read(tmp_path, "train: images/train\nnames: {0: cat, 2: dog}\n")


def test_boxes_that_are_none(tmp_path: Path) -> None:
    """NaN, endless and negative sides, and beside the image: skipped, as in every format."""
    lines = ["0 nan 0.5 0.2 0.2", "0 0.5 0.5 inf 0.2", "0 0.5 0.5 -0.1 0.2", "0 2 0.5 0.1 0.2", "0 0.9 0.5 0.4 0.2"]
    write_yolo(tmp_path, {"a": "\n".join(lines)})
    found = read(tmp_path)
    np.testing.assert_allclose(found.boxes, [[28, 12, 40, 18]], atol=1e-5)
    assert found.skipped == {"boxes without area": 3, "boxes outside the image": 1}


BAD_FILES = {
    "no YAML": ("train: [", r"data\.yaml cannot be read as YAML: while parsing"),
    "a text": ("train", r"data\.yaml must hold the keys train, val and names; it holds a str"),
    "empty": ("", r"data\.yaml must hold the keys train, val and names; it holds a NoneType"),
    "no names": ("train: images/train", r"names must be a list of the classes, or a map"),
    "names of lists": ("train: images/train\nnames: [[a]]", r"names must be a list of the classes, or a map"),
    "keys of words": ("train: images/train\nnames: {a: cat}", r"the keys of names must be the numbers of the classes"),
    "a key twice": ("train: images/train\nnames: {0: cat, 0: dog, 1: e}", r"0 stands there twice as a key, in line 2"),
    "a number twice": ("train: images/train\nnames: {0: cat, 1: dog, 01: e}", r"names has 3 classes, and 2 numbers"),
    "another number": (f"train: images/train\nnc: 3\n{NAMES}", r"nc says '3' classes, and names has 2"),
    "a name twice": ("train: images/train\nnames: [cat, cat]", r"more than one class is called 'cat'"),
    "NUL in a name": (
        'train: images/train\nnames: [cat, "d\\0g"]',
        r"the class name 'd.x00g' is empty or holds control",
    ),
    "no split": (f"val: images/train\n{NAMES}", r"has no split 'train'; it has val"),
    "nothing there": (
        f"train: photos\n{NAMES}",
        r"train names 'photos', and there is no .*/photos\. Put it there, or say",
    ),
    "no images": (f"train: labels\n{NAMES}", r"train names no image \(\.jpg"),
    "a list of no text": (f"train: list.bin\n{NAMES}", r"list\.bin cannot be read as a list of images"),
    "twice": (
        f"train: [images/train, images/train/a.jpg]\n{NAMES}",
        r"a\.jpg is named a second time, expected each once",
    ),
    "gone": (f"train: list.txt\n{NAMES}", r"gone\.jpg: the file is missing, and .*data\.yaml leads to it"),
    "one number": (f"kpt_shape: [17]\ntrain: images/train\n{NAMES}", r"kpt_shape must be two whole numbers, .*17'\]"),
    "no kpt_shape": (f"kpt_shape: 17\ntrain: images/train\n{NAMES}", r"kpt_shape must be two whole numbers, .* '17'"),
    "a path of lists": (f"path: [a]\ntrain: images/train\n{NAMES}", r"path must be a folder, got \['a'\]"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_data_file_is_one_sentence(tmp_path: Path, kind: str) -> None:
    """What was found and what was expected."""
    text, message = BAD_FILES[kind]
    write_yolo(tmp_path, {"a": ""})
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "list.txt").write_text("images/train/gone.jpg\n")
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(
        DataError, match=r"data\.yaml is missing; it must name splits and classes\. Put it there, or say"
    ):
        scan_yolo(tmp_path, ["train"], "data.yaml")


def test_labels_in_pixels(tmp_path: Path) -> None:
    """Every box of a split: the flaw is named."""
    write_yolo(tmp_path, {"a": "0 20 15 10 10\n", "b": "1 9 9 3 3\n"})
    with pytest.raises(
        DataError, match=r"all 2 boxes are in pixels; expected are shares of the image's width and height"
    ):
        read(tmp_path)


def test_a_damaged_image_and_labels_of_no_text(tmp_path: Path) -> None:
    """Each is named with its file."""
    labels = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.2\n", "b": ""})
    (labels / "b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "images/train/a.jpg").write_text("404")
    (tmp_path / "data.yaml").write_text(USUAL)
    raw = scan_yolo(tmp_path, ["train"], "data.yaml")
    kinds = [(one.kind, Path(one.path).name) for one in raw.problems]
    assert num_usable(raw) == 1  # its box, whose size nobody knows, is not wrong as well
    assert kinds == [(Kind.UNREADABLE_IMAGE, "a.jpg"), (Kind.UNREADABLE_ANNOTATION, "b.txt")]


def test_results(tmp_path: Path) -> None:
    """A file for each image, in folders as theirs, an empty one for nothing found; numbers of classes as in names."""
    write_yolo(tmp_path, {"a": ""})
    write_yolo(tmp_path, {"c": "2 0.5 0.5 0.2 0.2\n"}, "train/b")
    found = read(tmp_path, "train: images/train\nnames: {1: cat, 2: dog}\n")
    boxes = np.array([[15, 9, 25, 21], [0, 0, 20, 30]], np.float32)
    predictions = Predictions(np.ones(2, np.int64), boxes, np.array([0.5, 0.25], np.float32), np.array([1, 0]))
    write_yolo_files(tmp_path / "out", predictions, found)
    assert (tmp_path / "out/labels/train/a.txt").read_text() == ""
    expected = "2 0.5 0.5 0.25 0.4 0.5\n1 0.25 0.5 0.5 1 0.25\n"
    assert (tmp_path / "out/labels/train/b/c.txt").read_text() == expected
    (tmp_path / "labels/train/b/c.txt").write_text(expected)
    again = read(tmp_path, "train: images/train\nnames: {1: cat, 2: dog}\n")
    assert (again.boxes.tolist(), again.labels.tolist()) == (boxes.tolist(), [1, 0])


def test_labels_without_an_image(tmp_path: Path) -> None:
    """Which are counted for the check, of folders below, too; not those of images of another split or kind."""
    lines = "0 0.5 0.5 0.2 0.2\n"
    labels = write_yolo(tmp_path, {"a": lines, "b": lines})
    write_yolo(tmp_path, {"c": lines}, "train/deep")
    write_yolo(tmp_path, {"d": lines}, "val")
    (tmp_path / "data.yaml").write_text(USUAL)
    options = {"train_splits": ("train",), "val_splits": ("val",), "train_transforms": ()}
    data = YoloData(folder=str(tmp_path), input_size=40, **options)  # pyright: ignore[reportArgumentType]
    (tmp_path / "images/train/b.jpg").rename(tmp_path / "images/train/b.heic")
    (labels / "classes.txt").write_text("cat\ndog\n")
    assert YOLO.leftovers(tmp_path, data) == []
    (tmp_path / "images/train/b.heic").unlink()
    (tmp_path / "images/train/deep/c.jpg").unlink()
    (problem,) = YOLO.leftovers(tmp_path, data)
    assert (problem.kind, problem.times, problem.is_refused) == (Kind.UNKNOWN_IMAGE, 2, False)
    assert problem.text == "2 files of labels have no image: labels/train/b.txt, labels/train/deep/c.txt"
