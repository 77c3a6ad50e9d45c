"""The entries of an annotation file in COCO's format, as columns: each sound in itself.

A strict decoder with types reads a file that is in order, several times as fast and in a fraction of the memory of
one that makes a dict of each object. Whatever it refuses (96.0 for a whole number, NaN, a missing key) is left to that
slow one, which takes what can be taken and says what is wrong with the rest.
"""

import json
import re
import reprlib
import struct
from collections import defaultdict
from collections.abc import Callable
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from public.datasets.batches import DataError
from public.datasets.locations import where_to_get
from public.datasets.scan import SIDES, Kind, Problem, areas_of, is_file_name


class _Field(NamedTuple):
    """What an entry must hold under a key."""

    fits: Callable[[Any], bool]
    expected: str
    default: Any = ...
    """Taken where the key is missing; `...`: it must be there."""


def _is_id(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and value != "" and is_file_name(value)


def _is_box(value: Any) -> bool:
    return value in (None, []) or (isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)))


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_id(value)  # JSON's whole numbers have no end, but arrays' have


_ID = _Field(_is_id, "a whole number of at most 64 bits")
_ENTRIES: dict[str, dict[str, _Field]] = {
    "images": {"id": _ID, "file_name": _Field(_is_file, "the name of a file")},
    "categories": {"id": _ID, "name": _Field(lambda value: isinstance(value, str), "a text")},
    "annotations": {
        "image_id": _ID,
        "category_id": _ID,
        "bbox": _Field(_is_box, "four numbers: x, y, width, height (whole ones of at most 64 bits)", None),
        # For evaluation: of the outline.
        "area": _Field(
            lambda value: value is None or _is_number(value), "a number (a whole one of at most 64 bits)", None
        ),
        "iscrowd": _Field(lambda value: value in (0, 1, None), "0 or 1", None),
    },
}
_LISTED_FLAWS = 20
"""So many entries with the same flaw are told one by one; more are told together."""


class CocoEntries(NamedTuple):
    """N images, C categories and T annotations of a file, each sound in itself: what a decoder has to give."""

    image_ids: np.ndarray
    """int64 [N], each once."""
    files: list[str]
    """[N]."""
    sizes: np.ndarray
    """int64 [N, 2], height and width; 0 where no usable one is stated."""
    category_ids: list[int]
    """[C], each once, rising."""
    class_names: list[str]
    """[C]."""
    supercategories: list[str]
    """[C]."""
    of_image: np.ndarray
    """int64 [T], an image's id."""
    of_category: np.ndarray
    """int64 [T], a category's id."""
    boxes: np.ndarray
    """float64 [T, 4], x y width height; NaN where none is stated."""
    areas: np.ndarray
    """float64 [T]; those of the boxes where none are stated."""
    crowds: np.ndarray
    """bool [T]."""


def read_entries(source: Path, problems: list[Problem]) -> CocoEntries:
    """The sound entries of an annotation file; what is wrong with the others becomes problems.

    Raises:
        DataError: it is missing, is not of the format, or has no sound image or category.
    """
    entries = _strict_entries(source) or _sound_entries(source, problems)
    if "\\" not in "".join(entries.files):
        return entries
    return entries._replace(files=[file.replace("\\", "/") for file in entries.files])  # tools on Windows write so


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{source} is missing; expected annotations/instances_<split>.json and images/<split>/, or "
            f"<split>/_annotations.coco.json. {where_to_get(source)}"
        ) from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}.") from error


# ---- the strict way --------------------------------------------------------------------------------------------------


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    height: int = 0
    width: int = 0


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str
    supercategory: Any = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: Literal[0, 1] = 0


class _Content(msgspec.Struct, gc=False):
    """Of a file; what else it holds is passed over without being made into objects."""

    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


_START = re.compile(rb'"annotations"\s*:\s*\[')
_LONGEST_START = 64
"""Bytes of it at the end of a read that the next begins with; one of more spaces is left to the slow way."""
_END = re.compile(rb"\s*\]")
_BETWEEN = re.compile(rb"\}(\s*,\s*)\{")
_PIECE = 1 << 19
"""Bytes of annotations that are read and decoded at a time: neither they nor their objects leave the processor's cache.
"""
_MARK = _Annotation(image_id=-(2**62), category_id=0, bbox=(0.0, 0.0, 0.0, 0.0), area=0.0)


def _strict_entries(source: Path) -> CocoEntries | None:
    """Those of a file in which everything is as it shall be; None where something is not."""
    try:
        with source.open("rb", buffering=0) as file:
            entries = _decode(file)
    # Whole numbers of more than 64 bits, and texts that are no UTF-8, are not errors of its own.
    except (OSError, msgspec.MsgspecError, RecursionError, OverflowError, struct.error, UnicodeDecodeError):
        return None
    return entries if entries is not None and _is_in_order(entries) else None


def _decode(file: FileIO) -> CocoEntries | None:
    """The columns of a file, whose annotations are read and decoded in pieces; None where there seem to be none.

    A piece begins behind one comma between two objects and ends before another. That it decodes as a list shows that
    neither comma lies within a text or an object. Whatever follows the last piece is decoded in its place, behind a
    mark, with what comes before the first: that the mark is the first annotation shows that the pieces are the others.
    """
    halves = _read_start(file)
    if halves is None:
        return None
    content, behind = halves
    columns = _decode_pieces(file, behind)
    content += msgspec.json.encode(_MARK) + (b"" if _END.match(behind) else b",")
    content += behind
    rest = msgspec.json.decode(content, type=_Content)
    if rest.annotations[:1] != [_MARK]:
        return None
    columns.append(_columns(rest.annotations[1:]))
    images, categories = rest.images, sorted(rest.categories, key=lambda entry: entry.id)
    of_image, of_category, boxes, areas, crowds = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return CocoEntries(
        image_ids=np.array([entry.id for entry in images], dtype=np.int64),
        files=[entry.file_name for entry in images],
        sizes=np.array(
            [[entry.height for entry in images], [entry.width for entry in images]], dtype=np.int64
        ).T.copy(),
        category_ids=[entry.id for entry in categories],
        class_names=[entry.name for entry in categories],
        supercategories=[str(entry.supercategory) for entry in categories],
        of_image=of_image,
        of_category=of_category,
        boxes=boxes.reshape(-1, 4),
        areas=areas,
        crowds=crowds,
    )


def _read_start(file: FileIO) -> tuple[bytearray, bytearray] | None:
    """What a file has before its first annotation, and what was read behind that; None: there seems to be none."""
    content, start = bytearray(), None
    while start is None:
        searched = max(0, len(content) - _LONGEST_START)
        more = file.read(2 * _PIECE)
        if not more:
            return None
        content += more
        start = _START.search(content, searched)
    behind = content[start.end() :]
    del content[start.end() :]
    return content, behind


def _decode_pieces(file: FileIO, held: bytearray) -> list[list[np.ndarray]]:
    """The columns of each piece.

    Args:
        file: is read to its end.
        held: what is read and not yet decoded; afterwards, whatever follows the last piece.
    """
    decode, columns = msgspec.json.Decoder(list[_Annotation]).decode, []
    held[:0] = b","
    begin = 1  # of what is not yet decoded: behind a comma
    while True:
        cut = _BETWEEN.search(held, begin + _PIECE)
        if cut is None:
            del held[: begin - 1]
            begin = 1
            more = file.read(max(2 * _PIECE, len(held)))  # however long it is, each byte is copied a few times
            if not more:
                break
            held += more
            continue
        last = cut.start(1)  # the comma, or a space before it
        former, held[begin - 1], held[last] = held[last], *b"[]"  # decoded in its place: nothing is copied
        try:
            with memoryview(held)[begin - 1 : last + 1] as piece:
                columns.append(_columns(decode(piece)))
        except (msgspec.MsgspecError, UnicodeDecodeError):  # behind the last annotation, most likely
            held[last] = former
            held += file.readall()
            break
        begin = cut.end(1)
    del held[:begin]
    return columns


def _columns(annotations: list[_Annotation]) -> list[np.ndarray]:
    """Images, categories, boxes [4 * n], areas and crowds."""
    return [
        _column([entry.image_id for entry in annotations], "q"),
        _column([entry.category_id for entry in annotations], "q"),
        _column([*chain.from_iterable([entry.bbox for entry in annotations])], "d"),
        _column([entry.area for entry in annotations], "d"),
        _column([entry.iscrowd for entry in annotations], "?"),
    ]


def _column(values: list[Any], code: str) -> np.ndarray:
    """Of one kind of number; numpy's own ways ask each value for its type."""
    return np.frombuffer(struct.pack(f"{len(values)}{code}", *values), dtype=code)


def _is_in_order(entries: CocoEntries) -> bool:
    """Whether there is nothing that the slow way would fill in or note beside the types."""
    return bool(
        entries.files
        and entries.category_ids
        and all(entries.files)
        and is_file_name("".join(entries.files))
        and len({*entries.image_ids.tolist()}) == len(entries.image_ids)
        and len({*entries.category_ids}) == len(entries.category_ids)
        and (entries.sizes.min() >= SIDES[0] and entries.sizes.max() <= SIDES[-1])
        and all(np.min(numbers, initial=0) > -(2**63) for numbers in (entries.boxes, entries.areas))  # see _is_number
        and all(np.max(numbers, initial=0) < 2**63 for numbers in (entries.boxes, entries.areas))
    )


# ---- the slow way ----------------------------------------------------------------------------------------------------


def _sound_entries(source: Path, problems: list[Problem]) -> CocoEntries:
    """What is sound of a file in which something may not be, and problems of the rest.

    Raises:
        DataError: it is not of the format, or has no sound image or category.
    """
    lists = _load(source)
    images, categories, annotations = (
        _sound_rows(source, lists, name, problems) for name in ("images", "categories", "annotations")
    )
    images = _first_of_each_id(source, "images", images, problems)
    categories = sorted(_first_of_each_id(source, "categories", categories, problems), key=lambda entry: entry["id"])
    boxes = [entry.get("bbox") or _around(entry.get("segmentation")) for entry in annotations]
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)  # [T, 4]
    areas = [entry.get("area") for entry in annotations]
    is_stated = np.array([area is not None for area in areas], dtype=bool)
    stated = np.array([0.0 if area is None else area for area in areas], dtype=np.float64)
    return CocoEntries(
        image_ids=np.array([entry["id"] for entry in images], dtype=np.int64),
        files=[entry["file_name"] for entry in images],
        sizes=np.array([_size(entry) for entry in images], dtype=np.int64).reshape(-1, 2),
        category_ids=[entry["id"] for entry in categories],
        class_names=[entry["name"] for entry in categories],
        supercategories=[str(entry.get("supercategory")) for entry in categories],
        of_image=np.array([entry["image_id"] for entry in annotations], dtype=np.int64),
        of_category=np.array([entry["category_id"] for entry in annotations], dtype=np.int64),
        boxes=boxes,
        areas=np.where(is_stated, stated, areas_of(boxes)),
        crowds=np.array([entry.get("iscrowd") or 0 for entry in annotations], dtype=bool),
    )


def _around(outline: Any) -> list[float]:
    """The box of polygons, each a list of x, y, x, y, ...; of what is none the box that is none."""
    parts = outline if isinstance(outline, list) else []
    if not parts or not all(isinstance(part, list) and len(part) >= 6 and all(map(_is_number, part)) for part in parts):
        return [np.nan] * 4
    xs, ys = ([number for part in parts for number in part[start::2]] for start in range(2))
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _load(source: Path) -> dict[str, Any]:
    """The JSON file as a dict that has COCO's three lists."""
    content = _read(source)
    try:
        lists = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON, or was cut short: {error}.") from error
    if not isinstance(lists, dict):
        raise DataError(f"{source} holds a {type(lists).__name__}, expected an object with the keys {[*_ENTRIES]}.")
    lacking = [name for name in _ENTRIES if not isinstance(lists.get(name), list)]
    if lacking:
        raise DataError(f"{source} has no list under {lacking}; expected the keys {[*_ENTRIES]}.")
    empty = [name for name in ("images", "categories") if not lists[name]]
    if empty:
        raise DataError(f"{source} has an empty list of {empty[0]}; it must hold at least one image and one category.")
    return lists


def _sound_rows(source: Path, lists: dict[str, Any], name: str, problems: list[Problem]) -> list[dict[str, Any]]:
    """The entries of a list that hold what they must; the flaws of the others become problems.

    Raises:
        DataError: none of the images or of the categories does.
    """
    sound: list[dict[str, Any]] = []
    flawed: dict[str, list[tuple[int, str]]] = defaultdict(list)  # by the key that is wrong
    for row, entry in enumerate(lists[name]):
        flaw = _flaw(entry, _ENTRIES[name])
        if flaw is None:
            sound.append(entry)
        else:
            flawed[flaw[0]].append((row, flaw[1]))
    for flaws in flawed.values():
        texts = [f"{name}[{row}] {text}" for row, text in flaws]
        if not sound and name != "annotations":
            raise DataError(f"{source}: not one of its {len(lists[name])} {name} can be read: {texts[0]}, and so on.")
        if len(texts) > _LISTED_FLAWS:
            text = f"{texts[0]}, and {len(texts) - 1} more of the {len(lists[name])} {name} have the same flaw"
            problems.append(Problem(Kind.UNREADABLE_ANNOTATION, str(source), text, len(texts)))
        else:
            problems += [Problem(Kind.UNREADABLE_ANNOTATION, str(source), text) for text in texts]
    return sound


def _flaw(entry: Any, fields: dict[str, _Field]) -> tuple[str, str] | None:
    """Which key of an entry is wrong, and what is wrong with it; None for nothing."""
    if not isinstance(entry, dict):
        return "", f"is a {type(entry).__name__}, expected an object with the keys {[*fields]}"
    for key, field in fields.items():
        value = entry.get(key, field.default)
        if value is ...:
            return key, f"lacks the key {key!r}"
        if not field.fits(value):
            return key, f"has {key} = {reprlib.repr(value)}, expected {field.expected}"
    return None


def _size(image: dict[str, Any]) -> tuple[int, int]:
    """Height and width; 0 and 0 unless both are usable. 96.0 is: JSON has one kind of number."""
    height, width = (_side(image.get(side)) for side in ("height", "width"))
    return (height, width) if height and width else (0, 0)


def _side(value: Any) -> int:
    is_whole = type(value) is int or (type(value) is float and value.is_integer())
    return int(value) if is_whole and int(value) in SIDES else 0


def _first_of_each_id(
    source: Path, name: str, entries: list[dict[str, Any]], problems: list[Problem]
) -> list[dict[str, Any]]:
    """The entries without those whose id was there before; each of these becomes a problem."""
    by_id: dict[int, dict[str, Any]] = {}
    for entry in entries:
        if by_id.setdefault(entry["id"], entry) is not entry:
            text = f"the id {entry['id']} is more than once in {name}, expected each once"
            problems.append(Problem(Kind.REPEATED, str(source), text))
    return list(by_id.values())
