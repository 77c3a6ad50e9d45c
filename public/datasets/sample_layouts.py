"""The generated data sets on disk, each in the layout of the real one.

    ILSVRC2012/{train,val}/<shape>/*.jpg                   the class is the shape; the texture is random
    CIFAR100/cifar-100-python/{train,test,meta}            100 classes, shape x texture; coarse label = shape
    COCO2017/annotations/instances_{train,val}2017.json    boxes, polygons, crowds; some images hold nothing
    COCO2017/images/{train,val}2017/*.jpg
    VOCdataset/VOC{2007,2012}/{JPEGImages,Annotations,ImageSets/Main}
    VOCdataset/classes.txt                                 one class name a line

Where the real data sets annotate what can be seen of an object, these annotate its full shape clipped to the
image, with the part behind another object: exact truth, as it follows from the numbers that drew the picture.

Every picture is a function of (seed, split, index), so equal settings give equal bytes, and a larger data set
begins with the pictures of a smaller one. (Another release of OpenCV may encode a picture differently.)

Every ``write_*`` makes its folder and returns the number of images.
"""

import json
import pickle
import struct
from enum import IntEnum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

from public.datasets.sample_scenes import (
    SHAPES,
    TEXTURES,
    SceneObject,
    classification_scene,
    clip_polygon,
    detection_scene,
    polygon_area,
)

CIFAR100_CLASSES: tuple[str, ...] = tuple(f"{shape}_{texture}" for shape in SHAPES for texture in TEXTURES)
"""Fine class names, sorted as the real ones are; fine label = 10 * shape + texture."""

COCO_CATEGORY_IDS: tuple[int, ...] = (1, 2, 4, 7, 13, 18, 27, 44, 62, 90)
"""Category id of each shape, with gaps as in COCO: code that takes ids for labels fails here too."""


class _Split(IntEnum):
    """Keeps the random draws of the splits apart. Renumbering changes every picture."""

    IMAGENET_TRAIN = 0
    IMAGENET_VAL = 1
    CIFAR100_TRAIN = 2
    CIFAR100_TEST = 3
    COCO_TRAIN = 4
    COCO_VAL = 5
    VOC2007 = 6
    VOC2012 = 7


def _rng(seed: int, split: _Split, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, int(split), index]))


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] BGR."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    path.write_bytes(data.tobytes())


# ILSVRC2012 -------------------------------------------------------------------------------------------------


def write_imagenet(folder: Path, seed: int, train_per_class: int, val_per_class: int) -> int:
    """A folder a split, in it a folder a class, in it images of 80 to 140 pixels a side."""
    _write_class_folders(folder / "train", seed, _Split.IMAGENET_TRAIN, train_per_class)
    _write_class_folders(folder / "val", seed, _Split.IMAGENET_VAL, val_per_class)
    return (train_per_class + val_per_class) * len(SHAPES)


def _write_class_folders(folder: Path, seed: int, split: _Split, per_class: int) -> None:
    for name in SHAPES:
        (folder / name).mkdir(parents=True)
    for index in range(per_class * len(SHAPES)):
        number, shape = divmod(index, len(SHAPES))
        rng = _rng(seed, split, index)
        height, width = map(int, rng.integers(80, 141, 2))
        texture = int(rng.integers(len(TEXTURES)))
        image = classification_scene(rng, shape, texture, height=height, width=width)
        _write_jpeg(folder / SHAPES[shape] / f"{SHAPES[shape]}_{number:05d}.jpg", image)


# CIFAR100 ---------------------------------------------------------------------------------------------------


def write_cifar100(folder: Path, seed: int, num_train: int, num_test: int) -> int:
    """Three pickles with the keys and types of the published archive (whose checksums they cannot have)."""
    python_folder = folder / "cifar-100-python"
    python_folder.mkdir(parents=True)
    contents = {
        "train": _cifar100_batch(seed, _Split.CIFAR100_TRAIN, num_train, b"training batch 1 of 1"),
        "test": _cifar100_batch(seed, _Split.CIFAR100_TEST, num_test, b"testing batch 1 of 1"),
        "meta": {
            b"fine_label_names": [name.encode() for name in CIFAR100_CLASSES],
            b"coarse_label_names": [name.encode() for name in SHAPES],
        },
    }
    for name, content in contents.items():
        (python_folder / name).write_bytes(_pickle_like_python2(content))
    return num_train + num_test


def _cifar100_batch(seed: int, split: _Split, count: int, title: bytes) -> dict[bytes, Any]:
    """The content of one file.

    37 and 100 have no common divisor: the labels are mixed and yet come once in every hundred images.
    """
    labels = [37 * index % len(CIFAR100_CLASSES) for index in range(count)]
    return {
        b"filenames": [f"{CIFAR100_CLASSES[c]}_s_{i:06d}.png".encode() for i, c in enumerate(labels)],
        b"batch_label": title,
        b"fine_labels": labels,
        b"coarse_labels": [label // len(TEXTURES) for label in labels],
        b"data": np.stack([_cifar100_row(_rng(seed, split, i), label) for i, label in enumerate(labels)]),
    }


def _cifar100_row(rng: np.random.Generator, label: int) -> np.ndarray:
    """One image as uint8 [3072]: the red plane row by row, then the green, then the blue one."""
    shape, texture = divmod(label, len(TEXTURES))
    image = classification_scene(rng, shape, texture, height=32, width=32)
    return image[:, :, ::-1].transpose(2, 0, 1).reshape(-1)  # [32, 32, BGR] -> [RGB, 32, 32] -> [3072]


def _pickle_like_python2(value: Any) -> bytes:
    """Pickle as Python 2 pickled the published archive.

    Python 3 reads such strings as bytes with ``encoding="bytes"``, as str with ``encoding="latin1"``. Readers
    of the real archive rely on one or the other; ``pickle.dumps`` can write no file that serves both.
    """
    return pickle.PROTO + b"\x02" + _opcodes(value) + pickle.STOP


def _opcodes(value: Any) -> bytes:
    """Protocol 2 opcodes that leave ``value`` on the stack."""
    match value:
        case None:
            return pickle.NONE
        case bool():
            return pickle.NEWTRUE if value else pickle.NEWFALSE
        case int():
            return pickle.BININT + struct.pack("<i", value)
        case bytes():
            return pickle.BINSTRING + struct.pack("<i", len(value)) + value
        case tuple():
            return pickle.MARK + b"".join(map(_opcodes, value)) + pickle.TUPLE
        case list():
            return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(_opcodes, value)) + pickle.APPENDS
        case dict():
            items = b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items())
            return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
        case np.ndarray():
            return _array_opcodes(value)
    raise TypeError(f"no opcodes for {type(value)}")


def _array_opcodes(array: np.ndarray) -> bytes:
    """The calls that rebuild a uint8 array, under the names they had in numpy 1 (numpy 2 knows them too)."""
    assert array.dtype == np.uint8
    empty = pickle.MARK + _global("numpy", "ndarray") + _opcodes((0,)) + _opcodes(b"b") + pickle.TUPLE
    array_of_nothing = _global("numpy.core.multiarray", "_reconstruct") + empty + pickle.REDUCE
    dtype = _global("numpy", "dtype") + _opcodes((b"u1", False, True)) + pickle.REDUCE
    dtype += _opcodes((3, b"|", None, None, None, -1, -1, 0)) + pickle.BUILD
    version, is_fortran = 1, False
    state = pickle.MARK + _opcodes(version) + _opcodes(array.shape) + dtype
    state += _opcodes(is_fortran) + _opcodes(array.tobytes()) + pickle.TUPLE
    return array_of_nothing + state + pickle.BUILD


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


# COCO2017 ---------------------------------------------------------------------------------------------------


def write_coco(folder: Path, seed: int, num_train: int, num_val: int) -> int:
    """One annotation file and one folder of images a split."""
    (folder / "annotations").mkdir(parents=True)
    splits = (("train2017", _Split.COCO_TRAIN, num_train), ("val2017", _Split.COCO_VAL, num_val))
    for name, split, count in splits:
        content = _coco_split(folder / "images" / name, seed, split, count)
        (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return num_train + num_val


def _coco_split(images_folder: Path, seed: int, split: _Split, count: int) -> dict[str, Any]:
    """Write the images of a split and return the content of its annotation file."""
    images_folder.mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        header, of_image = _coco_image(images_folder, seed, split, index)
        images.append(header)
        for annotation in of_image:
            number = len(annotations) + 1
            annotations.append({"id": 2 * number + split, "image_id": header["id"], **annotation})
    categories = [
        {"id": category_id, "name": name, "supercategory": "shape"}
        for category_id, name in zip(COCO_CATEGORY_IDS, SHAPES, strict=True)
    ]
    return {
        "info": {
            "description": "Generated sample in the layout of COCO 2017",
            "year": 2017,
            "version": "1.0",
        },
        "licenses": [{"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"}],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _coco_image(folder: Path, seed: int, split: _Split, index: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write one image; return its entry and the annotations it has, both still without numbers of their own.

    Of every 16 images, number 7 (from 0) holds no object, numbers 3 and 11 hold a crowd.
    """
    rng = _rng(seed, split, index)
    height, width = map(int, rng.integers(120, 201, 2))
    num_objects = 0 if index % 16 == 7 else int(rng.integers(1, 7))
    image, objects = detection_scene(
        rng, height=height, width=width, num_objects=num_objects, with_crowd=index % 8 == 3, min_visible=0.6
    )
    image_id = 3 * index + int(split)  # no id is in both splits, and none is a row number
    header = {
        "id": image_id,
        "file_name": f"{image_id:012d}.jpg",
        "height": height,
        "width": width,
        "license": 1,
    }
    _write_jpeg(folder / header["file_name"], image)
    return header, [_coco_annotation(one, height, width) for one in objects]


def _coco_annotation(one: SceneObject, height: int, width: int) -> dict[str, Any]:
    """Category, outline, area (square pixels) and box (x, y, w, h in pixels)."""
    if one.is_crowd:
        mask = one.mask(height, width)
        segmentation: Any = {"counts": run_lengths(mask), "size": [height, width]}
        corners, area = np.argwhere(mask)[:, ::-1], int(mask.sum())
        low, high = corners.min(0), corners.max(0) + 1
    else:
        polygon = clip_polygon(one.sprites[0].polygon(), height, width).round(2)
        segmentation, area = [polygon.ravel().tolist()], round(polygon_area(polygon), 2)
        low, high = polygon.min(0), polygon.max(0)
    return {
        "category_id": COCO_CATEGORY_IDS[one.shape],
        "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
        "area": area,
        "iscrowd": int(one.is_crowd),
        "segmentation": segmentation,
    }


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths of a bool [H, W] mask: down the columns, False first, then in turns."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(changes, prepend=0, append=flat.size).tolist()
    return [0, *lengths] if flat[0] else lengths


# VOCdataset -------------------------------------------------------------------------------------------------


def write_voc(folder: Path, seed: int, per_year: int) -> int:
    """VOC2007 and VOC2012, whose test set is not public and missing here too."""
    turns_2007 = ("train", "test", "train", "test", "val", "test", "train", "test")
    _write_voc_year(folder / "VOC2007", seed, _Split.VOC2007, per_year, turns_2007)
    _write_voc_year(folder / "VOC2012", seed, _Split.VOC2012, per_year, ("train", "val", "train", "train"))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in SHAPES))
    return 2 * per_year


def _write_voc_year(folder: Path, seed: int, split: _Split, count: int, turns: tuple[str, ...]) -> None:
    """Images, annotations, and the image lists, which take the images in ``turns``."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    lists: dict[str, list[str]] = {name: [] for name in (*turns, "trainval")}
    for index in range(count):
        image_id = f"{index + 1:06d}" if split == _Split.VOC2007 else f"2012_{index + 1:06d}"
        _write_voc_image(folder, image_id, _rng(seed, split, index))
        image_set = turns[index % len(turns)]
        lists[image_set].append(image_id)
        if image_set != "test":
            lists["trainval"].append(image_id)
    for name, image_ids in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{one}\n" for one in image_ids))


def _write_voc_image(folder: Path, image_id: str, rng: np.random.Generator) -> None:
    """One image and its annotation."""
    height, width = map(int, rng.integers(120, 201, 2))
    image, objects = detection_scene(
        rng,
        height=height,
        width=width,
        num_objects=int(rng.integers(1, 7)),
        with_crowd=False,
        min_visible=0.25,
    )
    _write_jpeg(folder / "JPEGImages" / f"{image_id}.jpg", image)
    root = ElementTree.Element("annotation")
    _append(root, folder=folder.name, filename=f"{image_id}.jpg")
    _append(ElementTree.SubElement(root, "source"), database="Generated sample", annotation="VOC", image="drawn")
    _append(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    _append(root, segmented=0)
    for one in objects:
        _append_voc_object(root, one, height, width)
    ElementTree.indent(root, space="\t")
    text = ElementTree.tostring(root, encoding="unicode")
    (folder / "Annotations" / f"{image_id}.xml").write_text(text + "\n")


def _append_voc_object(root: ElementTree.Element, one: SceneObject, height: int, width: int) -> None:
    """One <object>: truncated where the image cuts it, difficult where less than half of it shows."""
    outline = one.sprites[0].polygon()
    clipped = clip_polygon(outline, height, width)
    is_truncated = polygon_area(clipped) < 0.99 * polygon_area(outline)
    element = ElementTree.SubElement(root, "object")
    _append(element, name=SHAPES[one.shape], pose="Unspecified", truncated=int(is_truncated))
    _append(element, difficult=int(one.visible < 0.5))
    # Pixels counted from 1, the last one included: from 0 they are left ... right - 1.
    (left, top), (right, bottom) = np.floor(clipped.min(0)).astype(int), np.ceil(clipped.max(0)).astype(int)
    _append(ElementTree.SubElement(element, "bndbox"), xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)


def _append(parent: ElementTree.Element, **texts: object) -> None:
    """Add a child with a text for each keyword, in their order."""
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)
