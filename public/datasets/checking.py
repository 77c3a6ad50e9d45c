"""What the checks of all formats have in common: a split's classes, its size, and every image of it read."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from public.config.names import first_line, printable
from public.config.record import class_summary
from public.config.run import RunConfig
from public.datasets.batches import DataError, steps_per_epoch
from public.datasets.decoding import DECODING_ERRORS, UnusablePixels, decode_opencv
from public.datasets.image_folder import Images, nothing_to_tell_apart, passed_over, unseen_classes
from public.datasets.loaders import received
from public.datasets.scan import Kind, Problem, unseen_problems
from public.runtime.device import num_cores
from public.runtime.interruption import ignore_signals_in_worker


class FoundImage(NamedTuple):
    """What was seen of one image file."""

    path: str
    problem: Problem | None
    """Why training could not use it."""
    digest: bytes
    """Of the file's content: equal for equal files. Empty where it could not be read."""
    size: tuple[int, int]
    """Height and width in pixels; 0 where it could not be decoded."""
    way: str | None = None
    """Of a detection data set that does not say which way up its photos are annotated: see `annotated_way`."""


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """What a split holds, for its statistics: N images, T objects."""

    name: str
    """train, val, or whatever else the split is called."""
    found: list[FoundImage]
    """[N]."""
    class_names: list[str]
    """Of the labels."""
    labels: np.ndarray
    """int64 [T]; without boxes, of the images."""
    object_images: np.ndarray
    """int64 [T]: the row of each object's image."""
    boxes: np.ndarray | None = None
    """float [T, 4], x1 y1 x2 y2 in pixels; None: images have classes, not boxes."""


class SplitReport(NamedTuple):
    """What was found in one split."""

    title: str
    content: str
    """How much there is."""
    problems: list[Problem]
    facts: SplitFacts | None = None
    """None: no statistics."""


class ReadImages(Protocol):
    """Images of a split, each of which is read and judged when it is asked for."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, index: int) -> FoundImage:
        """What `look_at` gives."""
        ...


def unusable(title: str, error: DataError) -> SplitReport:
    """The report of a split that cannot be read at all."""
    return SplitReport(title, "cannot be read", [Problem(Kind.UNUSABLE_SPLIT, title, str(error))])


def class_problems(config: RunConfig, title: str, class_names: list[str], expected: list[str]) -> list[Problem]:
    """Whether a split's classes are those of the training split, and as many as the config states."""
    problems = []
    if class_names != expected:
        only_here, only_there = sorted({*class_names} - {*expected}), sorted({*expected} - {*class_names})
        text = f"its classes are not those of the training split; only here {only_here}, only there {only_there}"
        problems.append(Problem(Kind.DIFFERENT_CLASSES, title, f"{text} (no names: in another order)"))
    if config.num_classes not in (None, len(class_names)):
        text = f"{class_summary(class_names)}, and the config states num_classes={config.num_classes}"
        problems.append(Problem(Kind.DIFFERENT_CLASSES, title, text))
    return problems


def amount_problems(config: RunConfig, title: str, num_images: int, num_objects: int) -> list[Problem]:
    """Whether the training split makes one batch and holds something to learn."""
    problems = []
    if not num_objects:
        problems.append(Problem(Kind.TOO_LITTLE, title, "there is no object to learn"))
    try:
        steps_per_epoch(num_images, config.batch_size, title)
    except DataError as error:
        problems.append(Problem(Kind.TOO_LITTLE, title, str(error)))
    return problems


def way_problems(found: Sequence[FoundImage]) -> list[Problem]:
    """Photos that are taken upright because their size is the same both ways, where others are annotated as stored."""
    unclear = [one.path for one in found if one.way == "unclear"]
    num_stored = sum(one.way == "stored" for one in found)
    text = (
        "its EXIF orientation turns it, and its size is the same both ways, so that it is read upright; but "
        f"{num_stored} photos of this split are annotated as stored: give --data.orientation stored if all are"
    )
    return [Problem(Kind.UNCLEAR_WAY, path, text) for path in unclear] if num_stored else []


# ---- every image of a split ------------------------------------------------------------------------------------------


def look_at(path: str, read: Callable[[], bytes], judge: Callable[[bytes], tuple[int, int] | Problem]) -> FoundImage:
    """Reads one image.

    Args:
        path: for messages.
        read: gives the file's content.
        judge: decodes it and gives height and width, or what is wrong with it.
    """
    content, digest = b"", b""
    try:
        content = read()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        found = judge(content)
    except DECODING_ERRORS as error:
        return FoundImage(path, _undecoded(path, content, error), digest, (0, 0))
    if isinstance(found, Problem):
        return FoundImage(path, found, digest, (0, 0))
    return FoundImage(path, None, digest, found)


def _undecoded(path: str, content: bytes, error: Exception) -> Problem:
    """Tells a file that begins as an image from one that is none, and from one that is refused for what it is."""
    reason = first_line(error)
    if isinstance(error, UnusablePixels):
        return Problem(Kind.UNREADABLE_IMAGE, path, reason)
    try:
        with Image.open(io.BytesIO(content)) as opened:
            text = f"a {opened.format} file of {opened.width} x {opened.height} pixels that is cut short or damaged"
        return Problem(Kind.TRUNCATED_IMAGE, path, text)
    except DECODING_ERRORS:
        return Problem(Kind.UNREADABLE_IMAGE, path, reason)


def read_images(title: str, images: ReadImages, num_workers: int) -> list[FoundImage]:
    """Reads every image in several processes, with a bar in a terminal; in order.

    Raises:
        DataError: one of these processes was ended.
    """
    collate: Callable[[Sequence[Any]], Any] = list
    if num_workers:
        cv2.setNumThreads(1)  # here, before a fork: as in `loaders.build_dataloader`
    batches = DataLoader(
        _AsDataset(images),
        batch_size=64,
        collate_fn=collate,
        num_workers=min(num_workers, num_cores()),
        worker_init_fn=_start_worker,
        generator=torch.Generator(),
    )
    found: list[FoundImage] = []
    with tqdm(total=len(images), desc=title, unit="image", leave=False, dynamic_ncols=True, disable=None) as bar:
        try:
            for batch in received(batches):
                found += batch
                bar.update(len(batch))
        except RuntimeError as error:  # a worker is gone, which torch says so
            raise DataError(
                f"{title}: a process that reads images was ended ({first_line(error)}). Usually memory ran out: fewer "
                "processes (--runtime.num-workers) need less. A packed file may be damaged between its records: "
                "python -m public.datasets.pack FOLDER --check."
            ) from error
    return found


def _start_worker(worker_id: int) -> None:
    ignore_signals_in_worker(worker_id)
    cv2.setNumThreads(1)  # the other cores have workers of their own


class _AsDataset(Dataset[Any]):
    """Workers send no pixels."""

    def __init__(self, images: ReadImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> FoundImage:
        return self.images[index]


# ---- images with classes ---------------------------------------------------------------------------------------------


class ClassifiedImages:
    """Images of a classification data set, decoded as training decodes them."""

    def __init__(self, images: Images, decode: Callable[[bytes], Any]) -> None:
        self.images, self.decode = images, decode

    def __len__(self) -> int:
        return len(self.images.files)

    def __getitem__(self, index: int) -> FoundImage:
        """By its number."""
        path = self.images.unreadable(index, "").path
        return look_at(path, lambda: self.images.read(index), self._size)

    def _size(self, content: bytes) -> tuple[int, int]:
        height, width = F.get_size(self.decode(content))
        return height, width


def report_on_images(
    config: RunConfig,
    name: str,
    title: str,
    images: Images,
    expected: list[str],
    decode: Callable[[bytes], Any] = decode_opencv,
) -> SplitReport:
    """The report of a split of a classification data set, each image of which must decode.

    Args:
        config: states the classes and the batch.
        name: of the split; train has to make a batch.
        title: what the report calls it.
        images: of the split.
        expected: the classes of the training split.
        decode: an image file's content to a tensor or a PIL image, as training does it.
    """
    found = read_images(title, ClassifiedImages(images, decode), config.runtime.num_workers)
    problems = [
        *class_problems(config, title, images.class_names, expected),
        *passed_over(images),
        *unseen_problems(title, "image", unseen_classes(images), len(images.class_names)),
        *(one.problem for one in found if one.problem is not None),
    ]
    if name == "train":
        problems += amount_problems(config, title, len(found), len(found))
        too_few = nothing_to_tell_apart(images.class_names)
        problems += [Problem(Kind.TOO_LITTLE, title, too_few)] if too_few else []
    facts = SplitFacts(
        name=name,
        found=found,
        class_names=[printable(one) for one in images.class_names],
        labels=images.labels,
        object_images=np.arange(len(found)),
    )
    return SplitReport(title, f"{len(found)} images, {class_summary(images.class_names)}", problems, facts)
