"""YOLO's format: a file that names the splits and the classes (`yolo_file.py`), and a text file of labels an image.

    images/train/x.jpg        its labels in labels/train/x.txt: the last folder called images becomes labels; where
                              there is none, and where no such file is, beside the image

A line is a class's number, then center x, center y, width and height as shares of the upright image's sides; a sixth
number is a confidence and passed over; more are the corners of a polygon, whose bounding box is taken, or, where a
data.yaml has a kpt_shape, keypoints behind the box, which are passed over. Images without lines, or without a file, are
images without objects. Format: https://docs.ultralytics.com/datasets/detect/.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from public.config.detection import DetectionData
from public.config.names import first_few
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.decoding import EXTENSIONS
from public.datasets.format import DetectionFormat, Layout, choose_splits, purpose_of
from public.datasets.predictions import Predictions, rows_of_images
from public.datasets.scan import (
    Kind,
    Problem,
    RawAnnotations,
    class_name_problems,
    find_missing,
    names_in,
    size_or_problem,
    visible_files,
)
from public.datasets.yolo_file import (
    CLASS_LISTS,
    DataFile,
    beside_images,
    data_files,
    images_of,
    nowhere,
    place_of,
    read_data_file,
)
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text


@dataclass(frozen=True, kw_only=True)
class YoloData(DetectionData):
    """`file` of `folder`, and what it names; splits are its keys, such as train and val."""

    kind: ClassVar[str] = "yolo"
    default_metrics: ClassVar[str] = "coco"
    file: str = "data.yaml"
    """What names the splits and the classes, a path below `folder`: a data.yaml, an obj.data or a classes.txt."""


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


def read_labels(path: str, row: int, data_file: DataFile, problems: list[Problem]) -> list[_Object]:
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


def _read_line(words: list[str], row: int, data_file: DataFile) -> _Object | tuple[Kind, str]:
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
    """One file that names splits and classes, or else a list of classes beside images with labels."""
    names = data_files(folder) or [name for name in CLASS_LISTS if _is_labelled(folder / name)][:1]
    if not names:
        return None
    if len(names) > 1:
        raise DataError(f"{folder} holds more than one YAML file of splits: {', '.join(names)}.")
    data_file = read_data_file(folder / names[0])
    named = [key for key in data_file.splits if _is_meant(data_file, key)]
    return Layout(f"YOLO's ({names[0]})", choose_splits(named), {} if names == ["data.yaml"] else {"file": names[0]})


def _is_labelled(class_list: Path) -> bool:
    """Whether an image of a list of classes has labels: folders of other kinds hold a classes.txt, too."""
    return class_list.is_file() and _some_labels(read_data_file(class_list)) is not None


def _lacks(folder: Path) -> str | None:
    """What a folder lacks that holds images and their labels, and nothing that names the classes; None: it has none."""
    labels = _some_labels(beside_images(folder / CLASS_LISTS[0]), most=200)
    if labels is None:
        return None
    return (
        f"{folder} holds labels as YOLO's format has them, such as {labels}, and nothing that names their classes: "
        f"write {folder / CLASS_LISTS[0]}, one class a line in the order of their numbers, or a data.yaml with names, "
        "train and val."
    )


def _some_labels(data_file: DataFile, most: int | None = None) -> str | None:
    """A file with labels of one of the first images of all splits; None: there is none."""
    entries = [entry for entries in data_file.splits.values() for entry in entries]
    folders = [folder for entry in entries if (folder := place_of(data_file, entry)) is not None]
    files = (f"{base}/{name}" for folder in folders for base, _, names in os.walk(folder) for name in sorted(names))
    images = islice((file for file in files if file.lower().endswith(EXTENSIONS)), most)
    return next((path for image in images if _holds_labels(path := label_file(os.path.normpath(image)))), None)


def _holds_labels(path: str) -> bool:
    """Whether a file begins with the five numbers of a box, as captions beside images do not."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return len([float(word) for word in file.readline().split()]) >= 5
    except (OSError, ValueError):
        return False


def _is_meant(data_file: DataFile, split: str) -> bool:
    """Whether a key is a split to use. One to train or to validate on is also where its images are not there, which
    reading it then says; published files name a test split that nobody has, and keys that are no splits."""
    is_needed = purpose_of(split) not in (None, "test")
    return is_needed or any(place_of(data_file, entry) for entry in data_file.splits[split])


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
        Problem(Kind.MISSING_SPLIT, str(data_file.path), nowhere(data_file, split, entry))
        for split, entries in data_file.splits.items()
        if split not in used and purpose_of(split) is not None
        for entry in entries
        if place_of(data_file, entry) is None
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
    lacks=_lacks,
    leftovers=_leftovers,
)
