"""Pascal VOC's format: <year>/{JPEGImages,Annotations,ImageSets/Main}, for VOC or any other data set of that layout.

The folders may be called images and annots (or annotations) too, or be one; without ImageSets, the split <year>/* is
all that there is.

Format: the development kits of http://host.robots.ox.ac.uk/pascal/VOC/. A box names its first and last pixels, counted
from 1, both inside. Here pixel i covers [i, i + 1), so that it becomes xmin - 1, ymin - 1, xmax, ymax.

A box with xmin = xmax or ymin = ymax would be one pixel wide or high. No object is: it is a click without a drag in a
labeling tool (the two such boxes of the blood-cell set BCCD are points), and is skipped as a box without area.
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple
from xml.etree import ElementTree

import numpy as np

from public.config.detection import DetectionData
from public.config.names import nearest_names
from public.datasets.annotations import DetectionAnnotations
from public.datasets.archives import Archive, provide
from public.datasets.batches import DataError
from public.datasets.decoding import EXTENSIONS
from public.datasets.format import DetectionFormat, Layout, Published, Results, Splits, choose_splits, purpose_of
from public.datasets.locations import where_to_get
from public.datasets.predictions import Predictions, rows_of_images
from public.datasets.results import read_voc_results, voc_file_ends
from public.datasets.scan import (
    SIDES,
    Kind,
    Problem,
    RawAnnotations,
    class_name_problems,
    clean,
    holds,
    names_in,
    visible_files,
    with_sizes,
)
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text

URL = "https://thor.robots.ox.ac.uk/pascal/VOC"  # host.robots.ox.ac.uk, known from older code, leads there

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = {"": False, "0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}
_FLAGGED = re.compile(r"\S.*\s(1|0|-1)")
"""A line of VOC's lists of a single class."""
_IMAGE_FOLDERS = ("JPEGImages", "images")
_ANNOTATION_FOLDERS = ("Annotations", "annots", "annotations")
ALL = "*"
"""In the place of a list: every image of the folder."""


@dataclass(frozen=True, kw_only=True)
class VocData(DetectionData):
    """<folder>/{JPEGImages,Annotations,ImageSets/Main} below `folder`; any number of splits, each <folder>/<list> such
    as VOC2007/trainval (<list> alone where the three lie in `folder` itself; * in its place: all images). The classes
    are those of `classes`, else of classes.txt in `folder` (one a line), else VOC's twenty in its own years, else those
    of the objects, sorted."""

    kind: ClassVar[str] = "voc"
    default_metrics: ClassVar[str] = "voc"


def voc_class_names(folder: Path) -> list[str] | None:
    """The classes of classes.txt in the order of their labels; None where there is no such file.

    Raises:
        DataError: it is empty, or names a class twice.
    """
    path = folder / "classes.txt"
    if not path.is_file():
        return None
    names = _lines(path, "expected one class name a line")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated or not names:
        raise DataError(
            f"{path} must name each class once, one a line; it names {len(names)}, more than once {sorted(repeated)}."
        )
    return names


def read_voc(folder: Path, splits: Sequence[str], class_names: Sequence[str] | None) -> DetectionAnnotations:
    """Reads the annotations of splits together for training or evaluation; images without objects stay.

    Args:
        folder: the data set's.
        splits: VOC2007/trainval for VOC2007/ImageSets/Main/trainval.txt, and so on.
        class_names: in the order of their labels; None: those of the objects.

    Raises:
        DataError: a file is missing or damaged, or an object is of a class that is not in the list.
    """
    return clean(with_sizes(scan_voc(folder, splits, class_names)))


def scan_voc(folder: Path, splits: Sequence[str], class_names: Sequence[str] | None) -> RawAnnotations:
    """Reads all that the annotations of splits hold, and notes what is wrong with them.

    Raises:
        DataError: there is no such split, or it names no image.
    """
    problems: list[Problem] = []
    listed = _listed_images(folder, splits, problems)
    files, missing = _find_images(folder, listed, problems)
    folders = {subfolder: _annotation_folder(folder / subfolder) for subfolder, _ in listed}
    annotation_files = [f"{folders[subfolder]}/{stem}.xml" for subfolder, stem in listed]
    known = None if class_names is None else set(class_names)
    sizes: list[tuple[int, int]] = []
    objects: list[_Object] = []
    for row, path in enumerate(annotation_files):
        sizes.append(_read_image(path, row, known, objects, problems))
    names = list(class_names) if class_names is not None else _names_of(objects, splits)
    problems += class_name_problems(folder, names)
    labels = {name: label for label, name in enumerate(names)}
    written = np.array([one.corners for one in objects], dtype=np.float64).reshape(-1, 4)  # [T, 4]
    boxes = written.copy()
    boxes[:, :2] -= written[:, 2:] > written[:, :2]  # a point stays one, see above
    return RawAnnotations(
        folder=folder,
        files=files,
        missing=missing,
        image_ids=np.arange(len(files)),
        sizes=np.array(sizes, dtype=np.int64),
        object_images=np.array([one.image for one in objects], dtype=np.int64),
        written=written,
        written_as=", ".join(_CORNERS),
        boxes=boxes,
        labels=np.array([labels[one.name] for one in objects], dtype=np.int64),
        ignored=np.array([one.is_difficult for one in objects], dtype=bool),
        class_names=names,
        category_ids=list(range(1, len(names) + 1)),
        source=folder,
        annotation_of=annotation_files.__getitem__,
        problems=problems,
    )


def _names_of(objects: Sequence["_Object"], splits: Sequence[str]) -> list[str]:
    """The classes of the objects, sorted; VOC's twenty where these may be VOC's own years."""
    found = {one.name for one in objects}
    are_years = all(re.fullmatch(r"(.*/)?VOC20\d\d", split.rpartition("/")[0]) for split in splits)
    return list(VOC_CLASSES) if are_years and found <= set(VOC_CLASSES) else sorted(found)


def voc_images(folder: Path, splits: Sequence[str]) -> list[Path]:
    """The image files of splits that are there, in the lists' order, without a look at their annotations.

    Raises:
        DataError: there is no such split, or it names no image.
    """
    files, missing = _find_images(folder, _listed_images(folder, splits, []), [])
    return [folder / file for file, is_missing in zip(files, missing, strict=True) if not is_missing]


def _lines(path: Path, expected: str) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {expected}. {where_to_get(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _image_folder(folder: Path) -> Path:
    """Where the images of a year lie: beside their annotations, if neither has a folder of its own."""
    found = next((folder / name for name in _IMAGE_FOLDERS if (folder / name).is_dir()), None)
    return found or (folder if _annotation_folder(folder) == folder else folder / _IMAGE_FOLDERS[0])


def _annotation_folder(folder: Path) -> Path:
    found = next((folder / name for name in _ANNOTATION_FOLDERS if (folder / name).is_dir()), None)
    if found is None and not (folder / _IMAGE_FOLDERS[0]).is_dir() and holds(folder, ".xml"):
        return folder
    return found or folder / _ANNOTATION_FOLDERS[0]


def _listed_images(folder: Path, splits: Sequence[str], problems: list[Problem]) -> list[tuple[str, str]]:
    """Subfolder and name without extension of every image, each once, in the lists' order."""
    images: dict[tuple[str, str], None] = {}
    for split in splits:
        subfolder, _, name = split.rpartition("/")
        if not name:
            raise DataError(f"the split {split!r} of {folder} must be <folder>/<list>, such as VOC2007/trainval.")
        path = folder / subfolder / "ImageSets" / "Main" / f"{name}.txt"
        if name == ALL:
            stems = _all_images(folder / subfolder, problems)
        else:
            stems = _lines(path, "expected the names of the split's images without extension, one a line")
            _refuse_flags(path, folder / subfolder, stems)
        if not stems:
            raise DataError(f"{path} names no image; expected one name without extension a line.")
        for stem in stems:
            if (subfolder, stem) in images:
                text = f"the image {subfolder}/{stem} is listed a second time, expected each once over {list(splits)}"
                problems.append(Problem(Kind.REPEATED, str(path), text))
            images[subfolder, stem] = None
    return list(images)


def _refuse_flags(path: Path, folder: Path, stems: Sequence[str]) -> None:
    """Refuses VOC's list of one class, <class>_train.txt, whose lines have a flag behind the name; a name may have a
    space in it, and is then that of a file."""
    if not stems or not all(_FLAGGED.fullmatch(stem) for stem in stems):
        return
    images, annotations = _image_folder(folder), _annotation_folder(folder)
    files = (f"{images}/{stem}{extension}" for stem in stems for extension in EXTENSIONS)
    if any(map(os.path.isfile, itertools.chain((f"{annotations}/{stem}.xml" for stem in stems), files))):
        return
    raise DataError(
        f"{path} is one of VOC's lists of a single class, a name and a flag (1, 0 or -1) in each line, such as "
        f"{stems[0]!r}; expected a list of names alone, as VOC's own train.txt."
    )


def _all_images(folder: Path, problems: list[Problem]) -> list[str]:
    """The names without extension of all images of a year, sorted; annotations without an image are counted.

    Raises:
        DataError: there is none.
    """
    images, annotations = _image_folder(folder), _annotation_folder(folder)
    stems = {file.rpartition(".")[0] for file in visible_files(images, EXTENSIONS, problems)}
    if not stems:
        raise DataError(f"{images} holds no image ({', '.join(EXTENSIONS)}). {where_to_get(images)}")
    for file in visible_files(annotations, (".xml",), problems if annotations != images else []):
        if file.rpartition(".")[0] not in stems:
            text = f"it is of an image that is not in {images}"
            problems.append(Problem(Kind.UNKNOWN_IMAGE, str(annotations / file), text))
    return sorted(stems)


def _find_images(
    folder: Path, listed: Sequence[tuple[str, str]], problems: list[Problem]
) -> tuple[list[str], np.ndarray]:
    """Paths of the image files below the folder [N], and bool [N]: which are missing."""
    subfolders = {subfolder for subfolder, _ in listed}
    folders = {subfolder: os.path.relpath(_image_folder(folder / subfolder), folder) for subfolder in subfolders}
    stems = [os.path.normpath(f"{folders[subfolder]}/{stem}") for subfolder, stem in listed]
    found: dict[str, str] = {}
    there = {parent for parent in {os.path.dirname(stem) for stem in stems} if (folder / parent).is_dir()}
    for parent in there:
        for name in sorted(names_in(folder / parent), key=_preference, reverse=True):
            stem, dot, extension = name.rpartition(".")
            if (dot + extension).lower() in EXTENSIONS:
                found[os.path.join(parent, stem)] = os.path.join(parent, name)  # in the place of a later one
    files = [found.get(stem, f"{stem}.jpg") for stem in stems]
    missing = np.array([stem not in found for stem in stems], dtype=bool)
    gone = {parent for parent in map(os.path.dirname, stems) if parent not in there}
    for parent in sorted(gone):
        text = f"it is missing, and must hold the images of the lists. {where_to_get(folder / parent).rstrip('.')}"
        problems.append(Problem(Kind.MISSING_IMAGE, str(folder / parent), text))
    for row in np.flatnonzero(missing).tolist():
        if os.path.dirname(stems[row]) in gone:
            continue  # said of the folder
        text = f"the file is missing (also as {', '.join(EXTENSIONS[1:])}), and a list of the split names it"
        problems.append(Problem(Kind.MISSING_IMAGE, f"{folder}/{files[row]}", text, image=row))
    return files, missing


def _preference(name: str) -> tuple[bool, str]:
    """Orders the files that may be meant by one name: x.jpg before x.png, and both before rarer kinds."""
    return not name.lower().endswith(EXTENSIONS[:3]), name


class _Object(NamedTuple):
    """One object of one image."""

    image: int
    """The image's row."""
    name: str
    """Of its class."""
    corners: tuple[float, ...]
    """xmin, ymin, xmax, ymax as written."""
    is_difficult: bool


def _read_image(
    path: str, row: int, known: set[str] | None, objects: list[_Object], problems: list[Problem]
) -> tuple[int, int]:
    """Reads one annotation file: appends to objects and problems; gives height and width, 0 where it does not tell."""
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        text = "there is no such file, and a list of the split names it: an image without objects"
        problems.append(Problem(Kind.NO_ANNOTATION, path, text, image=row))
        return 0, 0
    except OSError as error:
        text = f"the file cannot be read ({error.strerror})"
        problems.append(Problem(Kind.UNREADABLE_ANNOTATION, path, text, image=row))
        return 0, 0
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: encodings unknown to python
        text = f"it is not XML, or was cut short ({error})"
        problems.append(Problem(Kind.UNREADABLE_ANNOTATION, path, text, image=row))
        return 0, 0
    elements = root.findall("object")
    if text := _of_others(root, len(elements)):
        problems.append(Problem(Kind.UNREADABLE_ANNOTATION, path, text, image=row))
        return _read_size(root)
    for number, element in enumerate(elements, start=1):
        for one in _read_object(element, row, known):
            if isinstance(one, _Object):
                objects.append(one)
            else:
                kind, text = one
                problems.append(Problem(kind, path, f"object {number} {text}", image=row))
    return _read_size(root)


def _of_others(root: ElementTree.Element, num_objects: int) -> str | None:
    """Why a file is none of VOC's, whose objects nobody would find; None where it is one."""
    expected = "expected is <annotation> with each <object> directly below it"
    if root.tag != "annotation":
        return f"its root is <{root.tag}>; {expected}"
    named = sum(element.tag.rpartition("}")[2].lower() in ("object", "objects") for element in root.iter())
    return None if named == num_objects else f"{named - num_objects} of its objects are where none is read; {expected}"


def _read_size(root: ElementTree.Element) -> tuple[int, int]:
    """Height and width of the image; 0 and 0 where they are not stated as such. 96.0 is."""
    try:
        sides = [float(root.findtext(f"size/{side}") or "") for side in ("height", "width")]
    except ValueError:
        return 0, 0
    height, width = (int(side) if side.is_integer() else 0 for side in sides)
    return (height, width) if height in SIDES and width in SIDES else (0, 0)


def _read_object(element: ElementTree.Element, row: int, known: set[str] | None) -> list[_Object | tuple[Kind, str]]:
    """One <object>, whose <part>s are passed over, and what is wrong with it."""
    name = (element.findtext("name") or "").strip()
    if known is None and not name:
        return [(Kind.UNREADABLE_ANNOTATION, "has no <name>, expected that of its class")]
    if known is not None and name not in known:
        text = f"is of class {name!r}, which is not among the {len(known)} classes (data.classes names those to learn)"
        nearest = f"; {nearest_names(name, sorted(known))}" if len(known) <= 1000 else ""  # once for each such object
        return [(Kind.UNKNOWN_CLASS, text + nearest)]
    box = element.find("bndbox")
    try:
        corners = tuple(float((box.findtext(corner) if box is not None else None) or "") for corner in _CORNERS)
    except ValueError:
        return [(Kind.UNREADABLE_ANNOTATION, f"({name}) has no <bndbox> with the numbers {', '.join(_CORNERS)}")]
    difficult = (element.findtext("difficult") or "").strip()
    is_difficult = _FLAGS.get(difficult.lower())
    found: list[_Object | tuple[Kind, str]] = [_Object(row, name, corners, is_difficult or False)]
    if is_difficult is None:
        found.append((Kind.BAD_FLAG, f"({name}) has <difficult> {difficult!r}, expected 0 or 1"))
    return found


# ---- files of results ------------------------------------------------------------------------------------------------


def write_voc_files(folder: Path, predictions: Predictions, annotations: DetectionAnnotations) -> None:
    """Writes the results files that VOC's devkit reads, comp4_det_test_<class>.txt, one for every class.

    A line is the image's name, the score, and the first and last column and row of pixels that belong to the box,
    counted from 1: x1 + 1, y1 + 1, x2, y2. A full disk is a warning, and no file.
    """
    images = rows_of_images(predictions, annotations)
    stems = [Path(name.decode()).stem for name in annotations.files.tolist()]
    boxes = predictions.boxes.astype(np.float64) + (1, 1, 0, 0)  # [D, 4]
    order = np.argsort(predictions.labels, kind="stable")
    ends = np.cumsum(np.bincount(predictions.labels, minlength=len(annotations.class_names)))  # [C]
    for end, chosen in zip(voc_file_ends(annotations.class_names), np.split(order, ends[:-1]), strict=True):
        columns = images[chosen].tolist(), predictions.scores[chosen].tolist(), boxes[chosen].tolist()
        lines = [
            f"{stems[image]} {score:.9g} {x1:.3f} {y1:.3f} {x2:.3f} {y2:.3f}\n"
            for image, score, (x1, y1, x2, y2) in zip(*columns, strict=True)
        ]
        with going_on_when_disk_is_full("comp4_det_test_*.txt"):
            folder.mkdir(parents=True, exist_ok=True)
            replace_text(folder / f"comp4_det_test_{end}.txt", "".join(lines))


# ---- the published data set ------------------------------------------------------------------------------------------


def _archive(year: int, name: str, md5: str) -> Archive:
    """An archive that holds VOCdevkit/VOC<year>; the lists of images go last, for they make a split."""
    parts = ("JPEGImages", "Annotations", "ImageSets")
    moves = tuple((f"VOCdevkit/VOC{year}/{part}", f"VOC{year}/{part}") for part in parts)
    return Archive(f"voc{year}/{name}", md5, moves)


_VOC2007 = _archive(2007, "VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64")
_VOC2007_TEST = _archive(2007, "VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f")
_VOC2012 = _archive(2012, "VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd")

VOC_ARCHIVES: dict[str, Archive] = {
    **{f"VOC2007/ImageSets/Main/{name}.txt": _VOC2007 for name in ("train", "val", "trainval")},
    "VOC2007/ImageSets/Main/test.txt": _VOC2007_TEST,
    **{f"VOC2012/ImageSets/Main/{name}.txt": _VOC2012 for name in ("train", "val", "trainval")},
}
"""What brings each split, by the list of images that shows that it is there. 0.46, 0.45 and 2 GB."""


def download_voc(
    folder: Path, splits: Sequence[str] = ("VOC2007/trainval", "VOC2007/test", "VOC2012/trainval"), url: str = URL
) -> None:
    """Makes sure that a folder holds splits of Pascal VOC.

    Args:
        folder: takes VOC2007/ and VOC2012/, and the archives.
        splits: VOC2007/<train, val, trainval or test>, VOC2012/<train, val or trainval>; what the folder holds already
            may have any name.
        url: where voc2007/ and voc2012/ are served.

    Raises:
        DataError: a split that nobody publishes; an archive could not be fetched, is not the published one, or could
            not be unpacked.
    """
    for split in splits:
        year, _, name = split.rpartition("/")
        provide(f"{year}/ImageSets/Main/{name}.txt", VOC_ARCHIVES, folder, url)


# ---- the row ---------------------------------------------------------------------------------------------------------


def _scan(folder: Path, splits: Sequence[str], data: VocData) -> RawAnnotations:
    return scan_voc(folder, splits, voc_class_names(folder) if data.classes is None else None)


def _images(folder: Path, data: VocData) -> list[Path]:
    found = sorted(voc_images(folder, data.val_splits))
    if not found:
        raise FileNotFoundError(f"not one image of {', '.join(data.val_splits)} is in {folder}.")
    return found


def _recognize(folder: Path) -> Layout | None:
    """Annotations of images in the folder itself or in folders below it, each with its lists or with all images."""
    years = [year for year in _places(folder) if _is_year(year)]
    if not years:
        return None
    splits: dict[str, str] = {}  # by what tells what they are for: the list's name, or the folder's (Roboflow)
    for year in years:
        name = "" if year == folder else year.relative_to(folder).as_posix()
        prefix = f"{name}/" if name else ""
        lists = [prefix + file[:-4] for file in sorted(names_in(year / "ImageSets" / "Main")) if file.endswith(".txt")]
        told = choose_splits([one for one in lists if purpose_of(one) is not None])
        splits |= {one: one for one in (*told.train, *told.val)} if told.names else {name: prefix + ALL}
    chosen = Splits(*(tuple(splits[one] for one in names) for names in choose_splits([*splits])))
    places = ", ".join("the folder itself" if year == folder else year.relative_to(folder).as_posix() for year in years)
    return Layout(f"Pascal VOC's ({places})", chosen, {})


def _lacks(folder: Path) -> str | None:
    """What a folder lacks that holds annotations of this format, and nowhere their images; None: it has none."""
    found = next((files for year in _places(folder) if holds(files := _annotation_folder(year), ".xml")), None)
    if found is None:
        return None
    year = found if found.name not in _ANNOTATION_FOLDERS else found.parent
    return (
        f"{found} holds Pascal VOC's annotations, and their images are missing: there is no folder "
        f"{year / _IMAGE_FOLDERS[0]} or {_IMAGE_FOLDERS[1]}, and none lies beside them."
    )


def _places(folder: Path) -> list[Path]:
    """Where annotations, images and lists may lie together."""
    return [folder, *_folders(folder), *_folders(folder / "VOCdevkit")]


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones apart, sorted."""
    return sorted(folder / name for name in names_in(folder) if not name.startswith(".") and (folder / name).is_dir())


def _is_year(folder: Path) -> bool:
    """Whether it holds annotations, and images in their own folder or beside them."""
    images = _image_folder(folder)
    has_images = images.is_dir() and (images != folder or any(holds(folder, one) for one in EXTENSIONS))
    annotations, has_lists = _annotation_folder(folder), holds(folder / "ImageSets" / "Main", ".txt")
    in_folders = has_lists and any(holds(one, ".xml") for one in _folders(annotations))  # which the lists name
    return has_images and (in_folders or holds(annotations, ".xml"))


VOC = DetectionFormat(
    options=VocData,
    scan=_scan,
    images=_images,
    write=write_voc_files,
    recognize=_recognize,
    lacks=_lacks,
    published=Published("Pascal VOC 2007 and 2012 (3 GB)", "VOCdataset", download_voc),
    results=Results(".txt", read_voc_results),
)
