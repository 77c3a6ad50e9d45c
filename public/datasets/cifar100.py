"""CIFAR-100 (Krizhevsky 2009), held in memory and augmented a whole batch at a time.

The folder holds cifar-100-python/{train,test,meta}, python pickles as published. Reading them runs no code that a file
may carry: only the few numpy names that such a pickle needs are allowed.
"""

import codecs
import hashlib
import io
import math
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torchvision.datasets.utils import download_url

from public.config.calls import build_all
from public.config.checks import require
from public.config.classification import ClassificationConfig, ClassificationData
from public.config.names import first_line, unusable_names
from public.config.record import class_summary
from public.datasets.archives import unpack
from public.datasets.balance import EpochOrder, balanced
from public.datasets.batches import (
    ClassificationBatch,
    DataError,
    EvalData,
    TrainData,
    common_batches,
    labels_by_name,
    steps_per_epoch,
)
from public.datasets.checking import SplitReport, class_problems, unusable
from public.datasets.digests import digest
from public.datasets.format import ImageFormat
from public.datasets.locations import dataset_folder, is_generated_sample, where_to_get
from public.runtime.distributed import DistributedContext
from public.runtime.seeding import batch_of_step, uniforms
from public.transforms.batch import BatchTransform

ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
ARCHIVE_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
FILE_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
SUBFOLDER = "cifar-100-python"


SIDE = 32
"""Height and width of every image, pixels."""


@dataclass(frozen=True, kw_only=True)
class Cifar100Data(ClassificationData):
    """CIFAR-100's python pickles in cifar-100-python/ of `folder`, or any of the same layout.

    Transforms are those of public/transforms/batch.py, of a whole batch; evaluation has none.
    """

    kind: ClassVar[str] = "cifar100"
    input_size: int = SIDE
    """Height and width of the images, which are used as they are."""
    download: bool = False
    """Fetch the published archive (and verify it) if the folder does not hold it."""
    published_archive: bool | None = None
    """True accepts the published files alone (by checksum), None the generated sample too, False any files of the
    same layout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.input_size == SIDE,
            f"data.input_size={self.input_size} must be {SIDE}: CIFAR-100's images are used as they are.",
        )
        require(
            self.val_fraction is None,
            f"data.val_fraction={self.val_fraction} has no effect with data.dataset={self.kind!r}, which has a split.",
        )
        for call in self.train_transforms:
            require(
                hasattr(call.type, "num_draws"),
                f"data.train_transforms holds {call}, which works on one image; data.dataset={self.kind!r} takes the "
                "whole-batch transforms of public/transforms/batch.py.",
            )
        require(
            not self.val_transforms,
            f"data.val_transforms has no effect with data.dataset={self.kind!r}: leave it empty.",
        )


class Cifar100(NamedTuple):
    """One split, in memory."""

    images: torch.Tensor
    """uint8 [N, 3, 32, 32]."""
    labels: torch.Tensor
    """int64 [N], the fine labels."""
    class_names: list[str]
    """Names of the 100 classes."""


def read_cifar100(folder: Path, split: str, *, published_archive: bool = True, download: bool = False) -> Cifar100:
    """Reads one split.

    Args:
        folder: holds cifar-100-python/.
        split: 'train' or 'val' (the published test set).
        published_archive: accept only the published files, by checksum; False accepts any of the same layout.
        download: fetch and verify the archive if the folder does not hold it.

    Raises:
        DataError: the files are missing, damaged, not the published ones, or of another layout.
    """
    base = folder / SUBFOLDER
    if download and not all((base / name).is_file() for name in FILE_MD5):
        download_archive(folder)
    data = _read_pickle(base / {"train": "train", "val": "test"}[split], published_archive)
    meta = _read_pickle(base / "meta", published_archive)
    images, labels, names = data.get("data"), data.get("fine_labels"), meta.get("fine_label_names")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (3072,):
        raise DataError(f"{base}: the key 'data' of {split} must be uint8 [N, 3072], CIFAR-100's layout.")
    whole = isinstance(labels, list) and all(type(label) is int for label in labels)
    is_named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not whole or not is_named or not names or not labels or len(labels) != len(images):
        raise DataError(
            f"{base}: {split} must hold one 'fine_labels' entry per image, and meta "
            "the list of names 'fine_label_names'."
        )
    if problems := unusable_names(names):
        raise DataError(f"{base}: {problems[0]}.")
    if min(labels) < 0 or max(labels) >= len(names):
        raise DataError(f"{base}: fine_labels reach {max(labels)}, and meta names {len(names)} classes (0-based).")
    pixels = torch.from_numpy(images.reshape(-1, 3, 32, 32).copy())
    return Cifar100(pixels, torch.tensor(labels, dtype=torch.int64), list(names))


def download_archive(folder: Path, url: str = ARCHIVE_URL, md5: str = ARCHIVE_MD5) -> None:
    """Fetches, verifies and unpacks the published archive.

    Raises:
        DataError: it could not be fetched, or is not the published one.
    """
    try:
        download_url(url, folder, md5=md5)
        unpack(folder / url.rpartition("/")[2], folder)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"CIFAR-100 could not be fetched from {url}: {error}. Fetch it by hand and unpack it in {folder}."
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    """Rebuilds numbers, text, lists, dicts and numpy arrays, and nothing else."""

    # By name alone: numpy renamed the modules that these live in, and files of every age are about.
    allowed: ClassVar[dict[str, Any]] = {
        "ndarray": np.ndarray,
        "dtype": np.dtype,
        "_reconstruct": np.empty(0).__reduce__()[0],
        "_frombuffer": np.empty(1).__reduce_ex__(5)[0],
        "encode": codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Looks up one of the allowed names."""
        if module.split(".")[0] not in ("numpy", "_codecs") or name not in self.allowed:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no CIFAR-100 file does")
        return self.allowed[name]


def _read_pickle(path: Path, published_archive: bool) -> dict[str, Any]:
    """One file of the archive with text keys, checked against its published checksum if that is asked for."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"CIFAR-100: {path} cannot be read ({error.strerror}); --data.download fetches it. {where_to_get(path)}"
        ) from error
    if published_archive and hashlib.md5(content).hexdigest() != FILE_MD5[path.name]:
        raise DataError(
            f"{path} is not CIFAR-100's published file (md5 {hashlib.md5(content).hexdigest()}, expected "
            f"{FILE_MD5[path.name]}); if it is another data set of the same layout, say --data.published-archive False."
        )
    try:
        value = _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{path} is not a CIFAR-100 pickle: {first_line(error)}.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a {type(value).__name__}, expected a dict.")
    return {_text(key): [_text(v) for v in val] if isinstance(val, list) else val for key, val in value.items()}


def _text(value: Any) -> Any:
    """Python-2 byte strings as text; all else as it is."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class CifarTrainLoader:
    """Training batches of one process, cut from memory and augmented a batch at a time on the device.

    Args:
        data: the training split.
        transforms: applied in this order, each with its own draws.
        batch_size: of all processes together.
        seed: of order and augmentation.
        rank: this process.
        num_processes: all of them.
        device: where the images are kept and augmented.
        repeats: how many times each image is in its batch, see `batch_of_step`.
        factors: how often an epoch takes each image, see `EpochOrder`.
    """

    def __init__(
        self,
        data: Cifar100,
        transforms: Sequence[BatchTransform],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        num_processes: int = 1,
        device: torch.device | str = "cpu",
        where: object = "CIFAR-100",
        repeats: int = 1,
        factors: np.ndarray | None = None,
    ) -> None:
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        self.transforms, self.seed, self.repeats = transforms, seed, repeats
        self.order = EpochOrder(seed, len(data.images), factors)
        self.batch_size, self.local_size = batch_size, batch_size // num_processes
        self.offset = rank * self.local_size
        self.steps_per_epoch = steps_per_epoch(self.order.length, batch_size, where)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ClassificationBatch]:
        """The batches of one epoch from `first_step` on."""
        order = self.order.samples(epoch)
        for step in range(first_step, self.steps_per_epoch):
            epochs, samples = batch_of_step(order, epoch, step, self.batch_size, self.repeats)
            own = slice(self.offset, self.offset + self.local_size)
            yield self._batch(epochs[own], samples[own])

    def _batch(self, epochs: np.ndarray, samples: np.ndarray) -> ClassificationBatch:
        device = self.images.device
        chosen = torch.from_numpy(samples % len(self.images)).to(device, non_blocking=True)
        images = self.images.index_select(0, chosen)  # [B, 3, 32, 32]
        num_draws = sum(t.num_draws for t in self.transforms)
        draws = torch.from_numpy(uniforms(self.seed, epochs, samples, num_draws))  # [B, num_draws]
        draws = draws.to(device, non_blocking=True)
        for transform in self.transforms:
            images = transform(images, draws[:, : transform.num_draws])
            draws = draws[:, transform.num_draws :]
        return ClassificationBatch(images, self.labels[chosen])


class CifarEvalLoader:
    """One process's share of a split, in order, without augmentation."""

    def __init__(
        self, data: Cifar100, *, batch_size: int, rank: int, num_processes: int, device: torch.device | str
    ) -> None:
        self.images = data.images[rank::num_processes].to(device)
        self.labels = data.labels[rank::num_processes].to(device)
        self.data, self.num_images, self.batch_size = data, len(data.images), batch_size
        self.common_batches = common_batches(len(data.images), batch_size, num_processes)

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self) -> Iterator[ClassificationBatch]:
        for images, labels in zip(self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True):
            yield ClassificationBatch(images, labels)

    def picture(self, index: int) -> np.ndarray:
        """An image of the whole split, uint8 [32, 32, 3] red green blue."""
        return self.data.images[index].permute(1, 2, 0).numpy()

    def name(self, index: int) -> str:
        """The number of an image of the whole split."""
        return str(index)


def _read(data: Cifar100Data, split: str) -> Cifar100:
    folder = dataset_folder(data.folder)
    published = data.published_archive
    if published is None:
        published = not is_generated_sample(folder)
    return read_cifar100(folder, split, published_archive=published, download=data.download)


def _train_data(config: ClassificationConfig, context: DistributedContext) -> TrainData:
    data = config.data
    assert isinstance(data, Cifar100Data)
    split = _read(data, "train") if context.is_main else None  # the main process alone may download
    context.barrier()
    split = split or _read(data, "train")
    train = CifarTrainLoader(
        split,
        build_all(data.train_transforms, data.input_size),
        batch_size=config.batch_size,
        seed=config.seed,
        rank=context.rank,
        num_processes=context.size,
        device=context.device,
        where=dataset_folder(data.folder),
        repeats=data.repeated_augmentation or 1,
        factors=balanced(split.labels.numpy(), data, context),
    )
    val_split = _read(data, "val")
    val = _eval_loader(val_split, config.local_batch_size(context.size), context)
    digests = {
        name: digest(some.images.numpy(), some.labels.numpy())
        for name, some in (("training", split), ("validation", val_split))
    }
    return TrainData(train, val, split.class_names, len(split.images), digests=digests)


def _eval_loader(split: Cifar100, batch_size: int, context: DistributedContext) -> CifarEvalLoader:
    return CifarEvalLoader(
        split, batch_size=batch_size, rank=context.rank, num_processes=context.size, device=context.device
    )


def _eval_data(
    data: Cifar100Data,
    /,
    *,
    batch_size: int,
    num_workers: int,
    context: DistributedContext,
    class_names: list[str] | None = None,
) -> EvalData:
    split = _read(data, "val")
    if class_names is not None:
        labels = labels_by_name(split.labels.numpy(), split.class_names, class_names, dataset_folder(data.folder))
        split = split._replace(labels=torch.from_numpy(labels), class_names=class_names)
    return EvalData(_eval_loader(split, batch_size, context), split.class_names)


def _check(config: ClassificationConfig) -> Iterator[SplitReport]:
    """Both splits lie in memory: what training reads is all there is, and it is not fetched here."""
    assert isinstance(config.data, Cifar100Data)
    title = str(dataset_folder(config.data.folder))
    try:
        here = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
        data = _train_data(replace(config, data=replace(config.data, download=False)), here)
    except DataError as error:
        yield unusable(title, error)
        return
    content = f"{data.num_images} training and {data.val.num_images} validation images"
    problems = class_problems(config, title, data.class_names, data.class_names)
    yield SplitReport(title, f"{content}, {class_summary(data.class_names)}", problems)


CIFAR100 = ImageFormat(options=Cifar100Data, train_data=_train_data, eval_data=_eval_data, check=_check)
