"""COCO's format: labels, clipping, crowds and images by hand; pycocotools on real files; one sentence for bad ones."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.coco import COCO as COCO_FORMAT
from public.datasets.coco import CocoData, read_coco, scan_coco, write_coco_json
from public.datasets.predictions import Predictions
from public.datasets.results import read_coco_results
from public.datasets.sample_layouts import COCO_CATEGORY_IDS
from public.datasets.sample_layouts import write_coco as write_sample
from public.datasets.scan import Kind, box_problems, image_size
from public.evaluation.coco import CocoEvaluator
from tests.datasets.written import coco_content, write_coco, write_image

NAN, INFINITY = float("nan"), float("inf")


def read(root: Path, content: Any) -> DetectionAnnotations:
    """Writes a split and reads it."""
    write_coco(root, content)
    return read_coco(root, "train2017")


def test_labels_are_ranks_of_category_ids(tmp_path: Path) -> None:
    """Ids 3 and 90 become 0 and 1, in whatever order the file has them; objects come in the order of their images."""
    found = read(tmp_path, coco_content([(2, 90, 1, 2, 3, 4), (7, 3, 5, 6, 7, 8), (2, 3, 0, 0, 2, 2)]))
    assert (found.class_names, found.category_ids) == (["dog", "cat"], [3, 90])
    assert (found.image_ids.tolist(), found.files.tolist()) == ([7, 2], [b"a.jpg", b"b.jpg"])
    assert found.sizes.tolist() == [[30, 40], [10, 20]]
    assert found.offsets.tolist() == [0, 1, 3]
    assert found.boxes.tolist() == [[5, 6, 12, 14], [1, 2, 4, 6], [0, 0, 2, 2]]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.source == tmp_path / "annotations/instances_train2017.json"
    assert found.skipped == {}


@pytest.mark.parametrize("ids", [(7, 2), (-(2**63), 2**63 - 1), (2**63 - 1, 2**63 - 2)], ids=str)
def test_ids_may_be_any(tmp_path: Path, ids: tuple[int, int]) -> None:
    """Side by side and far apart: objects find their images, and one of an id between or beside finds none."""
    content = coco_content(
        [(ids[1], 90, 1, 2, 3, 4), (0, 90, 9, 9, 9, 9), (ids[0], 3, 5, 6, 7, 8), (-5, 3, 1, 1, 1, 1)]
    )
    for image, number in zip(content["images"], ids, strict=True):
        image["id"] = number
    found = read(tmp_path, content)
    assert (found.image_ids.tolist(), found.offsets.tolist()) == ([*ids], [0, 1, 2])
    assert (found.labels.tolist(), found.boxes.tolist()) == ([0, 1], [[5, 6, 12, 14], [1, 2, 4, 6]])
    assert found.skipped == {"annotations of unlisted images": 2}


def test_types(tmp_path: Path) -> None:
    """The contract's, whether there are objects or not."""
    boxes = [(7, 3, 1.5, 1, 2, 2, 1)]
    for content in (coco_content(boxes), coco_content()):
        found = read(tmp_path, content)
        assert (found.boxes.dtype, found.boxes.shape[1]) == (np.float32, 4)
        assert {found.labels.dtype, found.image_ids.dtype, found.sizes.dtype, found.offsets.dtype} == {
            np.dtype(np.int64)
        }
        assert found.ignored.dtype == bool
        assert found.num_images == 2, "images without objects stay"


def test_crowds_are_ignored(tmp_path: Path) -> None:
    """They keep their box and class; `of` gives them label -2; a file without the key has none."""
    found = read(tmp_path, coco_content([(7, 90, 0, 0, 9, 9, 1), (7, 90, 0, 0, 5, 5, 0)]))
    assert (found.ignored.tolist(), found.labels.tolist()) == ([True, False], [1, 1])
    assert found.of(0)[1].tolist() == [-2, 1]
    content = coco_content([(7, 90, 0, 0, 9, 9)])
    del content["annotations"][0]["iscrowd"]
    assert read(tmp_path, content).ignored.tolist() == [False]


def test_boxes_are_clipped_or_skipped(tmp_path: Path) -> None:
    """Image 7 is 40 x 30: over two corners, beside each side, touching a side, without area, not finite, one float."""
    boxes = [(-2, -3, 5, 6), (38, 25, 10, 10)]
    outside = [(-5, 0, 4, 4), (41, 0, 4, 4), (0, -5, 4, 4), (0, 31, 4, 4), (40, 0, 4, 4), (-4, 0, 4, 4)]
    no_area = [(1, 1, 0, 5), (1, 1, 5, 0), (1, 1, -2, 5), (NAN, 1, 2, 2), (1, 1, INFINITY, 2), (9, 9, 1e-9, 3)]
    found = read(tmp_path, coco_content([(7, 3, *box) for box in boxes + outside + no_area]))
    assert found.boxes.tolist() == [[0, 0, 3, 3], [38, 25, 40, 30]]
    assert found.skipped == {"boxes without area": 6, "boxes outside the image": 6}


def same_as_pycocotools(root: Path, split: str) -> DetectionAnnotations:
    """Compares images, classes, boxes and crowds with what pycocotools reads."""
    found, reference = read_coco(root, split), COCO(str(root / f"annotations/instances_{split}.json"))
    names = [category["name"] for category in reference.loadCats(reference.getCatIds())]
    assert (found.category_ids, found.class_names) == (reference.getCatIds(), names)
    assert found.image_ids.tolist() == list(reference.imgs)
    for row, image_id in enumerate(found.image_ids.tolist()):
        image = reference.loadImgs(image_id)[0]
        assert (found.files[row].decode(), *found.sizes[row]) == (image["file_name"], image["height"], image["width"])
        objects = reference.loadAnns(reference.getAnnIds(image_id))
        boxes, labels = found.of(row)
        assert len(boxes) == len(objects)
        expected = np.array([one["bbox"] for one in objects]).reshape(-1, 4)
        expected[:, 2:] += expected[:, :2]
        np.testing.assert_allclose(boxes, expected, rtol=0, atol=1e-4)
        assert labels.tolist() == [
            -2 if one["iscrowd"] else reference.getCatIds().index(one["category_id"]) for one in objects
        ]
    assert found.ignored.sum() == len(reference.getAnnIds(iscrowd=True))
    return found


@pytest.mark.parametrize(("split", "num_images", "num_boxes"), [("train2017", 160, 1444), ("val2017", 158, 1424)])
def test_real_coco(real_data: Path, split: str, num_images: int, num_boxes: int) -> None:
    """Every image and box of two real excerpts, with all 80 classes."""
    found = same_as_pycocotools(real_data / "coco_mini", split)
    assert (found.num_images, found.num_boxes, len(found.class_names)) == (num_images, num_boxes, 80)
    assert found.skipped == {}


@pytest.mark.slow
def test_generated_sample(tmp_path: Path) -> None:
    """With images without objects (number 7) and crowds (numbers 3 and 11)."""
    write_sample(tmp_path, 0, 12, 1)
    found = same_as_pycocotools(tmp_path, "train2017")
    assert found.category_ids == list(COCO_CATEGORY_IDS)
    assert np.flatnonzero(np.diff(found.offsets) == 0).tolist() == [7]
    assert found.ignored.sum() == 2


def changed(**fields: Any) -> dict[str, Any]:
    """A sound split but for one annotation."""
    content = coco_content([(7, 3, 1, 1, 2, 2)])
    content["annotations"][0] |= fields
    return content


def without(key: str) -> dict[str, Any]:
    """A sound split whose first image lacks a key."""
    content = coco_content()
    del content["images"][0][key]
    return content


BAD_CONTENTS: dict[str, tuple[Any, str]] = {
    "text": ("<html>404</html>", r"is not JSON, or was cut short: Expecting value"),
    "cut short": (json.dumps(coco_content())[:-9], r"is not JSON, or was cut short"),
    "a list": ([1, 2], r"holds a list, expected an object with the keys \['images', 'categories', 'annotations'\]"),
    "missing list": ({"images": [], "categories": []}, r"has no list under \['annotations'\]; expected the keys"),
    "no image": (coco_content(images=[]), r"has an empty list of images; it must hold at least one image and one cat"),
    "no category": (coco_content(categories=[]), r"has an empty list of categories; it must hold at least one image"),
    "unknown class": (changed(category_id=4), r"1 annotations have category_id 4, which no category has\.$"),
    "no file name": (without("file_name"), r"images\[0\] lacks the key 'file_name'\.$"),
    "three numbers": (changed(bbox=[1, 2, 3]), r"annotations\[0\] has bbox = \[1, 2, 3\], expected four numbers"),
    "text in a box": (changed(bbox=[1, 2, 3, "4"]), r"has bbox = \[1, 2, 3, '4'\], expected four numbers"),
    "text for an id": (
        changed(image_id="7"),
        r"annotations\[0\] has image_id = '7', expected a whole number of at most 64 bits\.$",
    ),
    "a huge id": (changed(image_id=2**64), r"annotations\[0\] has image_id = 18446744073709551616, expected a whole"),
    "a strange crowd": (changed(iscrowd="no"), r"annotations\[0\] has iscrowd = 'no', expected 0 or 1\.$"),
    "text for an area": (changed(area="9"), r"annotations\[0\] has area = '9', expected a number \(a whole one of"),
    "a box of 400 digits": (
        changed(bbox=[1, 10**400, 2, 2]),
        r"annotations\[0\] has bbox = \[1, 10+\.\.\.0+, 2, 2\], expected four .* \(whole ones of at most 64 bits\)\.$",
    ),
    "an area of 400 digits": (
        changed(area=-(10**400)),
        r"annotations\[0\] has area = -10+\.\.\.0+, expected a number \(a whole one of at most 64 bits\)\.$",
    ),
    "a file name of half a letter": (
        coco_content(images=[*coco_content()["images"], {"id": 1, "file_name": "\ud800.jpg"}]),
        r"images\[2\] has file_name = '.ud800\.jpg', expected the name of a file",
    ),
    "a file name with NUL": (
        coco_content(images=[*coco_content()["images"], {"id": 1, "file_name": "a\0.jpg"}]),
        r"images\[2\] has file_name = 'a.x00\.jpg', expected the name of a file",
    ),
    "two classes of one name": (
        coco_content(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]),
        r"more than one class is called 'a', expected each name once\.$",
    ),
    "half a letter in a class": (
        coco_content(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "\ud800"}]),
        r"the class name '.ud800' is empty or holds control characters or halves of letters\.$",
    ),
    "NUL in a class": (
        coco_content(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "b\0"}]),
        r"the class name 'b.x00' is empty or holds control characters",
    ),
    "every image with the same flaw": (
        coco_content(images=[{"id": "7", "file_name": "a.jpg"}, {"id": "2", "file_name": "b.jpg"}]),
        r"not one of its 2 images can be read: images\[0\] has id = '7', expected a whole number of at most 64 bits",
    ),
    "every annotation with the same flaw": (
        coco_content(annotations=[{"image_id": 7, "category_id": "3", "bbox": [1, 1, 2, 2]}] * 30),
        r"annotations\[0\] has category_id = '3', .*, and 29 more of the 30 annotations have the same flaw "
        r"\(and 29 more; python",
    ),
    "not an object": (coco_content(annotations=["x"]), r"annotations\[0\] is a str, expected an object with the keys"),
    "an image twice": (
        coco_content(images=coco_content()["images"] * 2),
        r"the id 7 is more than once in images, expected each once \(and 1 more; python -m public.datasets.check",
    ),
    "a class twice": (
        coco_content(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
        r"the id 1 is more than once in categories, expected each once\.$",
    ),
}


@pytest.mark.parametrize("kind", BAD_CONTENTS)
def test_a_bad_file_is_one_sentence(tmp_path: Path, kind: str) -> None:
    """It begins with the path of the file and says what was found and expected."""
    content, message = BAD_CONTENTS[kind]
    path = write_coco(tmp_path, content)
    with pytest.raises(DataError, match=rf"^{path}:? .*{message}"):
        read_coco(tmp_path, "train2017")


def test_missing_files(tmp_path: Path) -> None:
    """No annotations: where to get data; no folder of images; one image of two."""
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/annotations/instances_train2017\.json is missing; .*--data\.folder"
    ):
        read_coco(tmp_path, "train2017")
    write_coco(tmp_path, coco_content())
    os.rename(tmp_path / "images/train2017/b.jpg", tmp_path / "b.away")
    with pytest.raises(DataError, match=rf"^{tmp_path}/images/train2017/b\.jpg: the file is missing, and .* lists it"):
        read_coco(tmp_path, "train2017")
    os.rename(tmp_path / "images/train2017", tmp_path / "images/elsewhere")
    with pytest.raises(
        DataError, match=r"images/train2017: it is missing, and must hold the images of .*--data\.folder"
    ):
        read_coco(tmp_path, "train2017")


def test_images_in_subfolders(tmp_path: Path) -> None:
    """A file name may be a path below images/<split>/."""
    content = coco_content([(2, 3, 1, 1, 2, 2)])
    content["images"][0]["file_name"] = "cam/1/a.jpg"
    write_coco(tmp_path, content)
    folder = tmp_path / "images/train2017"
    (folder / "cam/1").mkdir(parents=True)
    (folder / "a.jpg").rename(folder / "cam/1/a.jpg")
    assert read_coco(tmp_path, "train2017").files.tolist() == [b"cam/1/a.jpg", b"b.jpg"]


def test_a_scan_goes_on(tmp_path: Path) -> None:
    """Five different problems, and the sound objects beside them."""
    content = coco_content([(7, 3, 1, 1, 2, 2), (8, 3, 1, 1, 2, 2), (7, 4, 1, 1, 2, 2), (2, 90, 1, 1, 2, 2)])
    content["annotations"] += [{"image_id": 7}, {"image_id": 7, "category_id": 3}]
    write_coco(tmp_path, content)
    (tmp_path / "images/train2017/a.jpg").unlink()
    raw = scan_coco(tmp_path, "train2017")
    assert [problem.kind for problem in raw.problems] == [
        Kind.UNREADABLE_ANNOTATION,
        Kind.MISSING_IMAGE,
        Kind.UNKNOWN_IMAGE,
        Kind.UNKNOWN_CLASS,
        Kind.NO_BOX,
    ]
    assert raw.boxes.tolist() == [[1, 1, 3, 3], [1, 1, 3, 3]]
    assert raw.missing.tolist() == [True, False]


# ---- what people really have -----------------------------------------------------------------------------------------


def test_sizes_as_floats_or_from_the_pictures(tmp_path: Path) -> None:
    """96.0 is a size; none, null, 0 and 400 digits are none: the pictures', upright as EXIF says, and counted."""
    content = coco_content([(7, 3, 0, 0, 60, 9)])
    content["images"] = [
        {"id": 7, "file_name": "a.jpg", "width": 40.0, "height": 30.0},
        *(
            {"id": n, "file_name": f"b{n}.jpg", "width": w, "height": 10}
            for n, w in enumerate((None, 0, 10**400, 2.5, "20"))
        ),
        {"id": 5, "file_name": "b.jpg"},
        {"id": 6, "file_name": "turned.jpg"},
    ]
    write_coco(tmp_path, content)
    for number in range(5):
        write_image(tmp_path / f"images/train2017/b{number}.jpg", 20, 10)
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 5)).save(tmp_path / "images/train2017/turned.jpg", exif=exif)
    found = read_coco(tmp_path, "train2017")
    assert found.sizes.tolist() == [[30, 40], *[[10, 20]] * 6, [8, 5]]
    assert found.boxes.tolist() == [[0, 0, 40, 9]]
    assert found.filled == {"image sizes that are not stated": 7}
    (tmp_path / "images/train2017/turned.jpg").write_text("404")
    with pytest.raises(DataError, match=r"turned\.jpg: "):
        read_coco(tmp_path, "train2017")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".gif", ".ppm"])
def test_the_size_of_a_picture(tmp_path: Path, suffix: str) -> None:
    """Of every kind, as it is decoded."""
    Image.new("RGB", (7, 4)).save(tmp_path / f"x{suffix}")
    assert image_size(tmp_path / f"x{suffix}") == (4, 7)


def test_null_stands_for_absent(tmp_path: Path) -> None:
    """iscrowd and area; without a box an object is skipped."""
    content = coco_content([(7, 3, 1, 1, 2, 3), (7, 3, 1, 1, 2, 2), (7, 90, 0, 0, 5, 5)])
    content["annotations"][0] |= {"iscrowd": None, "area": None}
    content["annotations"][1]["bbox"] = []
    del content["annotations"][2]["bbox"]
    found = read(tmp_path, content)
    assert (found.boxes.tolist(), found.ignored.tolist()) == ([[1, 1, 3, 4]], [False])
    assert found.skipped == {"objects without a box": 2}
    assert found.truth is not None
    assert found.truth.areas.tolist() == [6]


def test_annotations_of_unlisted_images(tmp_path: Path) -> None:
    """Skipped and counted."""
    found = read(tmp_path, coco_content([(8, 3, 1, 1, 2, 2), (7, 3, 1, 1, 2, 3), (9, 3, 1, 1, 2, 2)]))
    assert (found.num_boxes, found.skipped) == (1, {"annotations of unlisted images": 2})


@pytest.mark.parametrize("area", [-5, -1e300, 1.1e10, NAN, INFINITY])
def test_an_area_that_is_none(tmp_path: Path, area: float) -> None:
    """The box's is taken, in the evaluation too, where COCO's own tools judge by it: named, counted, AP 1."""
    content = coco_content([(7, 3, 1, 1, 20, 10), (2, 3, 1, 1, 5, 5)])
    content["annotations"][0]["area"] = area
    found = read(tmp_path, content)
    assert found.filled == {"areas that are none": 1}
    assert found.truth is not None
    assert found.truth.areas.tolist() == [200, 25]
    (problem,) = (one for one in box_problems(scan_coco(tmp_path, "train2017")) if one.kind == Kind.BAD_AREA)
    assert str(problem).endswith(f"of class 'dog' has the area {area:g}, expected one from 0 to 1e+10")
    rows = np.repeat(found.image_ids, np.diff(found.offsets))
    perfect = Predictions(rows, found.boxes, np.ones(2, np.float32), found.labels)
    assert CocoEvaluator(found).evaluate(perfect).metrics["AP"] == pytest.approx(1)


LAYOUTS = {
    "2017": ("annotations/instances_{}.json", "images/{}"),
    "the official archives": ("annotations/instances_{}.json", "{}"),
    "one folder of images": ("annotations/instances_{}.json", "images"),
    "Roboflow": ("{}/_annotations.coco.json", "{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    """The same data, wherever it lies; an image that is gone is looked for there."""
    file, folder = (tmp_path / name.format("train2017") for name in LAYOUTS[layout])
    write_coco(tmp_path / "usual", coco_content([(7, 3, 1, 1, 2, 2)]))
    folder.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "usual/images/train2017").rename(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "usual/annotations/instances_train2017.json").rename(file)
    found = read_coco(tmp_path, "train2017")
    assert (found.folder, found.source, found.boxes.tolist()) == (folder, file, [[1, 1, 3, 3]])
    options = {"train_splits": ("train2017",), "val_splits": ("train2017",), "train_transforms": ()}
    data = CocoData(folder=str(tmp_path), input_size=40, **options)  # pyright: ignore[reportArgumentType]
    assert COCO_FORMAT.images(tmp_path, data) == [folder / "a.jpg", folder / "b.jpg"]
    (folder / "b.jpg").unlink()
    with pytest.raises(DataError, match=rf"^{folder}/b\.jpg: the file is missing"):
        read_coco(tmp_path, "train2017")


def test_roboflows_first_category_is_none(tmp_path: Path) -> None:
    """It stands above the others and has no object; a class that nobody has seen, or that has objects, stays."""
    above = {"id": 0, "name": "pets", "supercategory": "none"}
    below = [{"id": n, "name": name, "supercategory": "pets"} for n, name in ((1, "cat"), (2, "pets"))]
    found = read(tmp_path, coco_content([(7, 1, 1, 1, 2, 2)], categories=[above, *below]))
    assert (found.class_names, found.category_ids) == (["cat", "pets"], [1, 2])
    assert found.skipped == {"placeholder class": 1}
    boxes = [(7, 0, 1, 1, 2, 2), (7, 1, 1, 1, 2, 2)]
    assert read(tmp_path, coco_content(boxes, categories=[above, below[0]])).class_names == ["pets", "cat"]


def test_file_names_that_no_file_can_have(tmp_path: Path) -> None:
    """More than 255 bytes, of the file or of a folder: missing like any other."""
    for name in ("x" * 256 + ".jpg", "y" * 300 + "/z.jpg"):
        images = [*coco_content()["images"], {"id": 1, "file_name": name, "width": 9, "height": 9}]
        with pytest.raises(DataError, match=r"images/train2017/(x{256}|y{300}/z)\.jpg: the file is missing"):
            read(tmp_path, coco_content(images=images))


@pytest.mark.slow
def test_many_classes_take_linear_time(tmp_path: Path) -> None:
    """200,000 of them: what looks at every pair would take minutes."""
    categories = [{"id": n, "name": f"class {n}"} for n in range(200_000)]
    found = read(tmp_path, coco_content([(7, 3, 1, 1, 2, 2)], categories=categories))
    assert (len(found.class_names), found.labels.tolist()) == (200_000, [3])


def test_a_text_that_is_no_utf_8(tmp_path: Path) -> None:
    """One sentence, whichever decoder met it first."""
    path = write_coco(tmp_path, coco_content([(7, 3, 1, 1, 2, 2)]))
    path.write_bytes(path.read_bytes().replace(b"a.jpg", b"a\xa8.jpg"))
    with pytest.raises(DataError, match=r"is not JSON, or was cut short: 'utf-8' codec can't decode byte 0xa8"):
        read_coco(tmp_path, "train2017")


def test_a_picture_with_two_ids(tmp_path: Path) -> None:
    """As when files of several people are joined: what only one of them drew would be background for the other."""
    images = [{"id": number, "file_name": "a.jpg", "width": 40, "height": 30} for number in (7, 8)]
    with pytest.raises(DataError, match=r"the image a\.jpg has 2 ids, expected one with all of its objects\.$"):
        read(tmp_path, coco_content([(7, 3, 1, 1, 2, 2)], images=images))


@pytest.mark.parametrize(
    ("outline", "expected"),
    [
        ([[2, 3, 12, 3, 7, 8.5]], [[2, 3, 12, 8.5]]),
        ([[2, 3, 12, 3, 7, 8.5], [1, 20, 5, 20, 5, 25]], [[1, 3, 12, 25]]),
        ([], []),
        ([[2, 3]], []),
        ([["a"] * 6], []),
        ({"counts": [5, 5], "size": [30, 40]}, []),
    ],
)
def test_an_object_that_has_an_outline_alone(outline: Any, expected: list[list[float]], tmp_path: Path) -> None:
    """The box of its polygons is taken; without any it has none."""
    content = coco_content()
    content["annotations"] = [{"image_id": 7, "category_id": 3, "segmentation": outline}]
    found = read(tmp_path, content)
    assert found.boxes.tolist() == expected
    assert found.skipped == ({} if expected else {"objects without a box": 1})


def test_folders_as_windows_writes_them(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "train2017\\a.jpg", "width": 40, "height": 30}]
    found = read(tmp_path, coco_content([(7, 3, 1, 1, 2, 2)], images=images))
    assert found.files.tolist() == [b"train2017/a.jpg"]
    assert (found.folder / "train2017/a.jpg").is_file()


def written_by_predict(folder: Path, *sources: str, categories: Sequence[dict[str, Any]] = ()) -> Path:
    """Results with a box in each picture, counted from 1, and which picture each number is."""
    rows = [{"image_id": n, "category_id": 3, "bbox": [n, 0, 5, 5], "score": 0.5} for n in range(1, len(sources) + 1)]
    images = [{"id": n, "file_name": source} for n, source in enumerate(sources, 1)]
    (folder / "coco_images.json").write_text(json.dumps({"images": images, "categories": categories}))
    (folder / "coco_results.json").write_text(json.dumps(rows))
    return folder / "coco_results.json"


def test_results_of_predict_go_by_the_pictures_names(tmp_path: Path) -> None:
    """Whose numbers are its own: a.jpg is image 7 of the split, and b.jpg is 2. A number in a name is none of these."""
    split = read(tmp_path, coco_content([]))
    found = read_coco_results([written_by_predict(tmp_path, "/photos/b.jpg", "/photos/a.png")], split).predictions
    assert (found.image_ids.tolist(), found.boxes[:, 0].tolist()) == ([2, 7], [1, 2])
    with pytest.raises(
        DataError, match=r"has detections in 002\.jpg, as .* expected are the 2 images of this split of .*alone"
    ):
        read_coco_results([written_by_predict(tmp_path, "a.jpg", "002.jpg")], split)
    with pytest.raises(
        DataError, match=r"coco_results\.json has detections in /photos/c\.jpg, as coco_images\.json besid"
    ):
        read_coco_results([written_by_predict(tmp_path, "/photos/b.jpg", "/photos/c.jpg")], split)
    write_coco_json(tmp_path / "predictions.json", found, split)  # a report, into the folder of predict's
    with pytest.raises(
        DataError, match=r"coco_images\.json was written for predictions\.json, and replaced the one of coco_r"
    ):
        read_coco_results([tmp_path / "coco_results.json"], split)
    (tmp_path / "coco_images.json").write_text("[]")
    with pytest.raises(
        DataError, match=r"coco_images\.json, which names the images of coco_results\.json, is not as it"
    ):
        read_coco_results([tmp_path / "coco_results.json"], split)


def test_results_of_a_picture_that_was_turned_meanwhile(tmp_path: Path) -> None:
    """a.jpg has 30 rows of 40 pixels in the split: boxes of it upright lie elsewhere, those of b.jpg do not."""
    split = read(tmp_path, coco_content([]))
    for sizes, refused in (({"a": (40, 30), "b": (10, 20)}, True), ({"a": (30, 40), "b": (10, 20)}, False)):
        path = written_by_predict(tmp_path, "a.jpg", "b.jpg")
        images = [
            {"id": n, "file_name": f"{name}.jpg", "height": height, "width": width}
            for n, (name, (height, width)) in enumerate(sizes.items(), 1)
        ]
        (tmp_path / "coco_images.json").write_text(json.dumps({"images": images, "categories": []}))
        if refused:
            words = r"in 1 images that .* has in another size, height x width: a\.jpg \(40x30 there, 30x40 here\)\."
            with pytest.raises(DataError, match=words):
                read_coco_results([path], split)
        else:
            assert read_coco_results([path], split).predictions.image_ids.tolist() == [7, 2]


def test_results_of_predict_go_by_the_names_of_classes(tmp_path: Path) -> None:
    """Whatever numbers these have where the detector was trained."""
    split = read(tmp_path, coco_content([]))
    for name, label in zip(split.class_names, range(2), strict=True):
        path = written_by_predict(tmp_path, "b.jpg", categories=[{"id": 3, "name": name}, {"id": 9, "name": "other"}])
        assert read_coco_results([path], split).predictions.labels.tolist() == [label]
    path = written_by_predict(tmp_path, "b.jpg", categories=[{"id": 3, "name": "horse"}])
    with pytest.raises(DataError, match=r"has detections of horse, as coco_images\.json beside it says, and .* has 2"):
        read_coco_results([path], split)


def test_results_of_a_report_go_by_names_in_any_encoding(tmp_path: Path) -> None:
    split = read(tmp_path, coco_content([]))
    split = DetectionAnnotations(**{**vars(split), "files": np.array([b"\xff.jpg", b"b.jpg"])})
    found = Predictions(np.array([7]), np.array([[1.0, 2, 3, 4]]), np.array([0.5]), np.array([0]))
    write_coco_json(tmp_path / "predictions.json", found, split)
    assert read_coco_results([tmp_path / "predictions.json"], split).predictions.image_ids.tolist() == [7]


def test_results_of_predict_in_folders_of_equal_names(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{place}/x.jpg", "height": 9, "width": 9} for n, place in ((5, "a"), (4, "b"))]
    for place in ("a", "b"):
        write_image(tmp_path / "images/train2017" / place / "x.jpg", 9, 9)
    split = read(tmp_path, coco_content([], images=images))
    found = read_coco_results([written_by_predict(tmp_path, "/photos/b/x.jpg", "/photos/a/x.jpg")], split).predictions
    assert found.image_ids.tolist() == [4, 5]
    with pytest.raises(DataError, match=r"has detections in /photos/x\.jpg, as"):
        read_coco_results([written_by_predict(tmp_path, "/photos/x.jpg")], split)
