"""Images in seven formats, CIFAR's pickles, checkpoints and packed files, to be damaged: bytes, and right checksums
around wrong insides."""

import io
import json
import pickle
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from public.config.names import first_line
from public.datasets.batches import DataError
from public.datasets.cifar100 import read_cifar100
from public.datasets.decoding import DECODING_ERRORS, Reading, decode_annotated_bytes
from public.datasets.image_folder import ImageFolderDataset, list_images
from public.datasets.loaders import ImageFolderEvalLoader
from public.datasets.pack import check_packed
from public.datasets.packed import CONTENTS, PackedImages, sealed, unsealed
from public.datasets.packing import pack_split
from public.runtime.distributed import DistributedContext
from public.runtime.seeding import seed_everything
from public.weights.loading import load_weights
from public.weights.trained import open_trained
from tests.fuzz.mutations import mutated_bytes, mutated_tree
from tests.fuzz.subject import Subject, call_all
from tests.optim.test_train_state import IDENTITY, new_state

WIDTH, HEIGHT, MAX_PIXELS = 40, 30, 2**22
IMAGES = {
    "jpg": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"},  # to be turned by 90 degrees
    "png": {},
    "webp": {"lossless": True},
    "bmp": {},
    "gif": {},
    "tif": {"compression": "tiff_lzw"},
    "ppm": {},
}
"""By the extension; what PIL is told when it writes one."""


def write_images(root: Path, extension: str, count: int = 1) -> Path:
    """Images of one class; gives the first."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    paths = [root / "train" / "cat" / f"{number}.{extension}" for number in range(count)]
    paths[0].parent.mkdir(parents=True)
    for path in paths:
        Image.fromarray(pixels).save(path, **IMAGES[extension])
    return paths[0]


def image(extension: str, root: Path) -> Subject:
    """Read by both decoders for training, and as a picture with boxes is."""
    path = write_images(root, extension)

    def loaded(decoder: str) -> object:
        dataset = ImageFolderDataset(list_images(root, "train"), (), decoder=decoder, seed=0, max_pixels=MAX_PIXELS)
        return list(ImageFolderEvalLoader(dataset, batch_size=1, num_workers=0))

    def annotated() -> object:
        try:
            return decode_annotated_bytes(path.read_bytes(), (HEIGHT, WIDTH), Reading(max_pixels=MAX_PIXELS))
        except DECODING_ERRORS as error:
            raise DataError(first_line(error)) from error

    readers = (partial(loaded, "opencv"), partial(loaded, "pil"), annotated)
    return Subject(path, mutated_bytes, lambda: call_all(DataError, readers), DataError)


# ---- CIFAR -----------------------------------------------------------------------------------------------------------


def cifar(root: Path, mutated: Callable[[bytes, int], bytes] = mutated_bytes, name: str = "train") -> Subject:
    """One of the pickles."""
    images = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    split = {"data": images, "fine_labels": [0, 1, 2, 0], "filenames": ["x.png"] * 4}
    folder = root / "cifar-100-python"
    folder.mkdir()
    for file, content in {"train": split, "meta": {"fine_label_names": ["apple", "bear", "clock"]}}.items():
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    return Subject(folder / name, mutated, lambda: read_cifar100(root, "train", published_archive=False), DataError)


def mutated_pickle(content: bytes, number: int) -> bytes:
    """A sound pickle of other values."""
    return pickle.dumps(mutated_tree(pickle.loads(content), number))


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def checkpoint(root: Path, mutated: Callable[[bytes, int], bytes] = mutated_bytes) -> Subject:
    """Resumed from, opened, and read as weights."""
    path, context = root / "latest.pth", DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    seed_everything(0)  # the file holds the generators' states
    state = new_state(0, steps=1)
    state.finish_epoch({"epoch": 1, "loss": 0.5})
    state.save(path, context, IDENTITY)

    readers = (
        lambda: new_state(0).resume(path, context, IDENTITY),
        lambda: open_trained(path),
        lambda: load_weights(state.network, path),
    )
    return Subject(path, mutated, lambda: call_all(ValueError, readers), ValueError)


def safetensors(root: Path) -> Subject:
    """Weights alone."""
    path, network = root / "weights.safetensors", new_state(0).network
    save_file(network.state_dict(), path)
    return Subject(path, mutated_bytes, lambda: load_weights(network, path), ValueError)


def mutated_checkpoint(content: bytes, number: int) -> bytes:
    """Right checksums around other values."""
    file = io.BytesIO()
    torch.save(mutated_tree(torch.load(io.BytesIO(content), weights_only=True), number), file)
    return file.getvalue()


# ---- packed files ----------------------------------------------------------------------------------------------------


def packed(root: Path, mutated: Callable[[bytes, int], bytes] = mutated_bytes, count: int = 200) -> Subject:
    """Checked as `python -m public.datasets.pack --check` does it."""
    write_images(root, "jpg", count)  # of 200 some pages lead to others
    path = root / "train.lmdb"
    pack_split(list_images(root, "train"), path, None, 0)

    def read() -> None:
        damaged = check_packed(path)
        if damaged:
            raise DataError(damaged[0].reason)

    return Subject(path, mutated, read, DataError)


def packed_contents(root: Path) -> Subject:
    """Opened as training does it; right checksums around other values."""
    subject = packed(root, mutated_contents, count=3)
    return subject._replace(read=lambda: PackedImages(subject.path))


def mutated_contents(content: bytes, number: int) -> bytes:
    """A packed file with another record of contents."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.lmdb"
        path.write_bytes(content)
        with lmdb.open(str(path), subdir=False, lock=False) as environment, environment.begin(write=True) as writer:
            tree = mutated_tree(json.loads(unsealed(CONTENTS, writer.get(CONTENTS))), number)
            writer.put(CONTENTS, sealed(CONTENTS, json.dumps(tree, default=str).encode()))
        return path.read_bytes()


OTHERS: dict[str, Callable[[Path], Subject]] = {
    **{extension: partial(image, extension) for extension in IMAGES},
    "cifar": cifar,
    "cifar_meta": partial(cifar, name="meta"),
    "cifar_values": partial(cifar, mutated=mutated_pickle),
    "checkpoint": checkpoint,
    "checkpoint_values": partial(checkpoint, mutated=mutated_checkpoint),
    "safetensors": safetensors,
    "packed": packed,
    "packed_contents": packed_contents,
}
