"""The images of a split as files in folders of their classes, and the samples of any such split.

Classes are numbered by their sorted folder names, as torchvision's ImageFolder numbers them. `packed.py` gives the same
images from one file a split.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from public.config.data import MAX_PIXELS
from public.config.names import first_few, first_line, unusable_names
from public.datasets.batches import DataError, labels_by_name
from public.datasets.decoding import (
    DECODING_ERRORS,
    EXTENSIONS,
    FoundFiles,
    UnreadableImage,
    decode_opencv,
    decode_pil,
    files_below,
    is_hidden,
)
from public.datasets.locations import where_to_get
from public.datasets.scan import Kind, Problem
from public.runtime.seeding import drawing_for


class Images(Protocol):
    """The images of one split: files of a folder (`ImageList`) or records of one file (`packed.PackedImages`)."""

    @property
    def folder(self) -> Path:
        """The split's folder, or its packed file."""
        ...

    @property
    def files(self) -> np.ndarray:
        """Paths below the split's folder as fixed-width bytes [N]: one block of memory, which workers share."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """int64 [N]."""
        ...

    @property
    def class_names(self) -> list[str]:
        """The classes' folder names, sorted."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded image. Raises OSError, with the reason, where it cannot be read."""
        ...

    def unreadable(self, index: int, reason: str) -> UnreadableImage:
        """Names an image that cannot be used."""
        ...

    @property
    def hidden(self) -> list[str]:
        """Files and folders that were passed over as hidden."""
        ...

    @property
    def unread(self) -> list[str]:
        """Files that are images of kinds that are not read."""
        ...

    def with_classes(self, class_names: list[str]) -> Self:
        """The same images with labels by other class names, which hold all of their own.

        Raises:
            DataError: they do not.
        """
        ...


class ImageList(NamedTuple):
    """The files of one split, as `Images`."""

    folder: Path
    files: np.ndarray
    labels: np.ndarray
    class_names: list[str]
    hidden: list[str] = []  # noqa: RUF012 - nothing writes into it
    unread: list[str] = []  # noqa: RUF012

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return self.folder / os.fsdecode(self.files[index])

    def read(self, index: int) -> bytes:
        """The file's content."""
        return self.path(index).read_bytes()

    def unreadable(self, index: int, reason: str) -> UnreadableImage:
        """Names the file."""
        return UnreadableImage(str(self.path(index)), reason)

    def with_classes(self, class_names: list[str]) -> Self:
        """See `Images`."""
        labels = labels_by_name(self.labels, self.class_names, class_names, self.folder)
        return self._replace(labels=labels, class_names=class_names)

    def part(self, rows: np.ndarray) -> Self:
        """Some of the images, by bool [N]."""
        return self._replace(files=self.files[rows], labels=self.labels[rows])


def list_images(root: Path, split: str) -> ImageList:
    """Finds the images of a split; hidden files and folders are passed over.

    Raises:
        DataError: a folder is missing, holds no classes, or a class holds no image.
    """
    folder = root / split
    if not folder.is_dir():
        raise DataError(
            f"{folder} is missing; expected {split}/<class>/<image files> in {root}. {where_to_get(folder)}"
        )
    folders = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    class_names = [name for name in folders if not is_hidden(name)]
    if not class_names:
        raise DataError(f"{folder} holds no folders; expected one folder of images for each class.")
    if problems := unusable_names(class_names):
        raise DataError(f"{folder}: {problems[0]}; rename its folder.")
    hidden, unread = [name for name in folders if is_hidden(name)], []
    files: list[str] = []
    counts: list[int] = []
    for name in class_names:
        found = _found(folder / name)
        if not found.images:
            others = f"; {', '.join(found.unread[:3])}: of a kind that is not read" if found.unread else ""
            raise DataError(f"the class folder {folder / name} holds no image ({', '.join(EXTENSIONS)}){others}.")
        files += [f"{name}/{file}" for file in found.images]
        counts.append(len(found.images))
        hidden += [f"{name}/{file}" for file in found.hidden]
        unread += [f"{name}/{file}" for file in found.unread]
    encoded = np.array(os.fsencode("\0".join(files)).split(b"\0"))
    labels = np.repeat(np.arange(len(class_names), dtype=np.int64), counts)
    return ImageList(folder, encoded, labels, class_names, hidden, unread)


def _found(folder: Path) -> FoundFiles:
    try:
        return files_below(folder)
    except OSError as error:
        raise DataError(f"the class folder {folder} cannot be listed: {first_line(error)}.") from error


def nothing_to_tell_apart(class_names: Sequence[str]) -> str | None:
    """Why classes cannot be trained on; None where they can."""
    if len(class_names) > 1:
        return None
    return f"there is one class alone ({class_names[0]}), and nothing to tell apart; expected a folder for each class"


def passed_over(images: Images) -> list[Problem]:
    """What of a split's folder is not among its images."""
    hidden = [
        Problem(Kind.HIDDEN, f"{images.folder}/{path}", "it is hidden, and passed over") for path in images.hidden
    ]
    text = f"it is an image of a kind that is not read; what is: {', '.join(EXTENSIONS)}"
    return hidden + [Problem(Kind.UNREAD, f"{images.folder}/{path}", text) for path in images.unread]


def passed_over_in_words(images: Images) -> Iterator[str]:
    """A line for each kind of those."""
    for kind, problems in itertools.groupby(passed_over(images), lambda problem: problem.kind):
        paths = [problem.path for problem in problems]
        yield f"passed over: {len(paths)} {kind} ({first_few(paths, 3)})"


def unseen_classes(images: Images) -> list[str]:
    """The classes of which a split holds no image."""
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    return [name for name, count in zip(images.class_names, counts, strict=True) if count == 0]


class ImageFolderDataset(Dataset[Any]):
    """Decoded and transformed images of one split.

    Args:
        images: the files, or the records of a packed file: the samples are the same.
        transforms: torchvision v2 transforms, applied in order to a uint8 tensor [3, H, W] ('opencv') or to a PIL
            image ('pil'); the result must be uint8 [3, H', W'] or a PIL image.
        decoder: 'opencv' or 'pil'. They decode to the same pixels; resizing then rounds a little differently.
        seed: of the augmentation.
        upright: whether photos are turned by their EXIF orientation.
        max_pixels: a picture of more is refused.
    """

    def __init__(
        self,
        images: Images,
        transforms: Sequence[Callable[..., Any]],
        *,
        decoder: str,
        seed: int,
        upright: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.images, self.transforms, self.seed = images, transforms, seed
        self.options: dict[str, Any] = {"upright": upright, "max_pixels": max_pixels}
        self.decode = partial({"opencv": decode_opencv, "pil": decode_pil}[decoder], **self.options)

    def __len__(self) -> int:
        return len(self.images.files)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int] | UnreadableImage:
        """The sample of (epoch, number): uint8 [3, H', W'] and its label; every random draw depends on these alone.

        N and above are the same images once more, see `EpochOrder`.
        """
        epoch, number = key
        index = number % len(self)
        try:
            image = self.decode(self.images.read(index))
        except DECODING_ERRORS as error:
            return self.images.unreadable(index, first_line(error))
        with drawing_for(self.seed, epoch, number):
            for transform in self.transforms:
                image = transform(image)
        tensor = image if isinstance(image, torch.Tensor) else F.pil_to_tensor(image)
        return tensor, int(self.images.labels[index])
