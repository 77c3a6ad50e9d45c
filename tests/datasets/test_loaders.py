"""Image files to batches: every image where it belongs, whatever the number of processes and workers."""

import subprocess
import sys
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from public.datasets.batches import ClassificationBatch, DataError, steps_per_epoch
from public.datasets.decoding import UnreadableImage
from public.datasets.image_folder import ImageFolderDataset, list_images
from public.datasets.loaders import (
    EpochBatchSampler,
    ImageFolderEvalLoader,
    ImageFolderTrainLoader,
    SplitBatchSampler,
    collate,
)
from public.runtime.seeding import epoch_order

# Whether a machine has as many processors as workers is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
AUGMENTED = (v2.RandomResizedCrop(8), v2.RandomHorizontalFlip())


@pytest.fixture
def train_loader(image_folder: Path) -> Callable[..., ImageFolderTrainLoader]:
    """Loaders of 11 augmented images in global batches of 4: two steps an epoch, 3 images left over."""

    def build(*, num_workers: int = 0, seed: int = 0, **options: Any) -> ImageFolderTrainLoader:
        dataset = ImageFolderDataset(list_images(image_folder, "train"), AUGMENTED, decoder="opencv", seed=seed)
        return ImageFolderTrainLoader(dataset, batch_size=4, num_workers=num_workers, **options)

    return build


def same(a: ClassificationBatch, b: ClassificationBatch) -> bool:
    """Bit for bit."""
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def all_same(a: list[ClassificationBatch], b: list[ClassificationBatch]) -> bool:
    """As many batches, each bit for bit."""
    return len(a) == len(b) and all(map(same, a, b))


def test_steps_per_epoch() -> None:
    """Whole batches: 11 images give 2 of 4, and one of 11; fewer than one batch is an error with both numbers."""
    assert [steps_per_epoch(11, size, "x") for size in (1, 4, 5, 11)] == [11, 2, 2, 1]
    with pytest.raises(
        DataError, match=r"x holds 11 training images, fewer than .*\(batch_size=12\); use --batch-size"
    ):
        steps_per_epoch(11, 12, "x")


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_shares_of_an_epoch_make_up_the_global_batch(num_processes: int) -> None:
    """Ranks side by side are one process's batches: images of step s are order[8 s : 8 s + 8]."""
    order = epoch_order(7, 3, 30).tolist()
    shares = [EpochBatchSampler(30, 8, 7, rank, num_processes) for rank in range(num_processes)]
    for share in shares:
        share.epoch = 3
    steps = list(zip(*shares, strict=True))
    assert len(steps) == len(shares[0]) == 3
    for step, parts in enumerate(steps):
        keys = [key for part in parts for key in part]
        assert keys == [(3, index) for index in order[8 * step : 8 * step + 8]]


def test_repeated_augmentation(train_loader: Callable[..., ImageFolderTrainLoader]) -> None:
    """Batches of 4 hold 2 images twice, differently augmented; two steps an epoch as ever, 4 images an epoch.

    Two processes' batches side by side are one's, and resuming at step 1 gives the same batch.
    """
    loader = train_loader(repeats=2)
    assert loader.steps_per_epoch == 2
    batches = list(loader.epoch(1))
    assert len(batches) == 2
    order = epoch_order(0, 1, 11)
    labels = loader.loader.dataset.images.labels  # pyright: ignore[reportAttributeAccessIssue]
    for batch, samples in zip(batches, order[:4].reshape(2, 2), strict=True):
        assert batch.labels.tolist() == labels[np.tile(samples, 2)].tolist()
        assert not torch.equal(batch.images[:2], batch.images[2:])
    parts = [list(train_loader(repeats=2, rank=rank, num_processes=2).epoch(1)) for rank in (0, 1)]
    together = [ClassificationBatch(*map(torch.cat, zip(a, b, strict=True))) for a, b in zip(*parts, strict=True)]
    assert all_same(together, batches)
    assert all_same(list(train_loader(repeats=2).epoch(1, first_step=1)), batches[1:])


def test_a_share_goes_on_at_a_step() -> None:
    """From step 2 of 3 on there is one left; from step 3 on none."""
    share = EpochBatchSampler(30, 8, 0, 0, 2)
    whole = list(share)
    for first_step in (0, 1, 2, 3):
        share.first_step = first_step
        assert list(share) == whole[first_step:]
        assert len(share) == 3 - first_step


@pytest.mark.parametrize("num_processes", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("num_images", [1, 7, 12, 13])
def test_shares_of_a_split_cover_it_once(num_images: int, num_processes: int) -> None:
    """Every index exactly once over all processes, sizes within one of each other, also where nothing divides."""
    shares = [SplitBatchSampler(num_images, 3, rank, num_processes) for rank in range(num_processes)]
    indices = [[index for batch in share for _, index in batch] for share in shares]
    assert sorted(chain(*indices)) == list(range(num_images))
    assert max(map(len, indices)) - min(map(len, indices)) <= 1
    for share in shares:
        assert len(list(share)) == len(share)
        assert all(len(batch) <= 3 for batch in share)


def test_collate() -> None:
    """Stacked in order; one unreadable image takes the whole batch's place."""
    samples = [(torch.full((3, 2, 2), n, dtype=torch.uint8), n) for n in (4, 2)]
    batch = collate(samples)
    assert isinstance(batch, ClassificationBatch)
    assert (batch.images.shape, batch.images.dtype) == ((2, 3, 2, 2), torch.uint8)
    assert batch.images[:, 0, 0, 0].tolist() == batch.labels.tolist() == [4, 2]
    assert batch.labels.dtype == torch.int64
    bad = UnreadableImage("bad.jpg", "empty")
    assert collate([*samples, bad]) == bad


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_ranks_together_load_the_global_batch(
    train_loader: Callable[..., ImageFolderTrainLoader], num_workers: int
) -> None:
    """Two processes' batches side by side are one process's, augmentation included."""
    whole = list(train_loader().epoch(1))
    parts = [list(train_loader(num_workers=num_workers, rank=rank, num_processes=2).epoch(1)) for rank in (0, 1)]
    together = [ClassificationBatch(*map(torch.cat, zip(a, b, strict=True))) for a, b in zip(*parts, strict=True)]
    assert [len(batch.images) for batch in parts[0]] == [2, 2]
    assert all_same(together, whole)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(train_loader: Callable[..., ImageFolderTrainLoader]) -> None:
    """0, 1 and 3 workers over two epochs, whatever torch's global generator holds."""
    results = []
    for num_workers in (0, 1, 3):
        torch.manual_seed(num_workers)
        loader = train_loader(num_workers=num_workers)
        results.append([batch for epoch in (0, 1) for batch in loader.epoch(epoch)])
    assert len(results[0]) == 4
    assert all_same(results[0], results[1])
    assert all_same(results[0], results[2])


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_left_in_the_middle_goes_on_from_any_step(
    train_loader: Callable[..., ImageFolderTrainLoader], num_workers: int
) -> None:
    """The same batches from a new loader at step 1, and from the old one after it was left at step 1."""
    loader = train_loader(num_workers=num_workers)
    whole = list(loader.epoch(2))
    list(islice(loader.epoch(5), 1))  # begun and left
    assert all_same(list(loader.epoch(2, first_step=1)), whole[1:])
    assert all_same(list(train_loader(num_workers=num_workers).epoch(2, first_step=1)), whole[1:])
    assert list(loader.epoch(2, first_step=2)) == []


def test_epochs_and_seeds_differ(train_loader: Callable[..., ImageFolderTrainLoader]) -> None:
    """In order and in augmentation; the same epoch of the same seed does not."""
    loader = train_loader()
    first = list(loader.epoch(0))
    assert all_same(list(loader.epoch(0)), first)
    assert not any(map(same, loader.epoch(1), first))
    assert not any(map(same, train_loader(seed=1).epoch(0), first))


@pytest.mark.slow
def test_loading_leaves_the_global_generator_alone(train_loader: Callable[..., ImageFolderTrainLoader]) -> None:
    """Nothing is drawn from torch's generator, whose state belongs to the network's dropout."""
    before = torch.get_rng_state()
    for num_workers in (0, 1):
        list(train_loader(num_workers=num_workers).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_images(image_folder: Path) -> None:
    """The split's folder and both numbers."""
    dataset = ImageFolderDataset(list_images(image_folder, "train"), AUGMENTED, decoder="opencv", seed=0)
    with pytest.raises(DataError, match=rf"{image_folder}/train holds 11 training images, fewer than one"):
        ImageFolderTrainLoader(dataset, batch_size=12, num_workers=0)


@pytest.mark.slow
@pytest.mark.parametrize(("num_processes", "num_workers"), [(1, 0), (2, 2), (3, 0), (8, 0)])
def test_evaluation_covers_every_image_once(image_folder: Path, num_processes: int, num_workers: int) -> None:
    """7 images over 1, 2, 3 and 8 processes in batches of 2; the 8th process has none. A second pass is the same."""
    dataset = ImageFolderDataset(list_images(image_folder, "val"), (), decoder="opencv", seed=0)
    loaders = [
        ImageFolderEvalLoader(dataset, batch_size=2, num_workers=num_workers, rank=rank, num_processes=num_processes)
        for rank in range(num_processes)
    ]
    seen: list[bytes] = []
    for loader in loaders:
        batches = list(loader)
        assert all_same(list(loader), batches)
        assert loader.num_images == 7
        seen += [image.numpy().tobytes() for batch in batches for image in batch.images]
    expected = [dataset[0, index][0] for index in range(7)]
    assert sorted(seen) == sorted(image.numpy().tobytes() for image in expected if isinstance(image, Tensor))


def refusal(loader: ImageFolderEvalLoader) -> str:
    """The message of the DataError; no traceback is kept, which would keep the workers alive for seconds."""
    try:
        list(loader)
    except DataError as error:
        return str(error)
    pytest.fail("nothing was refused")


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut off", b"text"])
def test_an_unreadable_image_is_one_sentence(image_folder: Path, num_workers: int, content: bytes) -> None:
    """The path, with and without worker processes, and no traceback of theirs."""
    bad = image_folder / "val" / "cat" / "2.png"
    bad.write_bytes(content)
    dataset = ImageFolderDataset(list_images(image_folder, "val"), (), decoder="opencv", seed=0)
    message = refusal(ImageFolderEvalLoader(dataset, batch_size=2, num_workers=num_workers))
    assert message.startswith(f"the image {bad} cannot be decoded: ")
    assert ". Replace or remove it" in message
    assert "\n" not in message


def test_batches_before_an_unreadable_image_are_good(image_folder: Path) -> None:
    """3 birds and cat 0 come first; the batch with cats 1 and 2 fails."""
    (image_folder / "val" / "cat" / "2.png").write_bytes(b"")
    dataset = ImageFolderDataset(list_images(image_folder, "val"), (), decoder="pil", seed=0)
    batches = iter(ImageFolderEvalLoader(dataset, batch_size=2, num_workers=0))
    assert [next(batches).labels.tolist() for _ in range(2)] == [[0, 0], [0, 1]]
    with pytest.raises(DataError, match=r"2\.png"):
        next(batches)


def test_every_image_takes_part_over_the_epochs(train_loader: Callable[..., ImageFolderTrainLoader]) -> None:
    """3 of 11 images are left over in an epoch, others each time: after 12 epochs all have been seen."""
    sampler = train_loader().sampler
    seen = np.zeros(11, dtype=int)
    for epoch in range(12):
        sampler.epoch = epoch
        for batch in sampler:
            np.add.at(seen, [index for _, index in batch], 1)
    assert seen.sum() == 12 * 8
    assert seen.min() > 0


LIVE_AT_EXIT = """
import sys
from pathlib import Path
from public.datasets.image_folder import ImageFolderDataset, list_images
from public.datasets.loaders import ImageFolderEvalLoader
dataset = ImageFolderDataset(list_images(Path(sys.argv[1]), "val"), (), decoder="opencv", seed=0)
batches = iter(ImageFolderEvalLoader(dataset, batch_size=1, num_workers=2))
next(batches)
raise KeyError("a defect")
"""


@pytest.mark.slow
def test_a_program_that_ends_with_an_error_does_not_wait_for_its_workers(image_folder: Path) -> None:
    """The traceback keeps the loader alive: its workers must still obey the SIGTERM of the process that ends."""
    command = [sys.executable, "-c", LIVE_AT_EXIT, str(image_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "KeyError: 'a defect'")
