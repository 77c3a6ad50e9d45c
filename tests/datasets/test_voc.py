"""VOC's format: pixels, flags and class lists by hand; real blood cells; one sentence for each bad file."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from public.datasets.batches import DataError
from public.datasets.predictions import Predictions
from public.datasets.sample_layouts import write_voc as write_sample
from public.datasets.sample_scenes import SHAPES
from public.datasets.scan import Kind
from public.datasets.voc import VOC_CLASSES, read_voc, scan_voc, voc_class_names, voc_images, write_voc_files
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


@pytest.mark.slow
def test_generated_sample(tmp_path: Path) -> None:
    """Its classes from classes.txt; boxes of whole pixels inside the images; some difficult ones."""
    write_sample(tmp_path, 0, 16)
    names = voc_class_names(tmp_path)
    assert names == list(SHAPES)
    found = read_voc(tmp_path, ["VOC2007/trainval", "VOC2012/trainval"], names)
    assert (found.num_images, found.skipped) == (8 + 16, {})
    assert (found.boxes == found.boxes.round()).all()
    assert 0 < found.ignored.sum() < found.num_boxes


def test_class_lists(tmp_path: Path) -> None:
    """classes.txt, else VOC's twenty in its own years, else the classes of the objects, sorted."""
    assert voc_class_names(tmp_path) is None
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)
    write_voc(tmp_path, {"x": voc_object("dog", 1, 1, 9, 9) + voc_object("cat", 1, 1, 9, 9)})
    write_voc(tmp_path, {"x": voc_object("dog", 1, 1, 9, 9)}, "VOC2012/train")
    write_voc(tmp_path, {"x": voc_object("raccoon", 1, 1, 9, 9)}, "VOC2007/train")
    assert read_voc(tmp_path, ["Own/train"], None).class_names == ["cat", "dog"]
    assert read_voc(tmp_path, ["VOC2012/train"], None).class_names == list(VOC_CLASSES)
    assert read_voc(tmp_path, ["VOC2012/train", "VOC2007/train"], None).class_names == ["dog", "raccoon"]
    (tmp_path / "classes.txt").write_text("dog\n\n  cat  \n")
    assert voc_class_names(tmp_path) == ["dog", "cat"]


@pytest.mark.slow
def test_bad_class_lists(tmp_path: Path) -> None:
    """Empty, a class twice, not text: the file and what was expected; 200,000 names in linear time."""
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\ncat\n")
    message = r"classes\.txt must name each class once.* it names 3, more than once \['cat'\]\.$"
    with pytest.raises(DataError, match=message):
        voc_class_names(tmp_path)
    path.write_text("\n")
    with pytest.raises(DataError, match=r"classes\.txt must name each class once, one a line; it names 0"):
        voc_class_names(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"classes\.txt cannot be read as text"):
        voc_class_names(tmp_path)
    path.write_text("".join(f"class {n}\n" for n in range(200_000)))
    assert len(voc_class_names(tmp_path) or ()) == 200_000


GOOD = "<annotation><size><width>40</width><height>30</height></size>{}</annotation>"
BAD_FILES = {
    "empty": ("", r"it is not XML, or was cut short \(no element found"),
    "cut short": (GOOD.format("")[:-12], r"it is not XML, or was cut short"),
    "an unknown encoding": (f'<?xml version="1.0" encoding="ebcdic-x"?>{GOOD.format("")}', r"it is not XML"),
    "no box": (GOOD.format("<object><name>dog</name></object>"), r"object 1 \(dog\) has no <bndbox> with the numbers"),
    "half a box": (
        GOOD.format(voc_object("dog", 1, 1, 9, 9).replace("ymax", "other")),
        r"object 1 \(dog\) has no <bndbox> with the numbers xmin, ymin, xmax, ymax\.$",
    ),
    "an unknown class": (
        GOOD.format(voc_object("dog", 1, 1, 9, 9) + voc_object("dogs", 1, 1, 9, 9)),
        r"object 2 is of class 'dogs', which is not among the 2 classes \(data\.classes .*; the nearest: dog\.$",
    ),
    "of another tool": (
        GOOD.format("").replace("annotation", "annotations"),
        r"its root is <annotations>; expected is <annotation> with each <object> directly below it\.$",
    ),
    "in a namespace": (
        GOOD.format(voc_object("dog", 1, 1, 9, 9)).replace("<annotation>", '<annotation xmlns="http://x.y">'),
        r"its root is <\{http://x\.y\}annotation>; expected is",
    ),
    "objects in a list": (
        GOOD.format(f"<objects>{voc_object('dog', 1, 1, 9, 9) * 2}</objects>"),
        r"3 of its objects are where none is read; expected is <annotation> with each <object> directly below it",
    ),
    "objects with a capital": (
        GOOD.format(voc_object("dog", 1, 1, 9, 9).replace("object>", "Object>")),
        r"1 of its objects are where none is read",
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


def test_a_missing_folder_of_images(tmp_path: Path) -> None:
    """One problem for all of its images, which says what is missing; those of another year are judged one by one."""
    write_voc(tmp_path, {"x": "", "y": "", "z": ""})
    other = write_voc(tmp_path, {"u": "", "v": ""}, "Other/train").parent / "JPEGImages"
    (other / "u.jpg").unlink()
    shutil.rmtree(tmp_path / "Own/JPEGImages")
    problems = scan_voc(tmp_path, ["Own/train", "Other/train"], PETS).problems
    missing = [str(one) for one in problems if one.kind == Kind.MISSING_IMAGE]
    assert len(missing) == 2
    assert missing[0].startswith(f"{tmp_path}/Own/JPEGImages: it is missing, and must hold the images of the lists.")
    assert missing[1].startswith(f"{other}/u.jpg: the file is missing")
    with pytest.raises(DataError, match=rf"^{tmp_path}/Own/JPEGImages: it is missing"):
        read_voc(tmp_path, ["Own/train"], PETS)


def test_missing_files(tmp_path: Path) -> None:
    """The list: where to get data; an annotation; an image."""
    with pytest.raises(DataError, match=rf"^{tmp_path}/Own/ImageSets/Main/train\.txt is missing; .*--data\.folder"):
        read_voc(tmp_path, ["Own/train"], PETS)
    annotations = write_voc(tmp_path, {"x": "", "y": ""})
    (annotations / "y.xml").unlink()
    (annotations / "y.xml").mkdir()
    with pytest.raises(DataError, match=r"Own/Annotations/y\.xml: the file cannot be read \(Is a directory"):
        read_voc(tmp_path, ["Own/train"], PETS)
    (annotations / "y.xml").rmdir()
    write_voc(tmp_path, {"x": "", "y": ""})
    (tmp_path / "Own/JPEGImages/x.jpg").unlink()
    with pytest.raises(
        DataError, match=r"JPEGImages/x\.jpg: the file is missing \(also as \.jpeg, \.png, .*\.ppm, .*\), and a list"
    ):
        read_voc(tmp_path, ["Own/train"], PETS)


def test_bad_splits(tmp_path: Path) -> None:
    """Without a folder, without an image, and lists that overlap."""
    write_voc(tmp_path, {"x": "", "y": ""})
    with pytest.raises(DataError, match=r"^the split 'Own/' of .* must be <folder>/<list>, such as VOC2007/trainval"):
        read_voc(tmp_path, ["Own/"], PETS)
    with pytest.raises(DataError, match=r"train\.txt: the image Own/x is listed a second time.*\(and 1 more; python"):
        read_voc(tmp_path, ["Own/train", "Own/train"], PETS)
    (tmp_path / "Own/ImageSets/Main/train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train\.txt names no image; expected one name"):
        read_voc(tmp_path, ["Own/train"], PETS)


def test_a_list_of_a_single_class(tmp_path: Path) -> None:
    """<class>_train.txt has a flag behind each name: refused in a sentence. Names that end as flags do are read."""
    objects = voc_object("dog", 1, 1, 9, 9)
    write_voc(tmp_path, {"x": objects, "y": ""})
    path = tmp_path / "Own/ImageSets/Main/dog_train.txt"
    path.write_text("x  1\ny -1\n")
    for read in (scan_voc, lambda *given: voc_images(*given[:2])):
        with pytest.raises(DataError) as error:
            read(tmp_path, ["Own/dog_train"], PETS)
        assert str(error.value) == (
            f"{path} is one of VOC's lists of a single class, a name and a flag (1, 0 or -1) in each line, such as "
            "'x  1'; expected a list of names alone, as VOC's own train.txt."
        )
    write_voc(tmp_path, {"photo 0": objects, "photo 1": ""}, "Spaces/train")
    (tmp_path / "Spaces/JPEGImages/photo 1.jpg").unlink()
    assert [one.kind for one in scan_voc(tmp_path, ["Spaces/train"], PETS).problems] == [Kind.MISSING_IMAGE]
    for name in ("photo 0.xml", "photo 1.xml"):
        (tmp_path / "Spaces/Annotations" / name).unlink()
    assert voc_images(tmp_path, ["Spaces/train"]) == [tmp_path / "Spaces/JPEGImages/photo 0.jpg"]


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


# ---- what people really have -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    ["", "<size><width>0</width><height>30</height></size>", "<size><width>40</width></size>"]
    + [
        f"<size><width>{width}</width><height>30</height></size>"
        for width in ("", "1" * 400, 2**31, "40.5", "nan", "x")
    ],
)
def test_a_size_that_is_none(tmp_path: Path, size: str) -> None:
    """The picture's is taken, and counted; a box is clipped at it. 40.0 is a size."""
    path = write_voc(tmp_path, {"x": ""}) / "x.xml"
    text = f"<annotation>{size}{voc_object('dog', 1, 1, 60, 9)}</annotation>"
    path.write_text(text)
    found = read_voc(tmp_path, ["Own/train"], PETS)
    assert (found.sizes.tolist(), found.boxes.tolist()) == ([[30, 40]], [[0, 0, 40, 9]])
    assert found.filled == {"image sizes that are not stated": 1}
    whole = "<size><width>40.0</width><height>30.0</height></size>"
    path.write_text(f"<annotation>{whole}</annotation>")
    assert read_voc(tmp_path, ["Own/train"], PETS).filled == {}


def test_words_for_difficult(tmp_path: Path) -> None:
    """Unspecified is not difficult, and counted; true and yes are."""
    flags = ["Unspecified", "true", "Yes", "false", "2"]
    write_voc(tmp_path, {"x": "".join(voc_object("dog", 1, 1, 9 + n, 9, flag) for n, flag in enumerate(flags))})
    found = read_voc(tmp_path, ["Own/train"], PETS)
    assert found.ignored.tolist() == [False, True, True, False, False]
    assert found.filled == {"difficult flags that are none": 2}


def test_background_without_annotations(tmp_path: Path) -> None:
    """A listed picture without xml is an image without objects, counted; without both it is missing."""
    annotations = write_voc(tmp_path, {"x": voc_object("dog", 1, 1, 9, 9), "sky": ""})
    (annotations / "sky.xml").unlink()
    found = read_voc(tmp_path, ["Own/train"], PETS)
    assert (found.offsets.tolist(), found.sizes.tolist()) == ([0, 1, 1], [[30, 40], [30, 40]])
    assert found.filled == {"images without an annotation file": 1}
    (tmp_path / "Own/JPEGImages/sky.jpg").unlink()
    with pytest.raises(DataError, match=r"JPEGImages/sky\.jpg: the file is missing"):
        read_voc(tmp_path, ["Own/train"], PETS)


def test_subfolders(tmp_path: Path) -> None:
    """A list may name cam1/x: both files lie in folders of that name; the same name in another folder is another."""
    for name, objects in (("x", voc_object("dog", 1, 1, 9, 9)), ("cam1/x", ""), ("cam1/deep/y", "")):
        write_voc(tmp_path, {name.rpartition("/")[2]: objects}, "Other/train")
        for kind in ("Annotations", "JPEGImages"):
            folder = tmp_path / "Own" / kind / name.rpartition("/")[0]
            folder.mkdir(parents=True, exist_ok=True)
            for path in (tmp_path / "Other" / kind).iterdir():
                path.rename(folder / path.name)
    lists = tmp_path / "Own/ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("x\ncam1/x\ncam1/deep/y\n")
    files = [b"Own/JPEGImages/x.jpg", b"Own/JPEGImages/cam1/x.jpg", b"Own/JPEGImages/cam1/deep/y.jpg"]
    found = read_voc(tmp_path, ["Own/train"], PETS)
    assert (found.files.tolist(), found.offsets.tolist(), found.filled) == (files, [0, 1, 1, 1], {})
    found = read_voc(tmp_path, ["Own/*"], PETS)
    assert (found.files.tolist(), found.skipped) == ([files[2], files[1], files[0]], {}), "sorted, below all folders"


@pytest.mark.parametrize("names", [("annots", "images"), ("Annotations", "JPEGImages"), ("annotations", "images"), "."])
def test_all_images_without_a_list(tmp_path: Path, names: tuple[str, str]) -> None:
    """Two folders of any of these names, or one; hidden files are counted, and so are annotations of no image."""
    annotations, images = (tmp_path / "raccoons" / name for name in (names if len(names) == 2 else (".", ".")))
    write_voc(tmp_path, {"b": voc_object("raccoon", 1, 1, 9, 9), "a": "", "gone": ""}, "Other/train")
    for path, target in ((tmp_path / "Other/Annotations", annotations), (tmp_path / "Other/JPEGImages", images)):
        target.mkdir(parents=True, exist_ok=True)
        for file in path.iterdir():
            file.rename(target / file.name)
    (images / "gone.jpg").unlink()
    (images / "._b.jpg").touch()
    (images / ".ipynb_checkpoints").mkdir()
    (images / ".ipynb_checkpoints/b.jpg").touch()
    (images / "@eaDir").mkdir()
    (images / "@eaDir/c.jpg").touch()
    found = read_voc(tmp_path, ["raccoons/*"], None)
    assert [name.decode().rpartition("/")[2] for name in found.files.tolist()] == ["a.jpg", "b.jpg"]
    assert (found.class_names, found.offsets.tolist()) == (["raccoon"], [0, 0, 1])
    assert found.skipped == {"annotations of unlisted images": 1, "hidden files": 3}
    assert read_voc(tmp_path / "raccoons", ["*"], None).num_boxes == 1
    with pytest.raises(DataError, match=r"nowhere/JPEGImages holds no image"):
        read_voc(tmp_path, ["nowhere/*"], None)


def test_results_of_classes_that_no_file_can_be_called(tmp_path: Path) -> None:
    """A slash, more than 255 bytes, and two that become the same: a file each."""
    names = ["a/b", "a_b", "x" * 300, "x" * 301, "\u00e9" * 150]
    write_voc(tmp_path, {"x": "".join(voc_object(name, 1, 1, 9, 9) for name in names)})
    found = read_voc(tmp_path, ["Own/train"], names)
    predictions = Predictions(np.zeros(5, np.int64), found.boxes, np.ones(5, np.float32), found.labels)
    write_voc_files(tmp_path / "out", predictions, found)
    files = ["a_b", "a_b_1", "x" * 200, "x" * 200 + "_3", "\u00e9" * 100]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"comp4_det_test_{file}.txt" for file in files
    )
    assert {path.read_text() for path in (tmp_path / "out").iterdir()} == {"x 1 1.000 1.000 9.000 9.000\n"}


def test_an_object_without_a_name(tmp_path: Path) -> None:
    """Refused where the objects name the classes."""
    write_voc(tmp_path, {"x": "<object/>" + voc_object("dog", 1, 1, 9, 9)})
    with pytest.raises(DataError, match=r"x\.xml: object 1 has no <name>, expected that of its class\.$"):
        read_voc(tmp_path, ["Own/train"], None)
