"""Packed data sets: the folder's images in the folder's order, in any process, and a name for whatever is damaged."""

import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from public.config.calls import SIZE, Call, build_all
from public.config.classification import ClassificationConfig
from public.datasets import packed
from public.datasets.batches import ClassificationBatch, DataError
from public.datasets.check import main as check_main
from public.datasets.classification import build_eval_data, build_train_data
from public.datasets.image_folder import ImageFolderDataset, ImageList, list_images
from public.datasets.imagenet import ImageFolderData
from public.datasets.loaders import ImageFolderEvalLoader
from public.datasets.packed import CONTENTS, SETTINGS, PackedImages, find_images, sealed
from public.datasets.packing import pack_split
from public.recipes import classification as recipe
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from tests.recipes import runs
from tests.recipes.tiny_experiment import TINY

# Whether a machine has as many processors as workers is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
AUGMENTED = (Call(v2.RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip))


@pytest.fixture
def packed_folder(image_folder: Path) -> Path:
    """The tiny image folder, packed without shrinking."""
    folder = image_folder.with_name("packed")
    for split in ("train", "val"):
        assert pack_split(list_images(image_folder, split), folder / f"{split}.lmdb", None, 0) == []
    return folder


def flip_bit_of(path: Path, content: bytes) -> None:
    """Damages a content in its middle, wherever a file holds it: LMDB leaves former pages as they were."""
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    data = path.read_bytes()
    assert content in data
    path.write_bytes(data.replace(content, damaged))


def refusal(read: Callable[[], object]) -> str:
    """The message of the DataError; no traceback is kept, which would keep the workers alive for seconds."""
    try:
        read()
    except DataError as error:
        return str(error)
    pytest.fail("nothing was refused")


def whole_epochs(config: ClassificationConfig, folder: Path, context: DistributedContext) -> list[ClassificationBatch]:
    """Two epochs of training batches and one evaluation."""
    data = build_train_data(replace(config, data=replace(config.data, folder=str(folder))), context)
    return [batch for epoch in (0, 1) for batch in data.train.epoch(epoch)] + list(data.val)


# ---- the same as the folder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_same_images_in_the_same_order(image_folder: Path, packed_folder: Path, split: str) -> None:
    """Paths, labels, class names and every byte."""
    folder, ours = list_images(image_folder, split), find_images(packed_folder, split)
    assert isinstance(ours, PackedImages)
    assert ours.folder == packed_folder / f"{split}.lmdb"
    assert ours.files.tolist() == folder.files.tolist()
    assert (ours.labels.tolist(), ours.labels.dtype) == (folder.labels.tolist(), np.int64)
    assert ours.class_names == folder.class_names == ["bird", "cat"]
    assert [ours.read(n) for n in range(len(ours.files))] == [folder.read(n) for n in range(len(folder.files))]


def test_names_in_any_script(tmp_path: Path) -> None:
    """Spaces, folders within a class, letters of UTF-8, and a name that is none."""
    names = [b"chat noir/a.jpg", b"chat noir/sub/b.jpg", "écureuil/c.jpg".encode(), "écureuil/".encode() + b"\xe9.jpg"]
    for name in names:
        path = tmp_path / "val" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(0, path)  # any bytes: nothing is decoded here
    images = list_images(tmp_path, "val")
    records = {os.fsencode(name): b"content of " + name for name in names}
    write_packed(tmp_path / "val.lmdb", records, images)
    ours = PackedImages(tmp_path / "val.lmdb")
    assert ours.files.tolist() == images.files.tolist()
    assert sorted(ours.files.tolist()) == sorted(names)
    assert [ours.read(n) for n in range(4)] == [b"content of " + name for name in images.files.tolist()]


@pytest.mark.parametrize("decoder", ["opencv", "pil"])
def test_samples_are_bit_identical(image_folder: Path, packed_folder: Path, decoder: str) -> None:
    """Augmentation included, which depends on (seed, epoch, index) alone."""
    folder, ours = (
        ImageFolderDataset(find_images(root, "train"), build_all(AUGMENTED, 8), decoder=decoder, seed=3)
        for root in (image_folder, packed_folder)
    )
    for key in [(epoch, index) for epoch in (0, 1) for index in range(11)]:
        assert torch.equal(folder[key][0], ours[key][0])  # pyright: ignore
        assert folder[key][1] == ours[key][1]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_bit_identical(
    config: ClassificationConfig, image_folder: Path, packed_folder: Path, context: DistributedContext, num_workers: int
) -> None:
    """The data set is chosen by the path alone."""
    data = ImageFolderData(folder="", input_size=8, train_transforms=AUGMENTED)
    runtime = replace(config.runtime, num_workers=num_workers)
    config = replace(config, data=data, batch_size=4, runtime=runtime)
    # The evaluation's images have one size, so that they stack without a transform.
    ours, reference = (whole_epochs(config, root, context) for root in (packed_folder, image_folder))
    assert len(ours) == len(reference) == 2 * 2 + 2
    for a, b in zip(ours, reference, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


@pytest.mark.slow
def test_training_is_bit_identical(image_folder: Path, packed_folder: Path) -> None:
    """Whole runs of two epochs, the packed one with two workers: weights, momentum, averages and metrics."""
    results = []
    for folder, num_workers in ((image_folder, 0), (packed_folder, 2)):
        data, runtime = replace(TINY.data, folder=str(folder)), replace(TINY.runtime, num_workers=num_workers)
        row = replace(TINY, network="mobilenet_v2", epochs=2, data=data, runtime=runtime)
        run = folder.with_name(f"run_{folder.name}")
        assert recipe.train(row, run, runs.ONE_PROCESS) == 0
        results.append(load_checkpoint(run / "checkpoints" / "latest.pth"))
    num_tensors = len(runs.tensors_of(results[0]))
    assert num_tensors > 3 * 158  # MobileNetV2's parameters, with momentum and average
    runs.assert_same_result(results[1], results[0], num_tensors=num_tensors)


# ---- processes ---------------------------------------------------------------------------------------------------


def evaluated(images: PackedImages, num_workers: int) -> list[int]:
    """Sums of the pixels of each image, by a loader's workers."""
    dataset = ImageFolderDataset(images, (), decoder="opencv", seed=0)
    loader = ImageFolderEvalLoader(dataset, batch_size=2, num_workers=num_workers)
    return [int(image.sum()) for batch in loader for image in batch.images]


@pytest.mark.slow
def test_workers_forked_from_a_process_that_reads(packed_folder: Path) -> None:
    """Nothing that LMDB has open lives through a fork; this process, and a second reader in it, go on reading."""
    images, second = (PackedImages(packed_folder / "val.lmdb") for _ in range(2))
    expected = evaluated(images, 0)
    assert packed._environments
    assert evaluated(images, 2) == evaluated(second, 1) == expected
    assert evaluated(second, 0) == evaluated(images, 0) == expected


@pytest.mark.slow
def test_spawned_processes(packed_folder: Path) -> None:
    """As macOS and Windows start workers: the reader is pickled, while this process reads."""
    images = PackedImages(packed_folder / "val.lmdb")
    expected = [images.read(n) for n in range(7)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(images.read, range(7)) == expected


def test_reading_leaves_nothing_beside_the_file(packed_folder: Path) -> None:
    """No lock file: a packed data set may lie on a disk that is read-only."""
    images = pickle.loads(pickle.dumps(PackedImages(packed_folder / "train.lmdb")))
    images.read(0)
    assert sorted(path.name for path in packed_folder.iterdir()) == ["train.lmdb", "val.lmdb"]


def test_another_file_at_the_same_path(image_folder: Path, packed_folder: Path) -> None:
    """What was open of the former one is not read."""
    path = packed_folder / "val.lmdb"
    PackedImages(path).read(0)
    (packed_folder / "train.lmdb").replace(path)
    images = PackedImages(path)
    assert [images.read(n) for n in (0, 10)] == [list_images(image_folder, "train").read(n) for n in (0, 10)]


# ---- what cannot be used -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_record_is_named(image_folder: Path, packed_folder: Path, num_workers: int) -> None:
    """One bit: the record, the file that it lies in, and what can be done, without a traceback of a worker."""
    path = packed_folder / "val.lmdb"
    flip_bit_of(path, (image_folder / "val/cat/2.png").read_bytes())
    dataset = ImageFolderDataset(PackedImages(path), (), decoder="opencv", seed=0)
    loader = ImageFolderEvalLoader(dataset, batch_size=2, num_workers=num_workers)
    assert refusal(lambda: list(loader)) == (
        f"the image cat/2.png in {path} cannot be decoded: the record's checksum is wrong: the file was damaged after "
        "it was written. Copy that file again, or pack it again (python -m public.datasets.pack); the same command "
        "then resumes from the last checkpoint."
    )


def test_the_record_of_another_image_is_noticed(packed_folder: Path) -> None:
    """A sound record in the wrong place: the checksum knows the path."""
    path = packed_folder / "val.lmdb"
    images = PackedImages(path)
    with lmdb.open(str(path), subdir=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"bird/0.png", transaction.get(b"cat/0.png", b""))
    with pytest.raises(OSError, match="checksum"):
        images.read(0)
    assert images.read(3)


@pytest.mark.slow
def test_the_check_of_a_data_set_reads_packed_ones(
    image_folder: Path, packed_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`public.datasets.check` counts and names as for folders."""
    (tmp_path / "config.py").write_text(
        "from dataclasses import replace\nfrom tests.recipes.tiny_experiment import TINY\n"
        f"CONFIGS = {{'row': replace(TINY, data=replace(TINY.data, folder={str(packed_folder)!r}))}}\n"
    )
    assert check_main([str(tmp_path)]) == 0
    path = packed_folder / "val.lmdb"
    flip_bit_of(path, (image_folder / "val/cat/2.png").read_bytes())
    capsys.readouterr()
    assert check_main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"{packed_folder}/train: 11 images, 2 classes (bird, cat)" in printed
    assert f"  error: cat/2.png in {path}: the record's checksum is wrong" in printed


def cut_short(path: Path) -> None:
    """The first half of the file."""
    os.truncate(path, path.stat().st_size // 2)


def damaged_contents(path: Path) -> None:
    """One bit of the record that is written last."""
    flip_bit_of(path, b'"class_names": ["bird", "cat"]')


def without_contents(path: Path) -> None:
    """As a predecessor wrote it, or a conversion that somebody renamed."""
    change(path, lambda transaction: transaction.delete(CONTENTS))


def without_an_image(path: Path) -> None:
    """A record is gone."""
    change(path, lambda transaction: transaction.delete(b"cat/1.png"))


def another_number(path: Path) -> None:
    """Of the root page of the tree, which no reader of LMDB's asks for: it would read on."""
    data = bytearray(path.read_bytes())
    newer = max((0, 4096), key=lambda page: int.from_bytes(data[page + 144 : page + 152], "little"))
    root = int.from_bytes(data[newer + 128 : newer + 136], "little")
    data[4096 * root] ^= 1
    path.write_bytes(data)


def contents_of(content: Any, path: Path) -> None:
    """Another record of contents, sound by its checksum; a dict changes some entries, ... takes them out."""

    def write(transaction: Any) -> None:
        former = json.loads(transaction.get(CONTENTS)[4:])
        changed = {key: value for key, value in {**former, **content}.items() if value is not ...}
        transaction.put(CONTENTS, sealed(CONTENTS, json.dumps(changed).encode()))

    raw = content if isinstance(content, bytes) else None
    change(path, write if raw is None else lambda txn: txn.put(CONTENTS, sealed(CONTENTS, raw)))


def change(path: Path, do: Callable[[Any], object]) -> None:
    """Writes to a packed file what nobody should."""
    with lmdb.open(str(path), subdir=False) as environment, environment.begin(write=True) as transaction:
        do(transaction)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, r"data set \(it is cut short: \d+ of \d+ bytes are left\); pack it again"),
        (partial(Path.write_bytes, data=b""), r"cannot be read as a packed data set \(.*; pack it again: python -m"),
        (partial(Path.write_bytes, data=b"text" * 5000), "File is not an LMDB file"),
        (another_number, r"data set \(its page \d+ is damaged, which says where records lie\); pack it again"),
        (damaged_contents, "the record's checksum is wrong"),
        (without_contents, r"\(the file holds no such record\)"),
        (without_an_image, r"\(it holds 6 images, and lists 7\); pack it again"),
        (partial(contents_of, {"format": 2}), r"\(it has the format 2, and this code reads 1\); pack it again"),
        (partial(contents_of, b""), r"\(Expecting value.*\); pack it again"),
        (partial(contents_of, b"{}"), r"\(Object missing required field `format`\); pack it again"),
        (partial(contents_of, b"[" * 10**5), r"\(its JSON is nested without an end\)"),
        (partial(contents_of, {"labels": ...}), "missing required field `labels`"),
        (partial(contents_of, {"labels": [0, 1]}), "it lists 2 labels of 7 images"),
        (partial(contents_of, {"labels": [0] * 6 + [2]}), "its labels are 0 to 2, of 2 classes, counted from 0"),
        (partial(contents_of, {"labels": [0] * 6 + [10**30]}), r"its labels are 0 to 1\d{30}, of 2 classes"),
        (partial(contents_of, {"labels": [0] * 6 + ["1"]}), r"Expected `int`, got `str` - at `\$\.labels\[6\]`"),
        (partial(contents_of, {"files": ["bird/0.png"] * 7}), "it holds 7 images, and lists 1"),
        (
            partial(contents_of, {"class_names": ["cat", "cat"]}),
            "more than one class is called 'cat', expected each name once",
        ),
        (partial(contents_of, {"shrinking": [256]}), r"of length 2, got 1 - at `\$\.shrinking`"),
    ],
)
def test_a_file_that_is_no_packed_data_set(packed_folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    """Each is one sentence with the path; reading what is cut off would end the process with a bus error."""
    path = packed_folder / "val.lmdb"
    spoil(path)
    with pytest.raises(DataError, match=f"^{path} .*{message}"):
        find_images(packed_folder, "val")


def test_both_forms_at_once(
    config: ClassificationConfig, image_folder: Path, packed_folder: Path, context: DistributedContext
) -> None:
    """Which one is meant cannot be known; one split of each form is clear."""
    (packed_folder / "val.lmdb").rename(image_folder / "val.lmdb")
    with pytest.raises(DataError, match=rf"^{image_folder} holds both val/ and val\.lmdb, which may differ: move one"):
        find_images(image_folder, "val")
    (image_folder / "val").rename(image_folder / "elsewhere")
    data = ImageFolderData(folder=str(image_folder), input_size=8, train_transforms=AUGMENTED)
    config = replace(config, data=data, batch_size=4, runtime=replace(config.runtime, num_workers=0))
    found = build_train_data(config, context)
    assert (found.num_images, found.val.num_images) == (11, 7)
    assert build_eval_data(data, batch_size=4, num_workers=0, context=context).class_names == ["bird", "cat"]


def test_neither_form(tmp_path: Path) -> None:
    """A missing one, and one whose conversion was stopped."""
    with pytest.raises(DataError, match=rf"^{tmp_path}/val is missing; expected val/<class>"):
        find_images(tmp_path, "val")
    (tmp_path / "val.lmdb.partial").touch()
    with pytest.raises(DataError, match=rf"^{tmp_path}/val\.lmdb\.partial is an unfinished conversion; the same comm"):
        find_images(tmp_path, "val")


@pytest.mark.parametrize(("missing", "there"), [("val", "train"), ("train", "val")])
def test_a_split_that_was_not_packed(
    packed_folder: Path, context: DistributedContext, missing: str, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packed images are not divided: which file lacks, and what to do; the check of the folder alone says it, too."""
    path = packed_folder / f"{missing}.lmdb"
    path.unlink()
    message = (
        f"{path} is missing, and packed images ({there}.lmdb) are not divided: pack the images of {missing} as well "
        f"(python -m public.datasets.pack FOLDER {path}), or name the folder that was packed, whose images can be "
        "divided."
    )
    data = ImageFolderData(folder=str(packed_folder), input_size=8, train_transforms=(), val_fraction=0.15)
    assert refusal(lambda: build_train_data(replace(TINY, data=data), context)) == message
    arguments = ["--data.folder", str(packed_folder), "--page", str(packed_folder / "page.html")]
    assert check_main([*arguments, "--runtime.num-workers", "0"]) == 1
    printed = capsys.readouterr().out
    assert message.rstrip(".") in printed
    assert f"{packed_folder}/{there}: " in printed


def write_packed(path: Path, records: dict[bytes, bytes], images: ImageList) -> None:
    """A packed file by hand: the format as its description says it."""
    contents = {
        "format": 1,
        "shrinking": None,
        "class_names": images.class_names,
        "files": [os.fsdecode(file) for file in images.files.tolist()],
        "labels": images.labels.tolist(),
    }
    described = {SETTINGS: b"{}", CONTENTS: json.dumps(contents).encode()}
    with lmdb.open(str(path), subdir=False, lock=False) as environment, environment.begin(write=True) as transaction:
        for key, content in {**records, **described}.items():
            transaction.put(key, sealed(key, content))


def test_a_checksum_by_hand() -> None:
    """CRC-32 of '123456789', the standard's own check value, is cbf43926: here of key and content together."""
    assert sealed(b"1234", b"56789") == bytes.fromhex("cbf43926") + b"56789"
    assert packed.unsealed(b"1234", bytes.fromhex("cbf43926") + b"56789") == b"56789"
    for record in (None, b"", bytes.fromhex("cbf43926") + b"56788", bytes.fromhex("cbf43927") + b"56789"):
        with pytest.raises(OSError, match=r"no such record|checksum is wrong"):
            packed.unsealed(b"1234", record)
