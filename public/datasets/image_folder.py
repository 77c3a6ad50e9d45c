"""The images of a split as files in folders of their classes, and the samples of any such split.

Classes are numbered by their sorted folder names, as torchvision's ImageFolder numbers them. `packed.py` gives the same
images from one file a split.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from public.config.names import first_line
from public.datasets.batches import DataError
from public.datasets.decoding import DECODING_ERRORS, EXTENSIONS, UnreadableImage, decode_opencv, decode_pil
from public.datasets.locations import where_to_get
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


class ImageList(NamedTuple):
    """The files of one split, as `Images`."""

    folder: Path
    files: np.ndarray
    labels: np.ndarray
    class_names: list[str]

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return self.folder / os.fsdecode(self.files[index])

    def read(self, index: int) -> bytes:
        """The file's content."""
        return self.path(index).read_bytes()

    def unreadable(self, index: int, reason: str) -> UnreadableImage:
        """Names the file."""
        return UnreadableImage(str(self.path(index)), reason)


def list_images(root: Path, split: str) -> ImageList:
    """Finds the images of a split.

    Raises:
        DataError: a folder is missing, holds no classes, or a class holds no image.
    """
    folder = root / split
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; expected {split}/<class>/<image files> in {root}. {where_to_get()}")
    class_names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not class_names:
        raise DataError(f"{folder} holds no folders; expected one folder of images for each class.")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(_image_files(folder / name))
        if not found:
            raise DataError(f"the class folder {folder / name} holds no image ({', '.join(EXTENSIONS)}).")
        files += [f"{name}/{file}" for file in found]
        labels += [label] * len(found)
    return ImageList(folder, np.array([os.fsencode(f) for f in files]), np.array(labels, dtype=np.int64), class_names)


def _image_files(folder: Path) -> list[str]:
    """Paths of all images below a class folder, relative to it."""
    return [
        os.path.relpath(os.path.join(base, name), folder)
        for base, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS)
    ]


def check_same_classes(train: Images, val: Images) -> None:
    """Raises DataError unless both splits have the same classes: labels are the numbers of sorted folder names."""
    if train.class_names == val.class_names:
        return
    only_train = sorted(set(train.class_names) - set(val.class_names))
    only_val = sorted(set(val.class_names) - set(train.class_names))
    raise DataError(
        f"{train.folder} and {val.folder} must hold the same class folders; only in train: {only_train[:5]} "
        f"({len(only_train)}), only in val: {only_val[:5]} ({len(only_val)})."
    )


class ImageFolderDataset(Dataset[Any]):
    """Decoded and transformed images of one split.

    Args:
        images: the files, or the records of a packed file: the samples are the same.
        transforms: torchvision v2 transforms, applied in order to a uint8 tensor [3, H, W] ('opencv') or to a PIL
            image ('pil'); the result must be uint8 [3, H', W'] or a PIL image.
        decoder: 'opencv' or 'pil'. They decode to the same pixels; resizing then rounds a little differently.
        seed: of the augmentation.
    """

    def __init__(self, images: Images, transforms: Sequence[Callable[..., Any]], *, decoder: str, seed: int) -> None:
        self.images, self.transforms, self.seed = images, transforms, seed
        self.decode = {"opencv": decode_opencv, "pil": decode_pil}[decoder]

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
