"""CIFAR-100 from pickles to batches: layouts, refusals, download, and batches by coordinates."""

import hashlib
import http.server
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from public.datasets import cifar100
from public.datasets.batches import ClassificationBatch, DataError
from public.datasets.cifar100 import (
    Cifar100,
    CifarEvalLoader,
    CifarTrainLoader,
    download_archive,
    read_cifar100,
)
from public.runtime.seeding import epoch_order, uniforms
from public.transforms.batch import BatchRandomCrop, BatchRandomHorizontalFlip

NAMES = ["apple", "bear", "clock"]


def split_of(count: int, seed: int = 0) -> dict[str, Any]:
    """A pickle's content: noise images, labels 0 1 2 0 1 2 ..."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": images, "fine_labels": [n % 3 for n in range(count)], "filenames": ["x.png"] * count}


def write(folder: Path, protocol: int = 4, as_bytes: bool = False, **files: Any) -> Path:
    """cifar-100-python/ with train, test and meta, of which `files` replaces some."""
    content = {"train": split_of(7), "test": split_of(5, seed=1), "meta": {"fine_label_names": NAMES}} | files
    (folder / "cifar-100-python").mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        if as_bytes:  # as python 2 wrote text
            value = {
                key.encode(): [v.encode() if isinstance(v, str) else v for v in val] if isinstance(val, list) else val
                for key, val in value.items()
            }
        (folder / "cifar-100-python" / name).write_bytes(pickle.dumps(value, protocol=protocol))
    return folder


# ---- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "as_bytes"), [(2, False), (2, True), (4, False), (5, True)])
def test_both_splits(tmp_path: Path, protocol: int, as_bytes: bool) -> None:
    """Red, green and blue planes of 32x32, fine labels, names; whichever python wrote the files."""
    write(tmp_path, protocol, as_bytes)
    train = read_cifar100(tmp_path, "train", published_archive=False)
    val = read_cifar100(tmp_path, "val", published_archive=False)
    assert (train.images.shape, train.images.dtype) == ((7, 3, 32, 32), torch.uint8)
    assert train.images[2, 1, 3, 4] == split_of(7)["data"][2, 1024 + 3 * 32 + 4]
    assert (train.labels.tolist(), train.labels.dtype) == ([0, 1, 2, 0, 1, 2, 0], torch.int64)
    assert train.class_names == val.class_names == NAMES
    assert (val.images.flatten(1).numpy() == split_of(5, seed=1)["data"]).all()


def test_only_the_published_files_are_accepted_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By checksum, of the split and of meta; the message says how another data set is accepted."""
    folder = write(tmp_path) / "cifar-100-python"
    with pytest.raises(DataError, match=r"train is not CIFAR-100's published file \(md5 .*--data\.published-archive"):
        read_cifar100(tmp_path, "train")
    digests = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in ("train", "test", "meta")}
    monkeypatch.setattr(cifar100, "FILE_MD5", digests)
    assert len(read_cifar100(tmp_path, "train").images) == 7
    monkeypatch.setattr(cifar100, "FILE_MD5", digests | {"meta": "0" * 32})
    with pytest.raises(DataError, match=r"meta is not CIFAR-100's published file .* expected 0{32}"):
        read_cifar100(tmp_path, "train")


def test_a_missing_data_set(tmp_path: Path) -> None:
    """The file that was looked for, and where to get data."""
    with pytest.raises(
        DataError, match=rf"{tmp_path}/cifar-100-python/train cannot be read \(No such file.*--data\.folder"
    ):
        read_cifar100(tmp_path, "train")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_damaged_pickle(tmp_path: Path, share: float) -> None:
    """A file that ends early is named."""
    path = write(tmp_path) / "cifar-100-python" / "train"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=rf"^{path} is not a CIFAR-100 pickle: "):
        read_cifar100(tmp_path, "train", published_archive=False)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": {"fine_labels": [0]}}, r"the key 'data' of train must be uint8 \[N, 3072\]"),
        ({"train": split_of(7) | {"data": np.zeros((7, 3072))}}, r"must be uint8 \[N, 3072\]"),
        ({"train": split_of(7) | {"data": np.zeros((7, 1024), np.uint8)}}, r"must be uint8 \[N, 3072\]"),
        ({"train": split_of(7) | {"fine_labels": [0] * 6}}, r"one 'fine_labels' entry per image"),
        ({"train": {"data": split_of(7)["data"], "labels": [0] * 7}}, r"one 'fine_labels' entry per image"),
        ({"train": split_of(7) | {"fine_labels": [3] * 7}}, r"fine_labels reach 3, and meta names 3 classes"),
        ({"meta": {"coarse_label_names": NAMES}}, r"meta the list of names 'fine_label_names'"),
        ({"meta": {"fine_label_names": "abc"}}, r"meta the list of names 'fine_label_names'"),
        ({"meta": {"fine_label_names": ["a", 1, "c"]}}, r"meta the list of names 'fine_label_names'"),
        ({"meta": {"fine_label_names": ["a", "b", "a"]}}, "more than one class is called 'a', expected each name once"),
        ({"train": [1, 2]}, r"train holds a list, expected a dict"),
    ],
)
def test_another_layout(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    """What is missing or of another shape, CIFAR-10's pickles among them ('labels')."""
    with pytest.raises(DataError, match=message):
        read_cifar100(write(tmp_path, **files), "train", published_archive=False)


class Attack:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path, function: Any = os.mkdir) -> None:
        self.path, self.function = path, function

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, (str(self.path),)


@pytest.mark.parametrize("function", [os.mkdir, eval, np.fromfile])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, function: Any) -> None:
    """Anything but plain values and arrays is refused by name, numpy's other functions too."""
    folder = write(tmp_path, train={"data": Attack(tmp_path / "hacked", function)})
    with pytest.raises(DataError, match=rf"it refers to \w+\.{function.__name__}, which no CIFAR-100 file does"):
        read_cifar100(folder, "train", published_archive=False)
    assert not (tmp_path / "hacked").exists()


def test_the_small_real_set(real_data: Path) -> None:
    """Not the published archive: refused as such, read when asked for; 10,000 and 2,000 images of 100 classes."""
    folder = real_data / "cifar100_like"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    with pytest.raises(DataError, match="is not CIFAR-100's published file"):
        read_cifar100(folder, "val")
    train, val = (read_cifar100(folder, split, published_archive=False) for split in ("train", "val"))
    assert (len(train.images), len(val.images), len(train.class_names)) == (10_000, 2_000, 100)
    assert train.labels.bincount().tolist() == [100] * 100


# ---- download ----------------------------------------------------------------------------------------------------


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine that holds a tiny archive.tar.gz."""
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "served").mkdir()
    write(tmp_path / "source")
    with tarfile.open(tmp_path / "served" / "archive.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "source" / "cifar-100-python", "cifar-100-python")
    handler = partial(QuietHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def md5_of_served(tmp_path: Path) -> str:
    """The archive's checksum."""
    return hashlib.md5((tmp_path / "served" / "archive.tar.gz").read_bytes()).hexdigest()


def test_a_missing_archive_is_fetched_once(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """download=True fetches, verifies and unpacks; what is there already is not fetched again."""
    fetched: list[Path] = []

    def fetch(folder: Path) -> None:
        fetched.append(folder)
        download_archive(folder, f"{server}/archive.tar.gz", md5_of_served(tmp_path))

    monkeypatch.setattr(cifar100, "download_archive", fetch)
    for _ in range(2):
        data = read_cifar100(tmp_path / "CIFAR100", "train", published_archive=False, download=True)
        assert len(data.images) == 7
    assert fetched == [tmp_path / "CIFAR100"]


def test_another_archive_than_the_published_one_is_refused(tmp_path: Path, server: str) -> None:
    """A wrong checksum: nothing is unpacked, and the message says what to do by hand."""
    url = f"{server}/archive.tar.gz"
    with pytest.raises(DataError, match=rf"could not be fetched from {url}: .* unpack it in {tmp_path}/CIFAR100\."):
        download_archive(tmp_path / "CIFAR100", url, "0" * 32)
    assert not (tmp_path / "CIFAR100" / "cifar-100-python").exists()


def test_an_address_that_does_not_answer(tmp_path: Path, server: str) -> None:
    """Not found: one sentence with the address."""
    with pytest.raises(DataError, match=r"could not be fetched from http://127\.0\.0\.1:\d+/nothing\.tar\.gz: .*404"):
        download_archive(tmp_path / "CIFAR100", f"{server}/nothing.tar.gz", "0" * 32)


# ---- batches -----------------------------------------------------------------------------------------------------

AUGMENTED = (BatchRandomHorizontalFlip(), BatchRandomCrop(size=32, padding=4))


def data_of(count: int) -> Cifar100:
    """Noise images, every one its own label, so that a batch tells which images it holds."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Cifar100(images, torch.arange(count), [f"class {n}" for n in range(count)])


def loader_of(count: int = 30, batch_size: int = 8, seed: int = 0, **options: Any) -> CifarTrainLoader:
    """A loader of augmented noise."""
    return CifarTrainLoader(data_of(count), AUGMENTED, batch_size=batch_size, seed=seed, **options)


def all_same(a: list[ClassificationBatch], b: list[ClassificationBatch]) -> bool:
    """As many batches, each bit for bit."""
    return len(a) == len(b) and all(
        torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels) for x, y in zip(a, b, strict=True)
    )


def test_batches_by_hand() -> None:
    """Order, draws and augmentation of each image, one at a time, with torchvision's operations.

    Three draws an image: flipped if the first is below 0.5, then cut at (9 y, 9 x) out of the image padded by 4.
    """
    data = data_of(30)
    order = epoch_order(5, 2, 30)
    batches = list(loader_of(seed=5).epoch(2))
    assert [batch.labels.tolist() for batch in batches] == [order[8 * s : 8 * s + 8].tolist() for s in range(3)]
    for image, index in zip(batches[1].images, order[8:16], strict=True):
        flip, y, x = uniforms(5, 2, np.array([index]), 3)[0]
        expected = reference.horizontal_flip(data.images[index]) if flip < 0.5 else data.images[index]
        padded = torch.nn.functional.pad(expected[None].float(), [4] * 4, mode="reflect")[0].to(torch.uint8)
        assert torch.equal(image, reference.crop(padded, int(9 * y), int(9 * x), 32, 32))


@pytest.mark.parametrize("num_processes", [2, 4])
def test_ranks_together_load_the_global_batch(num_processes: int) -> None:
    """Side by side, the processes' batches are one process's, augmentation included."""
    parts = [list(loader_of(rank=rank, num_processes=num_processes).epoch(1)) for rank in range(num_processes)]
    together = [
        ClassificationBatch(*map(torch.cat, zip(*batches, strict=True))) for batches in zip(*parts, strict=True)
    ]
    assert all_same(together, list(loader_of().epoch(1)))


def test_an_epoch_goes_on_from_any_step() -> None:
    """3 steps of 8 of 30 images: from step 1 on the last two, from step 3 on none, whatever was loaded before."""
    whole = list(loader_of().epoch(4))
    loader = loader_of()
    next(loader.epoch(7))
    for first_step in range(4):
        assert all_same(list(loader.epoch(4, first_step)), whole[first_step:])
    assert loader.steps_per_epoch == 3


def test_epochs_and_seeds_differ_and_the_data_stays() -> None:
    """Other order and augmentation; the images in memory are not touched."""
    loader = loader_of()
    first = list(loader.epoch(0))
    assert not all_same(list(loader.epoch(1)), first)
    assert not all_same(list(loader_of(seed=1).epoch(0)), first)
    assert all_same(list(loader.epoch(0)), first)
    assert torch.equal(loader.images, data_of(30).images)


def test_repeated_augmentation() -> None:
    """Batches of 8 hold 4 images twice, with draws of their own; two processes' batches side by side are one's."""
    loader = loader_of(repeats=2)
    batches = list(loader.epoch(1))
    assert len(batches) == loader.steps_per_epoch == 3
    for batch, samples in zip(batches, epoch_order(0, 1, 30)[:12].reshape(3, 4), strict=True):
        assert batch.labels.tolist() == [*samples.tolist(), *samples.tolist()]
        assert not torch.equal(batch.images[:4], batch.images[4:])
    halves = [list(loader_of(repeats=2, rank=rank, num_processes=2).epoch(1)) for rank in (0, 1)]
    together = [ClassificationBatch(*map(torch.cat, zip(a, b, strict=True))) for a, b in zip(*halves, strict=True)]
    assert all_same(together, batches)


def test_without_transforms() -> None:
    """The images themselves, in the epoch's order."""
    data = data_of(10)
    (batch,) = CifarTrainLoader(data, (), batch_size=10, seed=0).epoch(0)
    assert torch.equal(batch.images, data.images[batch.labels])


def test_too_few_images() -> None:
    """Both numbers, and the data set's name."""
    with pytest.raises(DataError, match=r"CIFAR-100 holds 30 training images, fewer than one .*batch_size=31"):
        loader_of(batch_size=31)


@pytest.mark.parametrize("num_processes", [1, 2, 3, 7, 8])
def test_evaluation_covers_every_image_once(num_processes: int) -> None:
    """7 images in batches of 2 over up to 8 processes, the last of which has none; unaugmented."""
    data = data_of(7)
    loaders = [
        CifarEvalLoader(data, batch_size=2, rank=rank, num_processes=num_processes, device="cpu")
        for rank in range(num_processes)
    ]
    batches = [batch for loader in loaders for batch in loader]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert sorted(labels.tolist()) == list(range(7))
    assert torch.equal(images, data.images[labels])
    assert {loader.num_images for loader in loaders} == {7}
    assert all(len(batch.labels) <= 2 for batch in batches)


@pytest.mark.parametrize("labels", [[], ["0"], [0.5]])
def test_labels_of_another_kind(tmp_path: Path, labels: list[Any]) -> None:
    """No image at all, text, fractions."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    content = {"data": np.zeros((len(labels), 3072), np.uint8), "fine_labels": labels}
    (folder / "train").write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a"]}))
    with pytest.raises(DataError, match="one 'fine_labels' entry per image"):
        read_cifar100(tmp_path, "train", published_archive=False)
