"""VOC's format: pixels, flags and class lists by hand; real blood cells; one sentence for each bad file."""

from pathlib import Path

import numpy as np
import pytest

from public.datasets.batches import DataError
from public.datasets.sample_layouts import write_voc as write_sample
from public.datasets.sample_scenes import SHAPES
from public.datasets.scan import Kind
from public.datasets.voc import VOC_CLASSES, read_voc, scan_voc, voc_class_names
from tests.datasets.written import voc_object, write_image, write_voc

PETS = ["cat", "dog"]


def test_pixels_from_one_to_continuous(tmp_path: Path) -> None:
    """The whole of a 40 x 30 image is 1 1 40 30 in the file and 0 0 40 30 here; fractions as in VOC2011 are kept."""
    objects = voc_object("dog", 1, 1, 40, 30) + voc_object("cat", 3, 4.5, 5, 6.25)
    write_voc(tmp_path, {"x": objects, "empty": ""})
    found = read_voc(tmp_path, ["Own/train"], PETS)
    assert found.boxes.tolist() == [[0, 0, 40, 30], [2, 3.5, 5, 6.25]]
    assert (found.labels.tolist(), found.offsets.tolist()) == ([1, 0], [0, 2, 2])
    assert (found.folder, found.files.tolist()) == (tmp_path, [b"Own/JPEGImages/x.jpg", b"Own/JPEGImages/empty.jpg"])
    assert (found.image_ids.tolist(), found.sizes.tolist()) == ([0, 1], [[30, 40], [30, 40]])
    assert (found.class_names, found.category_ids, found.source) == (PETS, [1, 2], tmp_path)
    assert (found.boxes.dtype, found.labels.dtype, found.ignored.dtype) == (np.float32, np.int64, bool)
    assert found.skipped == {}


def test_difficult_objects_are_ignored(tmp_path: Path) -> None:
    """1 means yes; 0, nothing, or no such element no."""
    flags = ["1", "0", "", None]
    write_voc(tmp_path, {"x": "".join(voc_object("dog", 1, 1, 9 + n, 9, flag) for n, flag in enumerate(flags))})
    found = read_voc(tmp_path, ["Own/train"], PETS)
    assert found.ignored.tolist() == [True, False, False, False]
    assert found.of(0)[1].tolist() == [-2, 1, 1, 1]


def test_boxes_are_clipped_or_skipped(tmp_path: Path) -> None:
    """Counted from 0 by mistake: clipped. Clicks without a drag and boxes beyond the border: skipped."""
    boxes = [(0, 0, 10, 10), (35, 25, 41, 31), (5, 5, 5, 5), (5, 5, 5, 9), (9, 5, 5, 9), (41, 1, 50, 9), (-8, 1, 0, 9)]
    write_voc(tmp_path, {"x": "".join(voc_object("dog", *box) for box in boxes)})
    found = read_voc(tmp_path, ["Own/train"], PETS)
    assert found.boxes.tolist() == [[0, 0, 10, 10], [34, 24, 40, 30]]
    assert found.skipped == {"boxes without area": 3, "boxes outside the image": 2}


def test_parts_are_no_objects(tmp_path: Path) -> None:
    """VOC's person layout nests <part>s with names and boxes of their own, here even before the object's own."""
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    write_voc(tmp_path, {"x": voc_object("dog", 3, 3, 9, 9).replace("<object>", f"<object>{part}")})
    assert read_voc(tmp_path, ["Own/train"], PETS).boxes.tolist() == [[2, 2, 9, 9]]


def test_splits_together(tmp_path: Path) -> None:
    """Two years in the order given; the same name in both is two images."""
    write_voc(tmp_path, {"x": voc_object("dog", 1, 1, 9, 9)}, "VOC2012/trainval")
    write_voc(tmp_path, {"x": "", "y": voc_object("cat", 1, 1, 5, 5)}, "VOC2007/trainval")
    found = read_voc(tmp_path, ["VOC2007/trainval", "VOC2012/trainval"], PETS)
    assert [name.decode() for name in found.files] == [
        f"{name}.jpg" for name in ("VOC2007/JPEGImages/x", "VOC2007/JPEGImages/y", "VOC2012/JPEGImages/x")
    ]
    assert (found.offsets.tolist(), found.labels.tolist()) == ([0, 0, 1, 2], [0, 1])


@pytest.mark.parametrize("name", ["x.JPG", "x.jpeg", "x.png", "x.webp", "x.TIF"])
def test_extensions(tmp_path: Path, name: str) -> None:
    """The list names images without one."""
    write_voc(tmp_path, {"x": ""})
    folder = tmp_path / "Own/JPEGImages"
    (folder / "x.jpg").unlink()
    write_image(folder / name)
    (folder / "x.txt").touch()
    assert read_voc(tmp_path, ["Own/train"], PETS).files.tolist() == [f"Own/JPEGImages/{name}".encode()]


def test_lists_of_other_systems(tmp_path: Path) -> None:
    """A byte-order mark, carriage returns, blank lines."""
    write_voc(tmp_path, {"x": "", "y": ""})
    (tmp_path / "Own/ImageSets/Main/train.txt").write_bytes(b"\xef\xbb\xbfx\r\n\r\ny \r\n")
    assert read_voc(tmp_path, ["Own/train"], PETS).num_images == 2


@pytest.mark.parametrize(
    ("split", "num_images", "num_boxes"), [("train", 205, 2804), ("val", 87, 1137), ("test", 72, 945)]
)
def test_real_blood_cells(real_data: Path, split: str, num_images: int, num_boxes: int) -> None:
    """4888 boxes, of which two are points: BloodImage_00343 in train, BloodImage_00338 in val."""
    root = real_data / "bccd/VOCdevkit"
    found = read_voc(root, [f"BCCD/{split}"], ["RBC", "WBC", "Platelets"])
    assert (found.num_images, found.num_boxes) == (num_images, num_boxes)
    assert found.skipped == ({} if split == "test" else {"boxes without area": 1})
    assert set(map(tuple, found.sizes.tolist())) == {(480, 640)}
    assert found.boxes.min() == 0
    assert found.boxes.max(axis=0).tolist()[2:] == [640, 480]


def test_generated_sample(tmp_path: Path) -> None:
    """Its classes from classes.txt; boxes of whole pixels inside the images; some difficult ones."""
    write_sample(tmp_path, 0, 16)
    names = voc_class_names(tmp_path, None)
    assert tuple(names) == SHAPES
    found = read_voc(tmp_path, ["VOC2007/trainval", "VOC2012/trainval"], names)
    assert (found.num_images, found.skipped) == (8 + 16, {})
    assert (found.boxes == found.boxes.round()).all()
    assert 0 < found.ignored.sum() < found.num_boxes


def test_class_lists(tmp_path: Path) -> None:
    """VOC's twenty, classes.txt, or a file that is named, below the folder or anywhere."""
    assert voc_class_names(tmp_path, None) == list(VOC_CLASSES) == sorted(VOC_CLASSES)
    assert len(VOC_CLASSES) == 20
    (tmp_path / "classes.txt").write_text("dog\n\n  cat  \n")
    (tmp_path / "other.txt").write_text("red blood cell\n")
    assert voc_class_names(tmp_path, None) == ["dog", "cat"]
    assert voc_class_names(tmp_path, "other.txt") == ["red blood cell"]
    assert voc_class_names(tmp_path / "nowhere", str(tmp_path / "other.txt")) == ["red blood cell"]


def test_bad_class_lists(tmp_path: Path) -> None:
    """Missing, empty, a class twice, not text: the file and what was expected."""
    with pytest.raises(DataError, match=rf"^{tmp_path}/own\.txt is missing; expected one class name a line"):
        voc_class_names(tmp_path, "own.txt")
    (tmp_path / "own.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(
        DataError, match=r"own\.txt must name each class once.* it names 3, more than once \['cat'\]\.$"
    ):
        voc_class_names(tmp_path, "own.txt")
    (tmp_path / "own.txt").write_text("\n")
    with pytest.raises(DataError, match=r"own\.txt must name each class once, one a line; it names 0"):
        voc_class_names(tmp_path, "own.txt")
    (tmp_path / "own.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"own\.txt cannot be read as text"):
        voc_class_names(tmp_path, "own.txt")


SIZES = r"its <size> has <width> and <height> {} and {}, expected whole numbers of pixels from 1 to 2147483647\.$"
GOOD = "<annotation><size><width>40</width><height>30</height></size>{}</annotation>"
BAD_FILES = {
    "empty": ("", r"it is not XML, or was cut short \(no element found"),
    "cut short": (GOOD.format("")[:-12], r"it is not XML, or was cut short"),
    "an unknown encoding": (f'<?xml version="1.0" encoding="ebcdic-x"?>{GOOD.format("")}', r"it is not XML"),
    "no size": ("<annotation></annotation>", r"it has no <size> with <width> and <height>\.$"),
    "no height": (GOOD.format("").replace("height", "depth"), r"it has no <size> with <width> and <height>\.$"),
    "a size of 0": (GOOD.format("").replace("40", "0"), SIZES.format("'0'", "'30'")),
    "an empty size": (GOOD.format("").replace("40", ""), SIZES.format("''", "'30'")),
    "a fractional size": (GOOD.format("").replace("40", "40.0"), SIZES.format(r"'40\.0'", "'30'")),
    "a size of 23 digits": (GOOD.format("").replace("30", "1" * 23), SIZES.format("'40'", f"'{'1' * 23}'")),
    "a size of 400 digits": (GOOD.format("").replace("30", "1" * 400), SIZES.format("'40'", r"'1+\.\.\.1+'")),
    "a size of 2**31": (GOOD.format("").replace("30", f"{2**31}"), SIZES.format("'40'", f"'{2**31}'")),
    "no box": (GOOD.format("<object><name>dog</name></object>"), r"object 1 \(dog\) has no <bndbox> with the numbers"),
    "half a box": (
        GOOD.format(voc_object("dog", 1, 1, 9, 9).replace("ymax", "other")),
        r"object 1 \(dog\) has no <bndbox> with the numbers xmin, ymin, xmax, ymax\.$",
    ),
    "a strange flag": (
        GOOD.format(voc_object("dog", 1, 1, 9, 9, "maybe")),
        r"object 1 \(dog\) has <difficult> 'maybe', expected 0 or 1\.$",
    ),
    "an unknown class": (
        GOOD.format(voc_object("dog", 1, 1, 9, 9) + voc_object("dogs", 1, 1, 9, 9)),
        r"object 2 is of class 'dogs', which is not among the 2 classes \(data\.class_file.*; the nearest: dog\.$",
    ),
    "no name": (GOOD.format("<object/>"), r"object 1 is of class '', which is not among the 2 classes"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_one_sentence(tmp_path: Path, kind: str) -> None:
    """It begins with the path of the file and says what was found and expected."""
    text, message = BAD_FILES[kind]
    path = write_voc(tmp_path, {"x": ""}) / "x.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"^{path}: {message}"):
        read_voc(tmp_path, ["Own/train"], PETS)


def test_missing_files(tmp_path: Path) -> None:
    """The list: where to get data; an annotation; an image."""
    with pytest.raises(DataError, match=rf"^{tmp_path}/Own/ImageSets/Main/train\.txt is missing; .*DATA_ROOT"):
        read_voc(tmp_path, ["Own/train"], PETS)
    annotations = write_voc(tmp_path, {"x": "", "y": ""})
    (annotations / "y.xml").unlink()
    with pytest.raises(DataError, match=r"Own/Annotations/y\.xml: the file cannot be read \(No such file"):
        read_voc(tmp_path, ["Own/train"], PETS)
    write_voc(tmp_path, {"x": "", "y": ""})
    (tmp_path / "Own/JPEGImages/x.jpg").unlink()
    with pytest.raises(
        DataError, match=r"JPEGImages/x\.jpg: the file is missing \(also as \.jpeg, \.png, .*\.ppm\), and a list"
    ):
        read_voc(tmp_path, ["Own/train"], PETS)


def test_bad_splits(tmp_path: Path) -> None:
    """Without a folder, without an image, and lists that overlap."""
    write_voc(tmp_path, {"x": "", "y": ""})
    with pytest.raises(DataError, match=r"^the split 'train' of .* must be <folder>/<list>, such as VOC2007/trainval"):
        read_voc(tmp_path, ["train"], PETS)
    with pytest.raises(DataError, match=r"train\.txt: the image Own/x is listed a second time.*\(and 1 more; python"):
        read_voc(tmp_path, ["Own/train", "Own/train"], PETS)
    (tmp_path / "Own/ImageSets/Main/train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train\.txt names no image; expected one name"):
        read_voc(tmp_path, ["Own/train"], PETS)


def test_a_scan_goes_on(tmp_path: Path) -> None:
    """Every bad object and file, and the sound ones beside them."""
    sound, strange = voc_object("dog", 1, 1, 9, 9), voc_object("dgo", 1, 1, 9, 9)
    annotations = write_voc(tmp_path, {"x": strange + sound + strange, "y": sound, "z": sound})
    (annotations / "y.xml").write_text("<anno")
    (tmp_path / "Own/JPEGImages/z.jpg").unlink()
    raw = scan_voc(tmp_path, ["Own/train"], PETS)
    assert [problem.kind for problem in raw.problems] == [
        Kind.MISSING_IMAGE,
        Kind.UNKNOWN_CLASS,
        Kind.UNKNOWN_CLASS,
        Kind.UNREADABLE_ANNOTATION,
    ]
    assert raw.object_images.tolist() == [0, 2]
    assert raw.sizes.tolist() == [[30, 40], [0, 0], [30, 40]]
