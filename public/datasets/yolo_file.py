"""What names the splits, the classes and the images of data in YOLO's format, by the name of the file:

    data.yaml      train, val, test: folders, lists of images (.txt), or lists of these; path: what they lie below;
                   names: of the classes, a list or a map by their numbers (ultralytics, Roboflow)
    obj.data       lines such as train = train.txt and names = obj.names, a file of a class a line (Darknet, CVAT)
    classes.txt    a class a line (labelImg, Label Studio). The images lie in images/, or else beside it and below;
                   folders there called train, valid and alike are the splits, and without them all is one split

Formats: https://docs.ultralytics.com/datasets/detect/, https://docs.cvat.ai (YOLO 1.1), https://labelstud.io/guide/export.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from public.datasets.batches import DataError
from public.datasets.decoding import EXTENSIONS, is_hidden
from public.datasets.format import purpose_of
from public.datasets.locations import where_to_get
from public.datasets.scan import Kind, Problem, is_file_name, names_in, visible_files

CLASS_LISTS = ("classes.txt", "labels/classes.txt")
"""Where a list of classes may lie, below a data set's folder."""
_ALL = "all"
"""The one split of a list of classes beside images of no splits."""


class DataFile(NamedTuple):
    """Such a file as it was understood."""

    path: Path
    splits: dict[str, list[str]]
    """What each split's key names."""
    roots: list[Path]
    """What relative paths may lie below."""
    names: dict[int, str]
    """Of the classes, by the numbers that lines of labels have, rising."""
    keypoints: int = 0
    """Numbers of keypoints behind each box."""


def read_data_file(path: Path) -> DataFile:
    """What a file says, by the kind that its name tells.

    Raises:
        DataError: it is missing, no such file, or does not name its classes.
    """
    if path.suffix.lower() == ".data":
        return _read_darknet(path)
    return _read_class_list(path) if path.suffix.lower() in (".txt", ".names") else _read_yaml(path)


# ---- data.yaml -------------------------------------------------------------------------------------------------------


def _read_yaml(path: Path) -> DataFile:
    content = _load_yaml(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold the keys train, val and names; it holds a {type(content).__name__}.")
    splits = {key: entries for key, value in content.items() if _is_split(key) and (entries := _texts(value))}
    base = content.get("path") or "."
    if not isinstance(base, str):
        raise DataError(f"{path}: path must be a folder, got {base!r}.")
    roots = [path.parent / Path(base).expanduser(), path.parent]
    return DataFile(path, splits, roots, _class_names(path, content), _keypoints(path, content))


class _Texts(yaml.BaseLoader):
    """The base loader makes nothing but texts, lists and maps: even less than the safe one. Of a key that stands twice
    in a map it would take the last, and the class that the first names would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Raises yaml.YAMLError for a key that is there already."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((key for number, key in enumerate(keys) if key in keys[:number]), None):
            raise yaml.YAMLError(
                f"{twice} stands there twice as a key, in line {node.start_mark.line + 1} or behind it"
            )
        return super().construct_mapping(node, deep)


def _load_yaml(path: Path) -> Any:
    """A YAML file whose scalars all stay texts: no is a class and not False, and 1 is one and not a number.

    Raises:
        DataError: it is missing or no YAML.
    """
    try:
        return yaml.load(_text_of(path), Loader=_Texts)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}.") from error


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; it must name splits and classes. {where_to_get(path)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as text: {' '.join(str(error).split())}.") from error


def _is_split(key: Any) -> bool:
    """Whether a key of a data.yaml names a split."""
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
    if len(numbered) < len(names):
        raise DataError(f"{path}: names has {len(names)} classes, and {len(numbered)} numbers for them.")
    if number is not None and str(len(numbered)) != number:
        raise DataError(f"{path}: nc says {number!r} classes, and names has {len(numbered)}.")
    return dict(sorted(numbered.items()))


# ---- obj.data --------------------------------------------------------------------------------------------------------


def _read_darknet(path: Path) -> DataFile:
    lines = [line.partition("=") for line in _text_of(path).splitlines() if not line.lstrip().startswith("#")]
    content = {key.strip(): value.strip() for key, sign, value in lines if sign}
    splits = {key: entries for key, value in content.items() if purpose_of(key) and (entries := _texts(value))}
    found = DataFile(path, splits, [path.parent], {})
    names = _texts(content.get("names"))
    place = place_of(found, names[0]) if names else None
    if place is None:
        got = f"there is no {path.parent / names[0]}" if names else "it has no line names = obj.names"
        raise DataError(f"{path}: names must be a file of the classes, one a line; {got}.")
    classes, number = _listed(place), content.get("classes")
    if number is not None and number != str(len(classes)):
        raise DataError(f"{path}: classes says {number!r}, and {place} has {len(classes)}.")
    return found._replace(names=classes)


# ---- classes.txt -----------------------------------------------------------------------------------------------------


def _read_class_list(path: Path) -> DataFile:
    return beside_images(path)._replace(names=_listed(path))


def beside_images(path: Path) -> DataFile:
    """What a list of classes leaves to the folders around it, be it there or not: without names."""
    root = path.parent.parent if path.parent.name == "labels" else path.parent
    base = "images" if (root / "images").is_dir() else "."
    folders = sorted(name for name in names_in(root / base) if (root / base / name).is_dir() and purpose_of(name))
    splits = {name: [f"{base}/{name}"] for name in folders} or {_ALL: [base]}
    return DataFile(path, splits, [root], {})


def _listed(path: Path) -> dict[int, str]:
    """A class a line; empty lines at the end are none."""
    lines = [line.strip() for line in _text_of(path).rstrip().splitlines()]
    if not all(lines) or not lines:
        got = f"line {lines.index('') + 1} is empty" if lines else "it is empty"
        raise DataError(f"{path} must hold the classes, one a line in the order of their numbers; {got}.")
    return dict(enumerate(lines))


# ---- images ----------------------------------------------------------------------------------------------------------


def images_of(data_file: DataFile, split: str, problems: list[Problem]) -> list[str]:
    """The image files of a split in the order in which they are named, each once; those of a folder sorted.

    Raises:
        DataError: there is no such split, what it names is not there, or holds no image.
    """
    path = data_file.path
    if split not in data_file.splits:
        raise DataError(f"{path} has no split {split!r}; it has {', '.join(data_file.splits) or 'none'}.")
    found: dict[str, None] = {}
    for entry in data_file.splits[split]:
        place = place_of(data_file, entry)
        if place is None:
            raise DataError(f"{path}: {nowhere(data_file, split, entry)}. {where_to_get(path)}")
        for image in _images_at(data_file, place, problems):
            if image in found:
                text = f"the image {image} is named a second time, expected each once in {split}"
                problems.append(Problem(Kind.REPEATED, str(path), text))
            found[image] = None
    if not found:
        raise DataError(f"{path}: {split} names no image ({', '.join(EXTENSIONS)}).")
    return [*found]


def place_of(data_file: DataFile, entry: str) -> Path | None:
    """Where an entry of a split is; None: nowhere."""
    candidates = [root / name for name in _spellings(entry) for root in data_file.roots]
    return next((path for path in candidates if os.path.exists(path)), None)


def _spellings(entry: str) -> list[str]:
    """What a path may mean. Roboflow writes ../train/images for train/images beside the file, CVAT data/train.txt
    for train.txt."""
    inner = entry
    while inner.startswith(("../", "..\\")):
        inner = inner[3:]
    return [entry, inner, inner.replace("\\", "/"), inner.removeprefix("data/")]


def nowhere(data_file: DataFile, split: str, entry: str) -> str:
    """That an entry of a split has no place."""
    tried = " nor ".join(dict.fromkeys(str(root / entry) for root in data_file.roots))
    return f"{split} names {entry!r}, and there is no {tried}"


def _images_at(data_file: DataFile, place: Path, problems: list[Problem]) -> Iterator[str]:
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
            options = [os.path.normpath(root / name) for name in _spellings(line) for root in roots]
            yield next((path for path in options if os.path.isfile(path)), options[0])


# ---- what a folder holds ---------------------------------------------------------------------------------------------


def data_files(folder: Path) -> list[str]:
    """The names of the files in a folder that name splits and classes by themselves, as a list of classes does not.

    Raises:
        DataError: a YAML file cannot be read.
    """
    names = sorted(name for name in names_in(folder) if not is_hidden(name))
    found = [name for name in names if name.lower().endswith((".yaml", ".yml")) and _is_data(_load_yaml(folder / name))]
    return found or [name for name in names if name.lower() == "obj.data"]


def _is_data(content: Any) -> bool:
    """Whether a YAML file names classes, and a split of a usual name."""
    if not isinstance(content, dict) or not ("names" in content or "nc" in content):
        return False
    return any(_is_split(key) and purpose_of(key) is not None for key in content)
