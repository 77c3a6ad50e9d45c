"""Rare classes more often: the factors worked out by hand, what an epoch then takes, and its determinism."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from public.datasets.annotations import DetectionAnnotations
from public.datasets.balance import EpochOrder, class_factors, repeat_factors
from public.datasets.cifar100 import Cifar100, CifarTrainLoader
from public.datasets.detection_loaders import DetectionDataset, DetectionTrainLoader
from public.datasets.image_folder import ImageFolderDataset, list_images
from public.datasets.loaders import ImageFolderTrainLoader
from public.runtime.seeding import epoch_order
from public.transforms.batch import BatchRandomHorizontalFlip
from tests.datasets import test_detection_loaders, test_loaders

# Whether a machine has as many processors as workers is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
FACTORS = np.array([1.0] * 8 + [2.5, 0.5, 1.6])
"""Of the eleven images of both fixtures: 13 samples for a sum of 12.6."""


def annotations_of(labels: list[list[int]], ignored: list[list[bool]]) -> DetectionAnnotations:
    """Images with objects of these labels, of the classes a to d."""
    flat = np.array([label for one in labels for label in one], dtype=np.int64)
    return DetectionAnnotations(
        folder=Path(),
        files=np.array([b"x"] * len(labels)),
        image_ids=np.arange(len(labels)),
        sizes=np.ones((len(labels), 2), dtype=np.int64),
        offsets=np.cumsum([0, *map(len, labels)]),
        boxes=np.zeros((len(flat), 4), dtype=np.float32),
        labels=flat,
        ignored=np.array([flag for one in ignored for flag in one], dtype=bool),
        class_names=list("abcd"),
        category_ids=[1, 2, 3, 4],
        source=Path(),
        skipped={},
    )


def test_repeat_factors_by_hand() -> None:
    """Eight images, threshold 1/2: a is on 6 of them, factor 1; b on 2 (twice on one), sqrt(.5 / .25) = 1.414; c on
    one, sqrt(.5 / .125) = 2. Of d there is an ignored one alone: it does not count, nor does an image without objects.
    """
    labels = [[0], [0, 1, 1], [0, 1], [0, 2], [0, 0], [0, 3], [], [3]]
    ignored = [[False] * len(one) for one in labels]
    ignored[5][1] = ignored[7][0] = True
    factors = repeat_factors(annotations_of(labels, ignored), 0.5)
    np.testing.assert_allclose(factors, [1, 2**0.5, 2**0.5, 2, 1, 1, 1, 1])
    np.testing.assert_array_equal(repeat_factors(annotations_of(labels, ignored), 0.1), np.ones(8))


def test_class_factors_by_hand() -> None:
    """Six of one class and two of another, 8 in sum: 4 and 4 of each are 2/3 and 2 times an image. By the square root
    they come as sqrt(6) : sqrt(2), 5.07 and 2.93 of the 8."""
    labels = np.array([0, 0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_allclose(class_factors(labels, 1.0), np.where(labels == 0, 2 / 3, 2))
    halfway = class_factors(labels, 0.5)
    np.testing.assert_allclose(halfway.sum(), 8)
    np.testing.assert_allclose(halfway[labels == 0].sum() / halfway[labels == 1].sum(), 3**0.5)


def test_without_factors_an_order_is_the_usual_one() -> None:
    """Each image once, as ever."""
    np.testing.assert_array_equal(EpochOrder(3, 50).samples(7), epoch_order(3, 7, 50))
    assert EpochOrder(3, 50).length == 50


def test_samples_of_an_epoch() -> None:
    """Always 13 of 11 images; each the next lower or higher number of times, its copies numbered from 0; in the mean
    over the epochs as often as its factor says (13 / 12.6 of it: the length is a whole number)."""
    order = EpochOrder(0, 11, FACTORS)
    epochs = [order.samples(epoch) for epoch in range(400)]
    assert {len(samples) for samples in epochs} == {order.length} == {13}
    counts = np.stack([np.bincount(samples % 11, minlength=11) for samples in epochs])  # [400, 11]
    expected = FACTORS * 13 / FACTORS.sum()
    assert (np.abs(counts - expected) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.06)
    for samples, count in zip(epochs, counts, strict=True):
        assert sorted(samples) == sorted(copy * 11 + image for image in range(11) for copy in range(count[image]))
    assert len({tuple(samples) for samples in epochs}) == 400
    assert sum(samples[0] == 8 for samples in epochs) < 100, "copies come anywhere"


def test_classes_come_equally_often() -> None:
    """1 in 100 images: an epoch of 100 has 50 samples of each class, and takes half of the others."""
    labels = np.array([1] + [0] * 99)
    order = EpochOrder(0, 100, class_factors(labels, 1.0))
    for epoch in range(3):
        samples = order.samples(epoch)
        assert len(samples) == 100
        assert np.bincount(labels[samples % 100]).tolist() == [50, 50]
        assert len(set(samples.tolist())) == 100


@pytest.fixture
def folder_loader(image_folder: Path) -> Callable[..., Any]:
    """Image files of classes."""
    images = list_images(image_folder, "train")
    dataset = ImageFolderDataset(images, test_loaders.AUGMENTED, decoder="opencv", seed=0)
    return lambda **options: ImageFolderTrainLoader(dataset, batch_size=4, factors=FACTORS, **options)


@pytest.fixture
def detection_loader(tmp_path: Path) -> Callable[..., Any]:
    """Image files with boxes; the size of the canvas is drawn for each step."""
    split = test_detection_loaders.write_split(tmp_path, [(10, 12), (12, 10)] * 5 + [(10, 12)])
    dataset = DetectionDataset(split, test_detection_loaders.AUGMENTED, seed=0)
    return lambda **options: DetectionTrainLoader(dataset, batch_size=4, factors=FACTORS, **options)


@pytest.fixture
def grouped_loader(detection_loader: Callable[..., Any]) -> Callable[..., Any]:
    """The same in groups of one shape."""
    return lambda **options: detection_loader(group_by_aspect=0, **options)


@pytest.fixture
def cifar_loader() -> Callable[..., Any]:
    """In memory."""
    pixels = torch.randint(0, 256, (11, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Cifar100(pixels, torch.arange(11), ["x"] * 11)

    def build(*, num_workers: int, **options: Any) -> CifarTrainLoader:
        return CifarTrainLoader(data, (BatchRandomHorizontalFlip(),), batch_size=4, seed=0, factors=FACTORS, **options)

    return build


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder_loader", "detection_loader", "grouped_loader", "cifar_loader"])
def test_a_balanced_epoch_depends_on_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    """13 samples are 3 steps of 4. Workers change nothing; two processes' parts make up the batch; it goes on from any
    step, whatever was loaded before."""
    build = request.getfixturevalue(kind)
    loader = build(num_workers=0)
    assert loader.steps_per_epoch == 3
    whole = list(loader.epoch(1))
    assert len(whole) == 3
    next(loader.epoch(5))
    for other in (list(build(num_workers=2).epoch(1)), [whole[0], *loader.epoch(1, first_step=1)]):
        assert all(map(same, other, whole))
    halves = [list(build(num_workers=0, rank=rank, num_processes=2).epoch(1)) for rank in (0, 1)]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert not any(map(same, loader.epoch(2), whole))


def same(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    """Bit for bit."""
    return all(map(torch.equal, a, b))


def test_copies_of_an_image_are_augmented_differently(detection_loader: Callable[..., Any]) -> None:
    """Image 8 (id 156) comes two or three times an epoch, each time cropped otherwise and with another seed."""
    batches = list(detection_loader(num_workers=0).epoch(1))
    copies = [(batch, row) for batch in batches for row in range(4) if batch.image_ids[row] == 156]
    assert len(copies) >= 2
    assert len({int(batch.seeds[row]) for batch, row in copies}) == len(copies)
    assert len({str(batch.boxes[row].tolist()) for batch, row in copies}) == len(copies)
