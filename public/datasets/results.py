"""Files of results that anyone wrote, in COCO's and in VOC's format, read in float64 against the images of a split.

Whatever is wrong with them is one sentence that names the file and the line or entry: a detection that is passed over
in silence would be a wrong number.
"""

import json
import math
import os
import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from public.config.names import first_few
from public.config.record import class_summary
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.predictions import Predictions, WrittenPredictions, with_sides

IMAGES_FILE = "coco_images.json"
"""Beside results that we wrote: which picture and which class each number is, as in a data set's own file."""


class Detection(msgspec.Struct, gc=False):
    """An entry of COCO's results; what else it may hold is passed over."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    """Left, top, width, height."""
    score: float


# ---- COCO ------------------------------------------------------------------------------------------------------------


def read_coco_results(
    paths: Sequence[Path], annotations: DetectionAnnotations, *, whole: bool = False
) -> WrittenPredictions:
    """Reads one file in COCO's results format: a list of {image_id, category_id, bbox, score}.

    Args:
        paths: of the file.
        annotations: of the split, which give ids their meaning: those of the data set, or those that our own files have
            where it has none (images from 0, classes from 1). Where `IMAGES_FILE` lies beside the results, images and
            classes go by their names.
        whole: whether that file must name as many images as the split has.

    Raises:
        DataError: there is more than one file; it cannot be read; an entry is malformed, or of an image or a category
            that the split does not have; or the split has other images.
    """
    if len(paths) != 1:
        raise DataError(f"{len(paths)} files of COCO's format are given, expected one with all detections.")
    (path,) = paths
    found = _by_name(path, _decode(path), annotations, whole)
    labels = {number: label for label, number in enumerate(annotations.category_ids)}
    image_ids = [one.image_id for one in found]
    _check_known(path, "image_id", image_ids, set(annotations.image_ids.tolist()), annotations)
    _check_known(path, "category_id", [one.category_id for one in found], labels, annotations)
    written = np.array([one.bbox for one in found], dtype=np.float64).reshape(-1, 4)
    return WrittenPredictions(
        Predictions(
            np.array(image_ids, dtype=np.int64),
            np.concatenate([written[:, :2], written[:, :2] + written[:, 2:]], axis=1),
            np.array([one.score for one in found], dtype=np.float64),
            np.array([labels[one.category_id] for one in found], dtype=np.int64),
        ),
        sides=written[:, 2:],
    )


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: int | None = None
    width: int | None = None


class _Category(msgspec.Struct):
    id: int
    name: str


class _Named(msgspec.Struct):
    """What the numbers in a file of results mean."""

    images: list[_Image]
    categories: list[_Category]
    results: str = ""
    """The name of the file that it was written beside; empty in older ones."""


def names_text(results: str, images: Iterable[tuple[int, str, int, int]], categories: Iterable[tuple[int, str]]) -> str:
    """What `IMAGES_FILE` holds: of images the number, name, height and width, of categories the number and the name.

    Args:
        results: the name of the file of results that it lies beside.
        images: those of all pictures.
        categories: those of all classes.
    """
    content = {
        "results": results,
        "images": [
            {"id": number, "file_name": _as_text(name), "height": height, "width": width}
            for number, name, height, width in images
        ],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    return json.dumps(content, indent=1) + "\n"


def _as_text(name: str) -> str:
    """A file's name in UTF-8, which not all are, and of which readers of JSON take nothing else."""
    return name.encode(errors="backslashreplace").decode()


def _named_beside(path: Path) -> _Named | None:
    """What `IMAGES_FILE` beside a file of results says; None where there is none.

    Raises:
        DataError: it is no such file, or of another file of results that lies there too.
    """
    beside = path.with_name(IMAGES_FILE)
    if not beside.is_file():
        return None
    try:
        named = msgspec.json.decode(_read(beside), type=_Named)
    except msgspec.MsgspecError as error:
        text = f"{beside}, which names the images of {path.name}, is not as it was written: {error}."
        raise DataError(text) from error
    if named.results not in ("", path.name) and path.with_name(named.results).is_file():
        raise DataError(
            f"{beside} was written for {named.results}, and replaced the one of {path.name}, whose numbers nothing "
            "names now: write both into folders of their own."
        )
    return named


def _by_name(path: Path, found: list[Detection], annotations: DetectionAnnotations, whole: bool) -> list[Detection]:
    """With the split's numbers of the images and classes that `IMAGES_FILE` names; without such a file as they are.

    Predict counts pictures whose names are no numbers, and knows nothing of those of a data set.
    """
    named = _named_beside(path)
    if named is None:
        return found
    if whole and len(named.images) != annotations.num_images:
        raise DataError(
            f"{path} is of {len(named.images)} images, and {annotations.source} has {annotations.num_images} in this "
            "split: compare detections of the same images."
        )
    images = _numbers_of_images(path, named.images, {one.image_id for one in found}, annotations)
    classes = _numbers_of_classes(path, named.categories, {one.category_id for one in found}, annotations)
    return [
        msgspec.structs.replace(
            one,
            image_id=images.get(one.image_id, one.image_id),
            category_id=classes.get(one.category_id, one.category_id),
        )
        for one in found
    ]


def _numbers_of_classes(
    path: Path, categories: list[_Category], used: set[int], annotations: DetectionAnnotations
) -> dict[int, int]:
    """The split's number of each class that has detections."""
    own = dict(zip(annotations.class_names, annotations.category_ids, strict=True))
    unknown = [one.name for one in categories if one.id in used and one.name not in own]
    if unknown:
        raise DataError(
            f"{path} has detections of {first_few(unknown, 3)}, as {IMAGES_FILE} beside it says, and "
            f"{annotations.source} has {class_summary(annotations.class_names)}."
        )
    return {one.id: own[one.name] for one in categories if one.id in used}


def _numbers_of_images(
    path: Path, images: list[_Image], used: set[int], annotations: DetectionAnnotations
) -> dict[int, int | None]:
    """The split's number of each image, of which those with detections have one."""
    split: dict[str, list[tuple[Path, int]]] = {}
    for file, number in zip(annotations.files.tolist(), annotations.image_ids.tolist(), strict=True):
        name = Path(_as_text(os.fsdecode(file)))
        split.setdefault(name.stem, []).append((name, number))
    numbers = {one.id: _number_of(one, split) for one in images}
    unknown = [one.file_name for one in images if numbers[one.id] is None and one.id in used]
    if unknown:
        raise DataError(
            f"{path} has detections in {first_few(unknown, 3)}, as {IMAGES_FILE} beside it says; expected are the "
            f"{annotations.num_images} images of this split of {annotations.source} alone, each of a name that no "
            "other of them has."
        )
    _check_sizes(path, [(one, numbers[one.id]) for one in images if one.id in used], annotations)
    return numbers


def _check_sizes(path: Path, images: list[tuple[_Image, int | None]], annotations: DetectionAnnotations) -> None:
    """Raises DataError where a picture was predicted in another size, or turned, and boxes lie elsewhere."""
    sizes = dict(zip(annotations.image_ids.tolist(), annotations.sizes.tolist(), strict=True))
    differing = [
        f"{one.file_name} ({one.height}x{one.width} there, {sizes[number][0]}x{sizes[number][1]} here)"
        for one, number in images
        if number is not None and None not in (one.height, one.width) and [one.height, one.width] != sizes[number]
    ]
    if differing:
        raise DataError(
            f"{path} has detections in {len(differing)} images that {annotations.source} has in another size, height x "
            f"width: {first_few(differing, 3)}. Boxes would lie elsewhere; predict turns pictures upright, and "
            "evaluate --weights reads them as they are annotated (--data.orientation)."
        )


def _number_of(image: _Image, split: dict[str, list[tuple[Path, int]]]) -> int | None:
    """Of the image of that name; of several the one of the same type, and of those the one in the same folders."""
    source = Path(image.file_name)
    named = split.get(source.stem, [])
    if len(named) > 1:
        named = [(name, number) for name, number in named if name.name == source.name]
    if len(named) > 1:
        named = [(name, number) for name, number in named if source.parts[-len(name.parts) :] == name.parts]
    return named[0][1] if len(named) == 1 else None


def _decode(path: Path) -> list[Detection]:
    """The entries of a file; the slow decoder has its turn where the strict one refuses, and says what is wrong."""
    content = _read(path)
    try:
        return msgspec.json.decode(content, type=list[Detection])
    except msgspec.MsgspecError:
        pass
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON, or was cut short: {error}.") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} holds a {type(rows).__name__}, expected a list of detections, each with {_KEYS}.")
    if rows and isinstance(rows[0], dict) and {"image", "predictions"} <= rows[0].keys():
        raise DataError(
            f"{path} is in the own format of python -m public.apps.predict, an entry for each picture; expected COCO's "
            "results, which its --save coco_results writes (coco_images.json beside them has the images' numbers)."
        )
    return [_detection(path, number, row) for number, row in enumerate(rows)]


def _detection(path: Path, number: int, row: Any) -> Detection:
    if not isinstance(row, dict):
        raise DataError(f"{path}: [{number}] is a {type(row).__name__}, expected an object with {_KEYS}.")
    for key, (fits, expected) in _FIELDS.items():
        if key not in row:
            raise DataError(f"{path}: [{number}] lacks the key {key!r}; expected {_KEYS}.")
        if not fits(row[key]):
            raise DataError(f"{path}: [{number}] has {key} = {reprlib.repr(row[key])}, expected {expected}.")
    left, top, width, height = map(float, row["bbox"])
    ids = int(row["image_id"]), int(row["category_id"])
    return Detection(ids[0], ids[1], (left, top, width, height), float(row["score"]))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _is_id(value: Any) -> bool:
    return _is_number(value) and value == math.floor(value)  # 42.0 is what arrays of floats leave


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_LARGEST = 1.7e308  # whole numbers of JSON have no end
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "image_id": (_is_id, "a whole number"),
    "category_id": (_is_id, "a whole number"),
    "bbox": (_is_box, "four finite numbers: x, y, width, height"),
    "score": (_is_number, "a finite number"),
}
_KEYS = f"the keys {[*_FIELDS]}"


# ---- VOC -------------------------------------------------------------------------------------------------------------


def read_voc_results(paths: Sequence[Path], annotations: DetectionAnnotations) -> WrittenPredictions:
    """Reads files in the format of VOC's devkit, comp4_det_<set>_<class>.txt; a class without a file has no detection.

    A line is an image's name without its extension, the score, and the first and last column and row of pixels that
    belong to the box, counted from 1: a box covers xmin - 1 to xmax.

    Args:
        paths: of the files.
        annotations: of the split, which has the images and classes.

    Raises:
        DataError: a file cannot be read, or is of no class or of that of another file; a line is malformed, or of an
            image that the split does not have, or has twice.
    """
    stems = [Path(os.fsdecode(name)).stem for name in annotations.files.tolist()]
    images = dict(zip(stems, annotations.image_ids.tolist(), strict=True))
    repeated = {stem for stem, count in Counter(stems).items() if count > 1}
    files: dict[int, Path] = {}
    image_ids: list[int] = []
    numbers = [np.zeros((0, 5))]
    for path in paths:
        label = _label_of(path, annotations)
        if label in files:
            raise DataError(f"{files[label]} and {path} are both of class {annotations.class_names[label]!r}.")
        files[label] = path
        names, table = _voc_lines(path)
        _check_known(path, "image", names, images, annotations)
        if twice := next((name for name in names if name in repeated), None):
            raise DataError(f"{path} names the image {twice!r}, and {annotations.source} has more than one called so.")
        image_ids += [images[name] for name in names]
        numbers.append(table)
    labels = np.repeat([*files, 0], [*map(len, numbers[1:]), 0]).astype(np.int64)
    scores, boxes = np.split(np.concatenate(numbers), [1], axis=1)
    boxes -= (1, 1, 0, 0)
    predictions = Predictions(np.array(image_ids, dtype=np.int64), boxes, scores[:, 0], labels)
    return with_sides(predictions)


def voc_file_ends(class_names: Sequence[str]) -> list[str]:
    """How the name of each class's file ends: what no file can be called is replaced or cut, and then numbered."""
    ends: dict[str, None] = {}
    for label, class_name in enumerate(class_names):
        end = class_name.replace("/", "_").encode()[:200].decode(errors="ignore")
        ends[f"{end}_{label}" if end in ends else end] = None
    return [*ends]


def _label_of(path: Path, annotations: DetectionAnnotations) -> int:
    """The class of which a file is: the one with the longest name at its end."""
    ends = {f"_{end}": label for label, end in enumerate(voc_file_ends(annotations.class_names))}
    found = [end for end in ends if path.stem.endswith(end)]
    if path.suffix != ".txt" or not found:
        raise DataError(
            f"{path} is of none of the {class_summary(annotations.class_names)} of {annotations.source}; expected "
            "comp4_det_<set>_<class>.txt."
        )
    return ends[max(found, key=len)]


def _voc_lines(path: Path) -> tuple[list[str], np.ndarray]:
    """The images that the lines of a file name, and the five numbers behind each, float64 [D, 5]."""
    names: list[str] = []
    numbers: list[list[float]] = []
    for row, line in enumerate(_read(path).decode(errors="surrogateescape").splitlines(), start=1):
        name, *texts = line.strip().rsplit(maxsplit=5) or [""]
        try:
            values = [float(text) for text in texts]
        except ValueError:
            values = []
        if name and (len(values) != 5 or not all(map(math.isfinite, values))):
            raise DataError(
                f"{path}, line {row} is {reprlib.repr(line)}, expected an image's name and five finite numbers: score, "
                "xmin, ymin, xmax, ymax."
            )
        if name:
            names.append(name)
            numbers.append(values)
    return names, np.array(numbers, dtype=np.float64).reshape(-1, 5)


# ---- both ------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"the results {path} cannot be read: {error.strerror}.") from error


def _check_known(
    path: Path, what: str, values: Sequence[Any], known: Collection[Any], annotations: DetectionAnnotations
) -> None:
    """Refuses detections in images or of classes that the split does not have."""
    others = Counter(value for value in values if value not in known)
    if others:
        named = first_few([str(value) for value in sorted(others)], 5)
        raise DataError(
            f"{path}: {others.total()} of {len(values)} detections have {what} {named}, which {annotations.source} "
            "does not have. Are they of this split?"
        )
