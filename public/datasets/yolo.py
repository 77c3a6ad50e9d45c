"""YOLO's format: a data.yaml that says where the images of each split lie, and a text file of labels for each image.

    data.yaml                 train, val, test: folders, lists of images (.txt), or lists of these; path: what they lie
                              below; names: of the classes, a list or a map by their numbers
    images/train/x.jpg        its labels in labels/train/x.txt: the last folder called images becomes labels; where
                              there is none, and where no such file is, beside the image

A line is a class's number, then center x, center y, width and height as shares of the upright image's sides; a sixth
number is a confidence and passed over; more are the corners of a polygon, whose bounding box is taken, or, where
data.yaml has a kpt_shape, keypoints behind the box, which are passed over. Images without lines, or without a file, are
images without objects. Format: https://docs.ultralytics.com/datasets/detect/.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import yaml

from public.config.detection import DetectionData
from public.config.names import first_few
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.decoding import EXTENSIONS, is_hidden
from public.datasets.format import DetectionFormat, Layout, choose_splits, purpose_of
from public.datasets.locations import where_to_get
from public.datasets.predictions import Predictions, rows_of_images
from public.datasets.scan import (
    Kind,
    Problem,
    RawAnnotations,
    class_name_problems,
    find_missing,
    is_file_name,
    names_in,
    size_or_problem,
    visible_files,
)
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text


@dataclass(frozen=True, kw_only=True)
class YoloData(DetectionData):
    """`file` of `folder`, and what it names; splits are its keys, such as train and val."""

    kind: ClassVar[str] = "yolo"
    default_metrics: ClassVar[str] = "coco"
    file: str = "data.yaml"
    """What names the splits and the classes: a path below `folder`."""


class _DataFile(NamedTuple):
    """A data.yaml as it was understood."""

    path: Path
    splits: dict[str, list[str]]
    """What each split's key names."""
    roots: list[Path]
    """What relative paths may lie below."""
    names: dict[int, str]
    """Of the classes, by the numbers that lines of labels have, rising."""
    keypoints: int
    """Numbers of keypoints behind each box."""


# ---- data.yaml -------------------------------------------------------------------------------------------------------


def read_data_file(path: Path) -> _DataFile:
    """What a data.yaml says.

    Raises:
        DataError: it is missing, no such file, or does not name its classes.
    """
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold the keys train, val and names; it holds a {type(content).__name__}.")
    splits = {key: _texts(value) for key, value in content.items() if _is_split(key)}
    splits = {key: entries for key, entries in splits.items() if entries}
    base = content.get("path") or "."
    if not isinstance(base, str):
        raise DataError(f"{path}: path must be a folder, got {base!r}.")
    roots = [path.parent / Path(base).expanduser(), path.parent]
    return _DataFile(path, splits, roots, _class_names(path, content), _keypoints(path, content))


def load_yaml(path: Path) -> Any:
    """A YAML file whose scalars all stay texts: no is a class and not False, and 1 is one and not a number.

    Raises:
        DataError: it is missing or no YAML.
    """
    try:
        # The base loader makes nothing but texts, lists and maps: even less than the safe one.
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; it must name splits and classes. {where_to_get(path)}") from error
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}.") from error


def _is_split(key: Any) -> bool:
    return isinstance(key, str) and key not in ("path", "names", "nc", "download", "kpt_shape", "flip_idx")


def _keypoints(path: Path, content: dict[Any, Any]) -> int:
    """Of a kpt_shape: the number of keypoints, and how many numbers each has."""
    shape = content.get("kpt_shape", ["0", "2"])
    is_pair = isinstance(shape, list) and len(shape) == 2
    if not is_pair or not all(isinstance(one, str) and one.isdecimal() for one in shape):
        raise DataError(f"{path}: kpt_shape must be two whole numbers, such as [17, 3], got {shape!r}.")
    return math.prod(map(int, shape))


def _texts(value: Any) -> list[str]:
    """A split's entry as a list of paths; what can be none is left out, as an empty split is."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one not in ("", "~", "null") and is_file_name(one)]


def _class_names(path: Path, content: dict[Any, Any]) -> dict[int, str]:
    names, number = content.get("names"), content.get("nc")
    if names is None and isinstance(number, str) and number.isdecimal() and len(number) < 7:
        names = [str(label) for label in range(int(number))]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise DataError(f"{path}: names must be a list of the classes, or a map from their numbers to them.")
    try:
        numbered = {int(key): name for key, name in names.items()}
    except ValueError as error:
        raise DataError(f"{path}: the keys of names must be the numbers of the classes ({error}).") from error
    if number is not None and str(len(numbered)) != number:
        raise DataError(f"{path}: nc says {number!r} classes, and names has {len(numbered)}.")
    return dict(sorted(numbered.items()))


# ---- images and labels -----------------------------------------------------------------------------------------------


def images_of(data_file: _DataFile, split: str, problems: list[Problem]) -> list[str]:
    """The image files of a split in the order in which they are named, each once; those of a folder sorted.

    Raises:
        DataError: there is no such split, what it names is not there, or holds no image.
    """
    path = data_file.path
    if split not in data_file.splits:
        raise DataError(f"{path} has no split {split!r}; it has {', '.join(data_file.splits) or 'none'}.")
    found: dict[str, None] = {}
    for entry in data_file.splits[split]:
        place = _place(data_file, entry)
        if place is None:
            raise DataError(f"{path}: {_nowhere(data_file, split, entry)}. {where_to_get(path)}")
        for image in _images_at(data_file, place, problems):
            if image in found:
                text = f"the image {image} is named a second time, expected each once in {split}"
                problems.append(Problem(Kind.REPEATED, str(path), text))
            found[image] = None
    if not found:
        raise DataError(f"{path}: {split} names no image ({', '.join(EXTENSIONS)}).")
    return [*found]


def _place(data_file: _DataFile, entry: str) -> Path | None:
    """Where an entry of data.yaml is. Roboflow writes ../train/images for train/images beside the file."""
    inner = entry
    while inner.startswith(("../", "..\\")):
        inner = inner[3:]
    names = (entry, inner, inner.replace("\\", "/"))
    candidates = [root / name for name in names for root in data_file.roots]
    return next((path for path in candidates if os.path.exists(path)), None)


def _nowhere(data_file: _DataFile, split: str, entry: str) -> str:
    """That an entry of a split has no place."""
    tried = " nor ".join(dict.fromkeys(str(root / entry) for root in data_file.roots))
    return f"{split} names {entry!r}, and there is no {tried}"


def _images_at(data_file: _DataFile, place: Path, problems: list[Problem]) -> Iterator[str]:
    """The images of a folder and all below it, of a list of images, or an image itself."""
    if place.is_dir():
        for file in visible_files(place, EXTENSIONS, problems):
            yield os.path.normpath(place / file)
    elif place.suffix.lower() in EXTENSIONS:
        yield os.path.normpath(place)
    else:
        try:
            lines = place.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise DataError(f"{place} cannot be read as a list of images: {error}.") from error
        for line in filter(None, map(str.strip, lines)):
            roots = [place.parent, *data_file.roots]
            options = [os.path.normpath(root / name) for name in (line, line.replace("\\", "/")) for root in roots]
            yield next((path for path in options if os.path.isfile(path)), options[0])


def label_file(image: str) -> str:
    """Where the labels of an image lie: the last folder called images becomes labels, or else they lie beside it."""
    stem = os.path.splitext(image)[0]
    above, _, below = stem.rpartition("/images/")
    inside = f"{above}/labels/{below}.txt"
    beside = f"{stem}.txt"
    return beside if not above or (not os.path.exists(inside) and os.path.exists(beside)) else inside


# ---- reading ---------------------------------------------------------------------------------------------------------


class _Object(NamedTuple):
    """One line of labels."""

    image: int
    number: int
    """Of its class."""
    box: tuple[float, float, float, float]
    """Center x, center y, width, height as shares."""


def read_labels(path: str, row: int, data_file: _DataFile, problems: list[Problem]) -> list[_Object]:
    """The objects of one image; what is wrong with its lines becomes problems.

    Args:
        path: of the labels.
        row: of the image.
        data_file: names the classes.
        problems: those met are appended.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problems.append(Problem(Kind.NO_ANNOTATION, path, "there is no such file: an image without objects", image=row))
        return []
    except (OSError, ValueError) as error:
        text = f"it cannot be read as text ({error})"
        problems.append(Problem(Kind.UNREADABLE_ANNOTATION, path, text, image=row))
        return []
    objects = []
    for place, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        one = _read_line(line.split(), row, data_file)
        if isinstance(one, _Object):
            objects.append(one)
        else:
            problems.append(Problem(one[0], path, f"line {place} {one[1]}", image=row))
    return objects


def _read_line(words: list[str], row: int, data_file: _DataFile) -> _Object | tuple[Kind, str]:
    """One line's object, or what is wrong with it."""
    try:
        number, *numbers = map(float, words)
    except ValueError:
        return Kind.UNREADABLE_ANNOTATION, f"holds {' '.join(words)[:60]!r}, expected numbers"
    known, keypoints = data_file.names, data_file.keypoints
    is_polygon = not keypoints and len(numbers) >= 6 and len(numbers) % 2 == 0
    if len(numbers) not in (4, 5, 4 + keypoints) and not is_polygon:
        more = f"{keypoints} of keypoints (kpt_shape)" if keypoints else "the corners of a polygon"
        expected = f"a class, then 4 numbers of a box (or 5, with a confidence) {'and' if keypoints else 'or'} {more}"
        return Kind.UNREADABLE_ANNOTATION, f"holds {len(words)} numbers, expected {expected}"
    if not number.is_integer() or int(number) not in known:
        first, last = min(known), max(known)
        is_whole = len(known) == last - first + 1
        numbers_of = f"{first} to {last}" if is_whole else first_few([str(one) for one in sorted(known)], 10)
        return Kind.UNKNOWN_CLASS, f"is of class {words[0][:40]}, which names does not have ({numbers_of})"
    if not is_polygon:
        x, y, width, height = numbers[:4]
        return _Object(row, int(number), (x, y, width, height))
    xs, ys = numbers[::2], numbers[1::2]
    (left, right), (top, bottom) = (min(xs), max(xs)), (min(ys), max(ys))
    return _Object(row, int(number), ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top))


def scan_yolo(folder: Path, splits: Sequence[str], file: str) -> RawAnnotations:
    """Reads all that the labels of splits hold, and notes what is wrong with them.

    Args:
        folder: the data set's.
        splits: keys of its data.yaml.
        file: that data.yaml, a path below the folder.

    Raises:
        DataError: there is no such split, or it names no image.
    """
    data_file, problems = read_data_file(folder / file), []
    names = list(data_file.names.values())
    problems += class_name_problems(data_file.path, names)
    images = list(dict.fromkeys(image for split in splits for image in images_of(data_file, split, problems)))
    files = [os.path.relpath(image, folder) for image in images]
    missing = find_missing(folder, files)
    sizes, objects = np.zeros((len(files), 2), dtype=np.int64), []
    label_files = [label_file(image) for image in images]
    for row, (image, is_missing) in enumerate(zip(images, missing.tolist(), strict=True)):
        if is_missing:
            text = f"the file is missing, and {data_file.path} leads to it"
            problems.append(Problem(Kind.MISSING_IMAGE, image, text, image=row))
        else:
            sizes[row] = size_or_problem(folder / files[row], row, problems)
        objects += read_labels(label_files[row], row, data_file, problems)
    written = np.array([one.box for one in objects], dtype=np.float64).reshape(-1, 4)  # [T, 4]
    rows = np.array([one.image for one in objects], dtype=np.int64)
    problems += _unit_problems(written, data_file.path)
    labels = {number: label for label, number in enumerate(data_file.names)}
    return RawAnnotations(
        folder=folder,
        files=files,
        missing=missing,
        image_ids=np.arange(len(files)),
        sizes=sizes,
        object_images=rows,
        written=written,
        written_as="center x, center y, width, height",
        # Of an image that is missing or unreadable the shares stay: it is not its boxes that are wrong.
        boxes=_to_pixels(written, np.maximum(sizes[rows], 1)),
        labels=np.array([labels[one.number] for one in objects], dtype=np.int64),
        ignored=np.zeros(len(objects), dtype=bool),
        class_names=names,
        category_ids=[*data_file.names],
        source=data_file.path,
        annotation_of=label_files.__getitem__,
        problems=problems,
    )


def _to_pixels(written: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Shares [T, 4] of images of these heights and widths [T, 2] as x1 y1 x2 y2 [T, 4]."""
    sides = sizes[:, ::-1]
    with np.errstate(invalid="ignore", over="ignore"):
        half = written[:, 2:] / 2
        return np.concatenate([(written[:, :2] - half) * sides, (written[:, :2] + half) * sides], axis=1)


def _unit_problems(written: np.ndarray, path: Path) -> list[Problem]:
    """That every box of a split is in pixels, which are no shares: each would lie outside its image."""
    if not len(written) or not (written[:, :2] > 1.5).all():
        return []
    text = f"all {len(written)} boxes are in pixels; expected are shares of the image's width and height, 0 to 1"
    return [Problem(Kind.UNREADABLE_ANNOTATION, str(path), text, len(written))]


# ---- files of results ------------------------------------------------------------------------------------------------


def write_yolo_files(folder: Path, predictions: Predictions, annotations: DetectionAnnotations) -> None:
    """Writes labels/<image>.txt for every image: class, center x, center y, width, height as shares, and score.

    An image's path is that below its last folder called images. A full disk is a warning, and no file.
    """
    images = rows_of_images(predictions, annotations)
    boxes = predictions.boxes.astype(np.float64)  # [D, 4]
    shares = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    shares /= np.tile(annotations.sizes[images][:, ::-1], 2)
    numbers = np.asarray(annotations.category_ids, dtype=np.int64)[predictions.labels]
    lines: list[list[str]] = [[] for _ in range(annotations.num_images)]
    for image, number, share, score in zip(
        *map(np.ndarray.tolist, (images, numbers, shares, predictions.scores)), strict=True
    ):
        lines[image].append(f"{number} {' '.join(f'{side:.7g}' for side in share)} {score:.6g}\n")
    with going_on_when_disk_is_full("labels/*.txt"):
        for name, text in zip(annotations.files.tolist(), lines, strict=True):
            below = os.path.splitext(os.fsdecode(name))[0].rpartition("images/")[2].lstrip("./")
            path = folder / "labels" / f"{below}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, "".join(text))


# ---- the row ---------------------------------------------------------------------------------------------------------


def _scan(folder: Path, splits: Sequence[str], data: YoloData) -> RawAnnotations:
    return scan_yolo(folder, splits, data.file)


def _images(folder: Path, data: YoloData) -> list[Path]:
    data_file = read_data_file(folder / data.file)
    found = [
        folder / os.path.relpath(image, folder)
        for split in data.val_splits
        for image in images_of(data_file, split, [])
    ]
    there = sorted(path for path in found if path.is_file())
    if not there:
        raise FileNotFoundError(f"not one image of {', '.join(data.val_splits)} is in {folder}.")
    return there


def _recognize(folder: Path) -> Layout | None:
    """One YAML file that names classes and a split."""
    files = []
    for name in sorted(os.listdir(folder)):
        if name.lower().endswith((".yaml", ".yml")) and not is_hidden(name):
            content = load_yaml(folder / name)
            if isinstance(content, dict) and ("names" in content or "nc" in content) and any(map(_is_usual, content)):
                files.append((name, content))
    if not files:
        return None
    if len(files) > 1:
        raise DataError(f"{folder} holds more than one YAML file of splits: {', '.join(name for name, _ in files)}.")
    name = files[0][0]
    data_file = read_data_file(folder / name)
    named = [key for key in data_file.splits if _is_meant(data_file, key)]
    return Layout(f"YOLO's ({name})", choose_splits(named), {} if name == "data.yaml" else {"file": name})


def _is_usual(key: Any) -> bool:
    """Whether a key is a split of a usual name."""
    return _is_split(key) and purpose_of(key) is not None


def _is_meant(data_file: _DataFile, split: str) -> bool:
    """Whether a key is a split to use. One to train or to validate on is also where its images are not there, which
    reading it then says; published files name a test split that nobody has, and keys that are no splits."""
    is_needed = purpose_of(split) not in (None, "test")
    return is_needed or any(_place(data_file, entry) for entry in data_file.splits[split])


def _leftovers(folder: Path, data: YoloData) -> list[Problem]:
    data_file = read_data_file(folder / data.file)
    used = dict.fromkeys((*data.train_splits, *data.val_splits))
    images = [image for split in used for image in images_of(data_file, split, [])]
    alone = _labels_alone({label_file(image) for image in images})
    text = (
        f"{len(alone)} files of labels have no image: {first_few([os.path.relpath(one, folder) for one in alone], 5)}"
    )
    problems = [Problem(Kind.UNKNOWN_IMAGE, str(folder), text, len(alone))] if alone else []
    return problems + [
        Problem(Kind.MISSING_SPLIT, str(data_file.path), _nowhere(data_file, split, entry))
        for split, entries in data_file.splits.items()
        if split not in used and purpose_of(split) is not None
        for entry in entries
        if _place(data_file, entry) is None
    ]


def _labels_alone(known: set[str]) -> list[str]:
    """The files of labels in the folders of those of a split's images, and below them, that have no image, sorted.

    Beside images, where there is no folder of labels, a text file may be anything.
    """
    folders = {os.path.dirname(path) for path in known if "/labels/" in path}
    found = {f"{folder}/{file}" for folder in folders for file in visible_files(Path(folder), (".txt",), [])} - known
    stems = {path: _image_stem(path) for path in found if os.path.basename(path) != "classes.txt"}  # of labelImg
    image_folders = {os.path.dirname(stem) for stem in stems.values()}
    there = {f"{folder}/{os.path.splitext(name)[0]}" for folder in image_folders for name in names_in(Path(folder))}
    return sorted(path for path, stem in stems.items() if stem not in there)


def _image_stem(label_file: str) -> str:
    """Where the image of a file of labels has to lie, without its ending."""
    above, _, below = os.path.splitext(label_file)[0].rpartition("/labels/")
    return f"{above}/images/{below}"


YOLO = DetectionFormat(
    options=YoloData,
    scan=_scan,
    images=_images,
    write=write_yolo_files,
    recognize=_recognize,
    leftovers=_leftovers,
)
