"""Writes a packed file (`packed.py`): record by record under another name, which it loses when it is complete."""

import io
import json
import math
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import lmdb
import msgspec
from PIL import Image
from torch.utils.data import BatchSampler, Dataset
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from public.config.names import first_line
from public.datasets.batches import DataError
from public.datasets.decoding import DECODING_ERRORS, UnreadableImage, decode_opencv
from public.datasets.image_folder import ImageList
from public.datasets.loaders import build_dataloader, received
from public.datasets.packed import (
    CONTENTS,
    FORMAT,
    MAX_KEY_BYTES,
    SETTINGS,
    Contents,
    PackedImages,
    Shrinking,
    describe,
    open_to_read,
    partial_path,
    record_of,
    sealed,
    unsealed,
    used_bytes,
)

COMMIT_IMAGES, COMMIT_BYTES = 256, 2**26
"""What is written at once: the most that a killed conversion loses, and that it keeps in memory."""
LOCK_BYTES = 8192
"""Of LMDB's lock file, with its 126 readers."""


def pack_split(images: ImageList, target: Path, shrinking: Shrinking | None, num_workers: int) -> list[UnreadableImage]:
    """Packs the images of one split, or says that they are packed already; prints which.

    Gives the images that cannot be decoded: while there are any, the file stays unfinished.

    Args:
        images: the files.
        target: the packed file.
        shrinking: None keeps the files' own bytes.
        num_workers: processes that read, decode and shrink; 0: this one.

    Raises:
        DataError: there is another packed file or the beginning of one; a name is too long; the disk is full.
    """
    if target.exists():
        _refuse_another(PackedImages(target), images, shrinking)
        print(f"{target} is complete: {len(images.files)} images, {describe(shrinking)}. Remove it to pack again.")
        return []
    _refuse_long_names(images)
    partial = partial_path(target)
    begun = _begin(partial, shrinking)
    waiting = _not_packed(images, partial, begun)
    unreadable = _pack(images, waiting, partial, shrinking, num_workers)
    if unreadable:
        return unreadable
    _finish(images, partial, shrinking)
    partial.replace(target)
    _lock_of(partial).unlink(missing_ok=True)
    print(f"{target} is complete: {len(images.files)} images, {describe(shrinking)}, {target.stat().st_size:,} bytes.")
    return []


def _refuse_another(packed: PackedImages, images: ImageList, shrinking: Shrinking | None) -> None:
    """Raises DataError unless a packed file is of these images, with this shrinking."""
    if packed.shrinking != shrinking:
        raise DataError(
            f"{packed.folder} was packed {describe(packed.shrinking)}, and is now asked for {describe(shrinking)}: "
            "remove it, or name another destination."
        )
    there, here = packed.files.tolist(), images.files.tolist()
    if (packed.class_names, there) != (images.class_names, here):
        differing = sorted({*there} ^ {*here} or {b"the order of classes"})
        raise DataError(
            f"{packed.folder} holds other images than {images.folder}: they differ in {len(differing)}, the first is "
            f"{os.fsdecode(differing[0])}. Remove it to pack again, or name another destination."
        )


def _refuse_long_names(images: ImageList) -> None:
    for file in images.files.tolist():
        if len(file) > MAX_KEY_BYTES:
            raise DataError(
                f"the path {os.fsdecode(file)} below {images.folder} has {len(file)} bytes, and a packed file takes at "
                f"most {MAX_KEY_BYTES}: rename it."
            )


def _begin(partial: Path, shrinking: Shrinking | None) -> float:
    """When the conversion began (seconds since 1970), after a check that it is this one; now, where none was begun."""
    settings = _settings(partial)
    if settings is None:
        settings = Settings(format=FORMAT, shrinking=shrinking, begun=time.time())
        _write(partial, {SETTINGS: msgspec.json.encode(settings)})
    elif settings.shrinking != shrinking:
        raise DataError(
            f"{partial} was begun {describe(settings.shrinking)}, and is to resume {describe(shrinking)}: give the "
            "same options, or remove it to start over."
        )
    return settings.begun


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The record that a conversion writes first."""

    format: int
    shrinking: Shrinking | None
    begun: float
    """Seconds since 1970."""


def _settings(partial: Path) -> Settings | None:
    """What a conversion was begun with; None where none was."""
    if not partial.exists() or not partial.stat().st_size:
        return None
    try:
        with open_to_read(partial) as environment, environment.begin() as transaction:
            if not environment.stat()["entries"]:
                return None  # the first write failed
            return record_of(Settings, unsealed(SETTINGS, transaction.get(SETTINGS)))
    except (lmdb.Error, OSError, ValueError) as error:
        raise DataError(f"{partial} is no conversion to resume ({first_line(error)}): remove it.") from error


def _not_packed(images: ImageList, partial: Path, begun: float) -> list[int]:
    """Indices of the images without a record, or whose file was changed since the conversion began."""
    packed = _keys(partial)

    def changed(index: int) -> bool:
        try:
            stat = images.path(index).stat()
        except OSError:
            return True  # reading it will say why
        return max(stat.st_mtime, stat.st_ctime) > begun

    files = images.files.tolist()
    return [index for index, file in enumerate(files) if file not in packed or changed(index)]


def _keys(partial: Path) -> set[bytes]:
    """Paths of all images that have a record."""
    with open_to_read(partial) as environment, environment.begin() as transaction:
        return {bytes(key) for key in transaction.cursor().iternext(values=False)} - {SETTINGS, CONTENTS}


def _pack(
    images: ImageList, waiting: list[int], partial: Path, shrinking: Shrinking | None, num_workers: int
) -> list[UnreadableImage]:
    """Writes the records of the waiting images, many at once, and gives the images that have none."""
    collate: Callable[[Any], Any] = list
    sampler: Any = BatchSampler(waiting, 16, drop_last=False)
    batches = build_dataloader(_Encoded(images, shrinking), sampler, collate, num_workers, pin_memory=False)
    bar = tqdm(total=len(images.files), desc=partial.stem, unit="image", dynamic_ncols=True, disable=None)
    bar.update(len(images.files) - len(waiting))
    records: dict[bytes, bytes] = {}
    unreadable: list[UnreadableImage] = []
    with bar:
        for batch in received(batches):
            records |= {key: content for key, content in batch if isinstance(content, bytes)}
            unreadable += [content for _, content in batch if isinstance(content, UnreadableImage)]
            if len(records) >= COMMIT_IMAGES or sum(map(len, records.values())) >= COMMIT_BYTES:
                _write(partial, records)
                records = {}
            bar.update(len(batch))
    _write(partial, records)
    return unreadable


class _Encoded(Dataset[Any]):
    """What each image is stored as.

    Args:
        images: the files.
        shrinking: None keeps their own bytes.
    """

    def __init__(self, images: ImageList, shrinking: Shrinking | None) -> None:
        self.images, self.shrinking = images, shrinking

    def __len__(self) -> int:
        return len(self.images.files)

    def __getitem__(self, index: int) -> tuple[bytes, bytes | UnreadableImage]:
        """The record's key and content."""
        key = bytes(self.images.files[index])
        try:
            return key, encoded(self.images.read(index), self.shrinking)
        except DECODING_ERRORS as error:
            return key, self.images.unreadable(index, first_line(error))


def encoded(content: bytes, shrinking: Shrinking | None) -> bytes:
    """An image file's content, as it is or shrunk.

    An image that is not larger than asked for keeps its own bytes: encoding it again could only lose.

    Raises:
        OSError, cv2.error: it cannot be decoded.
    """
    image = decode_opencv(content)  # [3, H, W]
    if shrinking is None or min(image.shape[1:]) <= shrinking.shorter_side:
        return content
    small = F.resize(image, [shrinking.shorter_side], antialias=True)  # [3, h, w], min(h, w) = shorter_side
    file = io.BytesIO()
    Image.fromarray(small.permute(1, 2, 0).contiguous().numpy()).save(file, "JPEG", quality=shrinking.quality)
    return file.getvalue()


def _finish(images: ImageList, partial: Path, shrinking: Shrinking | None) -> None:
    """Writes the record of contents, and drops the records of files that are gone since they were packed."""
    contents = Contents(
        format=FORMAT,
        shrinking=shrinking,
        class_names=images.class_names,
        files=[os.fsdecode(file) for file in images.files.tolist()],
        labels=images.labels.tolist(),
    )
    there, expected = _keys(partial), {*images.files.tolist()}
    if expected - there:
        raise DataError(
            f"{partial} was taken away while it was written; do not pack a data set twice at the same time."
        )
    _write(partial, {CONTENTS: json.dumps(msgspec.structs.asdict(contents)).encode()}, remove=there - expected)
    with open_to_read(partial) as environment:
        length = used_bytes(environment)
    # LMDB leaves out unused pages at the end: a reader could not tell that from a file that was cut short.
    if partial.stat().st_size < length:
        os.truncate(partial, length)


def _write(partial: Path, records: Mapping[bytes, bytes], remove: Collection[bytes] = ()) -> None:
    """Writes and removes records, all or none of them, down to the disk.

    Raises:
        DataError: it cannot be done.
    """
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _reserve_lock(partial)
        size = partial.stat().st_size if partial.exists() else 0
        # An upper bound for this time: a fixed size would be too small for some, and more than some file systems give.
        map_size = size + sum(map(len, records.values())) + 2**14 * (len(records) + len(remove)) + 2**24
        map_size = math.ceil(map_size / 2**20) * 2**20  # whole pages of memory
        with (
            lmdb.open(str(partial), subdir=False, map_size=map_size) as environment,
            environment.begin(write=True) as transaction,
        ):
            for key, content in records.items():
                transaction.put(key, sealed(key, content))
            for key in remove:
                transaction.delete(key)
    except (lmdb.Error, OSError) as error:
        raise DataError(
            f"{partial} cannot be written ({first_line(error)}). Is the disk full, or not writable? Make room, or name "
            "another destination; the same command then resumes, and nothing that was packed is lost."
        ) from error


def _reserve_lock(partial: Path) -> None:
    """Gives LMDB's lock file its blocks: LMDB maps a file of holes, and a full disk would then end the process."""
    if hasattr(os, "posix_fallocate"):  # Linux
        with _lock_of(partial).open("ab") as lock:
            os.posix_fallocate(lock.fileno(), 0, LOCK_BYTES)


def _lock_of(partial: Path) -> Path:
    """What LMDB leaves beside a file that it has written."""
    return partial.with_name(f"{partial.name}-lock")
