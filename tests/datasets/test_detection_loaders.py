"""Images with boxes to batches: every box where its object is, whatever the number of processes and workers."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError, DetectionBatch
from public.datasets.decoding import Reading, UnreadableImage, annotated_way, decode_annotated
from public.datasets.detection_loaders import (
    CanvasBatchSampler,
    DetectionDataset,
    DetectionEvalLoader,
    DetectionTrainLoader,
    LoadedImage,
    aspect_groups,
    checked_transforms,
    collate,
    grouped_order,
)
from public.geometry.labels import IGNORED, PADDING
from public.runtime.seeding import epoch_order, sample_seed, uniforms
from public.transforms.batch import BatchRandomHorizontalFlip
from public.transforms.detection import (
    FILL,
    DetectionSample,
    RandomCrop,
    RandomHorizontalFlip,
    RandomSquareResize,
    ShortSideResize,
    SquareResize,
)
from public.transforms.mixing_boxes import CopyPaste, Mosaic

# Whether a machine has as many processors as workers is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
AUGMENTED = (RandomHorizontalFlip(), RandomCrop(), RandomSquareResize(sizes=(8, 12, 16, 24)))
OBJECTS = (0, 2, 1, 3, 0, 1, 2, 5, 1, 0, 1)
"""How many objects each of the eleven images has."""


def write_split(folder: Path, sizes: list[tuple[int, int]], objects: tuple[int, ...] = OBJECTS) -> DetectionAnnotations:
    """Noise images of these heights and widths; object k is k + 2 pixels wide, k + 3 high, of class k, at (k, 1).

    The second object of an image is an ignored one.
    """
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    labels = [np.arange(count) for count in objects]
    label = np.concatenate(labels).astype(np.int64)
    boxes = np.stack([label, label * 0 + 1, 2 * label + 2, label + 4], axis=1).astype(np.float32)
    return DetectionAnnotations(
        folder=folder,
        files=np.array([f"{number}.png".encode() for number in range(len(sizes))]),
        image_ids=np.arange(len(sizes)) * 7 + 100,
        sizes=np.array(sizes),
        offsets=np.cumsum([0, *objects]),
        boxes=boxes,
        labels=label,
        ignored=label == 1,
        class_names=[f"class {label}" for label in range(5)],
        category_ids=[3, 5, 7, 9, 11],
        source=folder / "instances.json",
        skipped={},
    )


@pytest.fixture
def split(tmp_path: Path) -> DetectionAnnotations:
    """Eleven images, 10 high and 12 wide or the other way round in turns."""
    return write_split(tmp_path, [(10, 12), (12, 10)] * 5 + [(10, 12)])


@pytest.fixture
def train_loader(split: DetectionAnnotations) -> Callable[..., DetectionTrainLoader]:
    """Loaders of the eleven augmented images in global batches of 4: two steps an epoch, 3 images left over."""

    def build(
        *, num_workers: int = 0, seed: int = 0, transforms: Any = AUGMENTED, **options: Any
    ) -> DetectionTrainLoader:
        dataset = DetectionDataset(split, transforms, seed=seed)
        return DetectionTrainLoader(dataset, batch_size=4, num_workers=num_workers, **options)

    return build


def same(a: DetectionBatch, b: DetectionBatch) -> bool:
    """Bit for bit, types included."""
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def all_same(a: list[DetectionBatch], b: list[DetectionBatch]) -> bool:
    """As many batches, each bit for bit."""
    return len(a) == len(b) and all(map(same, a, b))


def rows(batches: list[DetectionBatch]) -> list[tuple[Any, ...]]:
    """Each image with its own objects alone and everything else, comparable whatever its neighbors were."""
    return [
        (image_id, image.tolist(), boxes[labels != PADDING].tolist(), labels[labels != PADDING].tolist(), *more)
        for images, box_rows, label_rows, *others, ids in (
            (
                b.images,
                b.boxes,
                b.labels,
                *(x.tolist() for x in (b.content_sizes, b.original_sizes, b.seeds, b.image_ids)),
            )
            for b in batches
        )
        for image, boxes, labels, *more, image_id in zip(images, box_rows, label_rows, *others, ids, strict=True)
    ]


# ---- one image ---------------------------------------------------------------------------------------------------


def read(split: DetectionAnnotations, index: int) -> np.ndarray:
    """uint8 [H, W, 3] of the file itself."""
    with Image.open(split.folder / f"{index}.png") as image:
        return np.asarray(image)


def loaded(dataset: DetectionDataset, *key: int) -> LoadedImage:
    """A sample that can be read."""
    sample = dataset[key]  # pyright: ignore[reportArgumentType]
    assert isinstance(sample, LoadedImage)
    return sample


def test_one_image_by_hand(split: DetectionAnnotations) -> None:
    """Image 3 is 12 high and 10 wide: onto 24 x 24 it becomes 24 high and 20 wide, its boxes twice as large."""
    sample, original_size, image_id, _ = loaded(DetectionDataset(split, (SquareResize(size=24),), seed=0), 0, 3, 0)
    assert (original_size, image_id, sample.content_size) == ((12, 10), 121, (24, 20))
    assert sample.boxes.tolist() == [[0, 2, 4, 8], [2, 2, 8, 10], [4, 2, 12, 12]]
    assert sample.labels.tolist() == [0, IGNORED, 2]
    assert sample.image.shape == (24, 24, 3)
    assert (sample.image[:, 20:] == FILL).all()
    assert (sample.image[:, :20] == cv2.resize(read(split, 3), (20, 24))).all()


@dataclass(frozen=True, kw_only=True)
class Own2:
    """Writes its two draws, of the image, into the labels, as whole numbers of 2^-40."""

    num_draws: ClassVar[int] = 2
    per_batch: ClassVar[bool] = False

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """As many more labels as there are draws."""
        assert draws.shape == (self.num_draws,)
        return sample._replace(labels=np.concatenate((sample.labels, (draws * 2**40).astype(np.int64))))


class Own3(Own2):
    """The same with three draws."""

    num_draws: ClassVar[int] = 3


class Shared2(Own2):
    """The same with two draws of the step."""

    per_batch: ClassVar[bool] = True


def draws_of(split: DetectionAnnotations, epoch: int, step: int, seed: int = 0) -> list[int]:
    """What four recorders were given for image 4, which has no objects."""
    chain_of = (Own2(), Shared2(), Own3(), Shared2())
    return loaded(DetectionDataset(split, chain_of, seed=seed), epoch, 4, step).sample.labels.tolist()


def test_draws_are_dealt_out_in_order(split: DetectionAnnotations) -> None:
    """Five of the image's own, 2 + 3, and four of the step, 2 + 2: by (seed, epoch, image), and not by it."""
    labels = draws_of(split, 6, 9, seed=5)
    own = (uniforms(5, 6, np.array([4]), 5)[0] * 2**40).astype(np.int64).tolist()
    assert labels[:2] + labels[4:7] == own
    shared = labels[2:4] + labels[7:]
    assert len(shared) == 4
    assert len({*own, *shared}) == 9


def test_what_a_batch_shares_depends_on_the_step_alone(split: DetectionAnnotations) -> None:
    """The same for every image of a step, other in other steps, epochs and seeds, and no image's own draws."""
    datasets = [DetectionDataset(split, (Shared2(),), seed=seed) for seed in (0, 1)]
    shared = {
        (seed, epoch, step): {
            tuple(loaded(datasets[seed], epoch, index, step).sample.labels.tolist()) for index in (0, 4, 9)
        }
        for seed in (0, 1)
        for epoch in range(3)
        for step in range(3)
    }
    assert all(len(draws) == 1 for draws in shared.values())
    assert len(set.union(*shared.values())) == 18
    own = {draws_of(split, epoch, 0)[0] for epoch in range(3)}
    assert not own & {draw for draws in chain(*shared.values()) for draw in draws}


def test_pixels_stay_if_nothing_is_resized(split: DetectionAnnotations) -> None:
    """The decoded picture itself, red first."""
    sample = loaded(DetectionDataset(split, (), seed=0), 0, 1, 0).sample
    assert (sample.image == read(split, 1)).all()
    assert sample.content_size == (12, 10)


# ---- which way up ------------------------------------------------------------------------------------------------


def write_oriented(path: Path, orientation: int) -> np.ndarray:
    """A smooth picture, stored 24 high and 32 wide, with an EXIF orientation; returns the stored pixels."""
    y, x = np.mgrid[0:24, 0:32]
    stored = np.stack([x * 8, y * 10, (x + y) * 4], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)
    return stored


TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    3: lambda stored: np.rot90(stored, 2),
    6: lambda stored: np.rot90(stored, -1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
def test_the_annotated_size_tells_which_way_up(tmp_path: Path, orientation: int) -> None:
    """Upright where the size fits, as stored where only that fits: quarter turns can be told, half turns not."""
    stored = write_oriented(tmp_path / "x.png", orientation)
    upright = TURNED[orientation](stored)
    assert np.array_equal(decode_annotated(tmp_path / "x.png", (upright.shape[0], upright.shape[1])), upright)
    as_stored = decode_annotated(tmp_path / "x.png", (24, 32))
    assert np.array_equal(as_stored, stored if orientation > 4 else upright)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_what_the_annotated_size_tells(tmp_path: Path, suffix: str) -> None:
    """Of quarter turns which way is meant; half turns, and squares, have the same size both ways."""
    for orientation, size, expected in (
        (1, (24, 32), None),
        (3, (24, 32), "unclear"),
        (6, (24, 32), "stored"),
        (6, (32, 24), "upright"),
    ):
        write_oriented(tmp_path / f"x.{suffix}", orientation)
        assert annotated_way((tmp_path / f"x.{suffix}").read_bytes(), size) == expected
    encoded = (tmp_path / f"x.{suffix}").read_bytes()
    assert annotated_way(encoded, (24, 32), Reading("stored")) is None
    assert annotated_way(encoded, (24, 32), Reading("annotated", 24 * 32)) == "stored"
    with pytest.raises(OSError, match="pixels"):
        annotated_way(encoded, (24, 32), Reading("annotated", 24 * 32 - 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 24)).save(tmp_path / f"square.{suffix}", exif=exif)
    assert annotated_way((tmp_path / f"square.{suffix}").read_bytes(), (24, 24)) == "unclear"


def test_an_orientation_that_is_given(tmp_path: Path) -> None:
    """Whatever size is annotated; of a half turn, of which the size tells nothing, the pixels as they are stored."""
    for orientation in (3, 6):
        stored = write_oriented(tmp_path / "x.png", orientation)
        for size in ((24, 32), (32, 24)):
            assert np.array_equal(decode_annotated(tmp_path / "x.png", size, Reading("stored")), stored)
            upright = decode_annotated(tmp_path / "x.png", size, Reading("upright"))
            assert np.array_equal(upright, TURNED[orientation](stored))


def test_a_square_turn_that_fits_neither_way(tmp_path: Path) -> None:
    """24 x 32 without an orientation, annotated as 32 x 24: given as it is, to be refused."""
    stored = write_oriented(tmp_path / "x.png", 1)
    assert np.array_equal(decode_annotated(tmp_path / "x.png", (32, 24)), stored)


# ---- batches -----------------------------------------------------------------------------------------------------


def image_of(height: int, width: int, num_objects: int, content: tuple[int, int] | None = None) -> LoadedImage:
    """A canvas of one color with objects of class 4."""
    sample = DetectionSample(
        np.full((height, width, 3), 200, np.uint8),
        np.full((num_objects, 4), 2.5, np.float32),
        np.full(num_objects, 4, np.int64),
        content or (height, width),
    )
    return LoadedImage(sample, (50, 60), 17 + num_objects)


def test_collate_by_hand() -> None:
    """Canvases 5 x 4 and 3 x 6 meet on 5 x 6, their objects, 1 and 2, in 2 rows."""
    batch = collate([image_of(5, 4, 1), image_of(3, 6, 2, (3, 5))], canvas_multiple=1)
    assert isinstance(batch, DetectionBatch)
    assert [(tuple(field.shape), field.dtype) for field in batch] == [
        ((2, 3, 5, 6), torch.uint8),
        ((2, 2, 4), torch.float32),
        ((2, 2), torch.int64),
        ((2, 2), torch.int64),
        ((2, 2), torch.int64),
        ((2,), torch.int64),
        ((2,), torch.int64),
    ]
    for image, (height, width) in zip(batch.images, [(5, 4), (3, 6)], strict=True):
        assert (image[:, :height, :width] == 200).all()
        border = image.clone()
        border[:, :height, :width] = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
        assert (border == torch.tensor(FILL)[:, None, None]).all()
    assert batch.labels.tolist() == [[4, PADDING], [4, 4]]
    assert batch.boxes.tolist() == [[[2.5] * 4, [0] * 4], [[2.5] * 4] * 2]
    assert batch.content_sizes.tolist() == [[5, 4], [3, 5]]
    assert batch.original_sizes.tolist() == [[50, 60]] * 2
    assert batch.image_ids.tolist() == [18, 19]
    assert batch.seeds.tolist() == [0, 0]


@pytest.mark.parametrize(("multiple", "shape"), [(1, (33, 40)), (8, (40, 40)), (32, (64, 64))])
def test_canvases_are_rounded_up(multiple: int, shape: tuple[int, int]) -> None:
    """33 x 40 to multiples of 1, 8 and 32; one image alone too."""
    assert collate([image_of(33, 40, 0)], canvas_multiple=multiple).images.shape[2:] == shape


def test_no_tensor_is_empty() -> None:
    """A batch without objects has one row of padding."""
    batch = collate([image_of(4, 4, 0)] * 3, canvas_multiple=1)
    assert batch.boxes.shape == (3, 1, 4)
    assert batch.labels.tolist() == [[PADDING]] * 3


def test_the_memory_of_a_batch_is_that_of_pictures() -> None:
    """[B, 3, H, W] seen, [B, H, W, 3] stored."""
    batch = collate([image_of(4, 6, 0), image_of(5, 3, 0)], canvas_multiple=1)
    assert batch.images.permute(0, 2, 3, 1).is_contiguous()


def test_an_unusable_image_takes_the_place_of_the_batch() -> None:
    """The first one, wherever it is."""
    bad = UnreadableImage("bad.jpg", "empty")
    assert collate([image_of(4, 4, 1), bad, UnreadableImage("worse.jpg", "")], canvas_multiple=1) == bad


def test_the_short_side_resize_pads_to_32(split: DetectionAnnotations) -> None:
    """Short side 40: 10 x 12 becomes 40 x 48 and 12 x 10 becomes 48 x 40, both on 64 x 64."""
    dataset = DetectionDataset(split, (ShortSideResize(short=40, long_cap=100),), seed=0)
    (batch,) = islice(DetectionEvalLoader(dataset, batch_size=2, num_workers=0), 1)
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.content_sizes.tolist() == [[40, 48], [48, 40]]
    assert batch.labels.tolist() == [[PADDING] * 2, [0, IGNORED]]
    assert batch.boxes[1].tolist() == [[0, 4, 8, 16], [4, 4, 16, 20]]


def test_every_image_has_its_own_seed_in_every_epoch(train_loader: Callable[..., DetectionTrainLoader]) -> None:
    """For what is drawn on the device: from (seed, epoch, image) alone."""
    found = {
        (seed, epoch, int(image_id)): int(image_seed)
        for seed in (0, 1)
        for epoch in (0, 1)
        for batch in train_loader(seed=seed).epoch(epoch)
        for image_id, image_seed in zip(batch.image_ids, batch.seeds, strict=True)
    }
    assert len(found) == len(set(found.values())) == 2 * 2 * 8
    for (seed, epoch, image_id), image_seed in found.items():
        assert image_seed == sample_seed(seed, epoch, (image_id - 100) // 7)


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 4])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_ranks_together_load_the_global_batch(
    train_loader: Callable[..., DetectionTrainLoader], num_processes: int, num_workers: int
) -> None:
    """Side by side, the processes' images are those of one process, augmentation and batch-wide size included."""
    whole = list(train_loader().epoch(1))
    assert [batch.image_ids.tolist() for batch in whole] == (epoch_order(0, 1, 11)[:8].reshape(2, 4) * 7 + 100).tolist()
    parts = [
        list(train_loader(num_workers=num_workers, rank=rank, num_processes=num_processes).epoch(1))
        for rank in range(num_processes)
    ]
    for step, batch in enumerate(whole):
        assert rows([batch]) == rows([part[step] for part in parts])
    assert len(parts[0]) == 2


def test_multi_scale_is_one_size_a_step(train_loader: Callable[..., DetectionTrainLoader]) -> None:
    """All four sizes come over the steps, each fills the whole canvas of its batch, on all ranks alike."""
    loaders = [train_loader(rank=rank, num_processes=2) for rank in range(2)]
    seen = []
    for epoch in range(12):
        for batches in zip(*(loader.epoch(epoch) for loader in loaders), strict=True):
            (shape,) = {batch.images.shape for batch in batches}
            assert shape[2] == shape[3] == max(batch.content_sizes.max() for batch in batches)
            seen.append(shape[2])
    assert set(seen) == {8, 12, 16, 24}


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(train_loader: Callable[..., DetectionTrainLoader]) -> None:
    """0, 1 and 2 workers over two epochs, whatever torch's global generator holds; which is left alone."""
    results = []
    for num_workers in (0, 1, 2):
        torch.manual_seed(num_workers)
        before = torch.get_rng_state()
        loader = train_loader(num_workers=num_workers)
        results.append([batch for epoch in (0, 1) for batch in loader.epoch(epoch)])
        assert torch.equal(torch.get_rng_state(), before)
    assert len(results[0]) == 4
    assert all_same(results[0], results[1])
    assert all_same(results[0], results[2])


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_left_in_the_middle_goes_on_from_any_step(
    train_loader: Callable[..., DetectionTrainLoader], num_workers: int
) -> None:
    """The same batches from a new loader at step 1, and from the old one after it was left at step 1."""
    loader = train_loader(num_workers=num_workers)
    whole = list(loader.epoch(2))
    list(islice(loader.epoch(5), 1))  # begun and left
    assert all_same(list(loader.epoch(2, first_step=1)), whole[1:])
    assert all_same(list(train_loader(num_workers=num_workers).epoch(2, first_step=1)), whole[1:])
    assert list(loader.epoch(2, first_step=2)) == []
    assert loader.steps_per_epoch == 2


MIXED = (
    CopyPaste(probability=0.7),
    Mosaic(size=16, probability=0.7),
    RandomHorizontalFlip(),
    SquareResize(size=16),
)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_mixed_pictures_depend_on_nothing_else(
    train_loader: Callable[..., DetectionTrainLoader], num_workers: int
) -> None:
    """Mosaics and pastes are the same in one process or two, with workers or without, from any step on."""
    whole = list(train_loader(transforms=MIXED).epoch(1))
    parts = [
        list(train_loader(transforms=MIXED, num_workers=num_workers, rank=rank, num_processes=2).epoch(1))
        for rank in range(2)
    ]
    for step, batch in enumerate(whole):
        assert rows([batch]) == rows([part[step] for part in parts])
    assert all_same(list(train_loader(transforms=MIXED, num_workers=num_workers).epoch(1, first_step=1)), whole[1:])
    assert not all_same(list(train_loader(transforms=MIXED).epoch(2)), whole)


def test_a_mosaic_of_the_data_sets_images(split: DetectionAnnotations) -> None:
    """Around the middle, each as large as it is: the sample's last pixels, then those of the images that are drawn. In
    the last two of four epochs there is none."""
    transform = Mosaic(size=12, probability=1.0, center=(0.5, 0.5), scale=(1.0, 1.0), close=2)
    dataset = DetectionDataset(split, (transform, SquareResize(size=12)), seed=0, epochs=4)
    others = transform.others(uniforms(0, 1, np.array([4]), 10)[0], 11)
    found = loaded(dataset, 1, 4, 0)
    assert np.array_equal(found.sample.image[:6, :6], read(split, 4)[-6:, -6:])
    assert np.array_equal(found.sample.image[:6, 6:], read(split, others[0])[-6:, :6])
    assert np.array_equal(found.sample.image[6:, :6], read(split, others[1])[:6, -6:])
    assert np.array_equal(found.sample.image[6:, 6:], read(split, others[2])[:6, :6])
    assert (found.original_size, found.image_id) == (read(split, 4).shape[:2], 4 * 7 + 100)
    without = DetectionDataset(split, (SquareResize(size=12),), seed=0)
    for epoch in (2, 3):
        assert np.array_equal(loaded(dataset, epoch, 4, 0).sample.image, loaded(without, epoch, 4, 0).sample.image)


def test_an_unreadable_image_in_a_mosaic(split: DetectionAnnotations) -> None:
    """Is named, as one of its own would be."""
    dataset = DetectionDataset(split, (Mosaic(size=12, probability=1.0), SquareResize(size=12)), seed=0)
    others = Mosaic(size=12).others(uniforms(0, 0, np.array([4]), 10)[0] * [0, *[1] * 9], 11)
    (split.folder / f"{others[2]}.png").write_bytes(b"no image")
    found = dataset[0, 4, 0]
    assert isinstance(found, UnreadableImage)
    assert found.path == str(split.folder / f"{others[2]}.png")


def test_epochs_and_seeds_differ(train_loader: Callable[..., DetectionTrainLoader]) -> None:
    """In order and in augmentation; the same epoch of the same seed does not."""
    loader = train_loader()
    first = list(loader.epoch(0))
    assert all_same(list(loader.epoch(0)), first)
    assert not any(map(same, loader.epoch(1), first))
    assert not any(map(same, train_loader(seed=1).epoch(0), first))


@pytest.mark.slow
def test_workers_resize_after_this_process_has(tmp_path: Path) -> None:
    """OpenCV's threads, once started here, are not there in a forked worker, which must not wait for them."""
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (3000, 3000))
    time.sleep(0.2)  # until they sleep
    split = write_split(tmp_path, [(600, 800)] * 2, (1, 0))
    dataset = DetectionDataset(split, (SquareResize(size=900),), seed=0)
    (batch,) = DetectionEvalLoader(dataset, batch_size=2, num_workers=1)
    assert batch.images.shape == (2, 3, 900, 900)


# ---- groups of similar shape -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups_per_doubling", "expected"),
    [(0, [0, 0, 0, 0, 1, 1, 1, 1]), (1, [0, 1, 1, 1, 2, 2, 3, 3]), (3, [0, 1, 2, 3, 4, 5, 7, 7])],
)
def test_groups_by_hand(groups_per_doubling: int, expected: list[int]) -> None:
    """Three for a doubling meet at 0.5, 0.63, 0.79, 1, 1.26, 1.59, 2; what lies on an edge belongs above it."""
    sizes = np.array([(100, width) for width in (40, 50, 70, 90, 100, 130, 200, 900)])
    assert aspect_groups(sizes, groups_per_doubling).tolist() == expected


@pytest.mark.parametrize(("num_images", "batch_size"), [(101, 4), (64, 8), (9, 9), (7, 1)])
def test_grouped_batches(num_images: int, batch_size: int) -> None:
    """The images of the epoch without groups, each once; no more than 4 of 5 borders lie within a batch."""
    groups = np.random.default_rng(0).integers(0, 5, num_images)
    order = epoch_order(0, 3, num_images)
    grouped = grouped_order(order, groups, batch_size, 0, 3)
    assert sorted(grouped) == sorted(order[: num_images // batch_size * batch_size])
    batches = groups[grouped].reshape(-1, batch_size)
    present = [sorted(set(batch.tolist())) for batch in batches]
    assert sum(len(of_batch) - 1 for of_batch in present) <= 4
    assert all(of_batch == list(range(of_batch[0], of_batch[-1] + 1)) for of_batch in present)
    if len(batches) > 4:
        assert present != sorted(present), "the groups come one after another"
    assert not np.array_equal(grouped, grouped_order(order, groups, batch_size, 0, 4)) or len(batches) == 1


@pytest.fixture
def shapes(tmp_path: Path) -> DetectionAnnotations:
    """25 images, every fifth upright."""
    return write_split(tmp_path, [(12, 8) if number % 5 == 0 else (8, 12) for number in range(25)], (1,) * 25)


def test_a_grouped_loader(shapes: DetectionAnnotations) -> None:
    """Of 6 batches of 4 one may be mixed; all others keep their own shape instead of a square of both."""
    dataset = DetectionDataset(shapes, (RandomHorizontalFlip(), ShortSideResize(short=32, long_cap=48)), seed=0)
    build = partial(DetectionTrainLoader, dataset, batch_size=4, num_workers=0)
    sizes = [tuple(batch.images.shape[2:]) for epoch in range(4) for batch in build(group_by_aspect=3).epoch(epoch)]
    assert len(sizes) == 24
    assert sizes.count((64, 64)) <= 4
    assert sizes.count((64, 32)) >= 3
    assert sizes.count((32, 64)) >= 12
    plain = [tuple(batch.images.shape[2:]) for epoch in range(4) for batch in build().epoch(epoch)]
    assert plain.count((64, 64)) > 8


def test_a_grouped_epoch_depends_on_nothing_else(shapes: DetectionAnnotations) -> None:
    """The shares of two processes make up the global batch; it resumes from any step; epochs differ."""
    dataset = DetectionDataset(shapes, AUGMENTED, seed=0)
    build = partial(DetectionTrainLoader, dataset, batch_size=4, num_workers=0, group_by_aspect=0)
    whole = list(build().epoch(1))
    assert len(whole) == 6
    parts = [list(build(rank=rank, num_processes=2).epoch(1)) for rank in range(2)]
    for step, batch in enumerate(whole):
        assert rows([batch]) == rows([part[step] for part in parts])
    loader = build()
    list(islice(loader.epoch(0), 2))  # begun and left
    assert all_same(list(loader.epoch(1, first_step=4)), whole[4:])
    assert [b.image_ids.tolist() for b in loader.epoch(2)] != [b.image_ids.tolist() for b in whole]


def test_too_few_images(split: DetectionAnnotations) -> None:
    """The annotations and both numbers."""
    dataset = DetectionDataset(split, AUGMENTED, seed=0)
    with pytest.raises(DataError, match=r"instances\.json holds 11 training images, fewer than one .*batch_size=12"):
        DetectionTrainLoader(dataset, batch_size=12, num_workers=0)


@pytest.mark.slow
@pytest.mark.parametrize(("num_processes", "num_workers"), [(1, 0), (2, 2), (3, 0), (12, 0)])
def test_evaluation_covers_every_image_once(split: DetectionAnnotations, num_processes: int, num_workers: int) -> None:
    """11 images over 1, 2, 3 and 12 processes in batches of 2; the 12th process has none. A second pass is the same."""
    dataset = DetectionDataset(split, (SquareResize(size=16),), seed=0)
    build = partial(DetectionEvalLoader, dataset, batch_size=2, num_workers=num_workers, num_processes=num_processes)
    seen = []
    for loader in (build(rank=rank) for rank in range(num_processes)):
        batches = list(loader)
        assert all_same(list(loader), batches)
        assert (loader.num_images, loader.batch_size) == (11, 2)
        seen += rows(batches)
    (whole,) = DetectionEvalLoader(dataset, batch_size=11, num_workers=0)
    assert sorted(seen) == rows([whole])
    assert whole.image_ids.tolist() == list(range(100, 177, 7))


@pytest.mark.parametrize("num_processes", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_of_one_canvas_size(num_processes: int, batch_size: int) -> None:
    """In the order in which they are full, then what is left, dealt out whole: by hand for batches of two."""
    canvases = np.array([[32, 64], [64, 64], [64, 32], [32, 64], [64, 64], [32, 64]])
    shares = [CanvasBatchSampler(canvases, batch_size, rank, num_processes) for rank in range(num_processes)]
    dealt = [[[index for _, index in batch] for batch in share] for share in shares]
    assert [len(share) for share in shares] == [len(batches) for batches in dealt]
    assert {share.common_batches for share in shares} == {min(map(len, dealt))}
    batches = [batch for turn in zip_longest(*dealt) for batch in turn if batch is not None]
    if batch_size == 2:
        assert batches == [[0, 3], [1, 4], [2], [5]]
    assert sorted(chain(*batches)) == list(range(6))
    assert all(len({tuple(canvases[i]) for i in batch}) == 1 for batch in batches)


def test_an_images_canvas_in_evaluation_is_its_own(shapes: DetectionAnnotations) -> None:
    """Whatever the batch size: what is foretold from the annotations is what comes, rounded up to 32."""
    resize = ShortSideResize(short=32, long_cap=100)
    dataset = DetectionDataset(shapes, (resize,), seed=0)
    seen: dict[int, set[tuple[int, int]]] = {}
    for batch_size in (1, 3, 8):
        for batch in DetectionEvalLoader(dataset, batch_size=batch_size, num_workers=0):
            for image_id in batch.image_ids.tolist():
                seen.setdefault(image_id, set()).add((batch.images.shape[2], batch.images.shape[3]))
    assert len(seen) == len(dataset)
    assert {len(sizes) for sizes in seen.values()} == {1}
    assert len(set.union(*seen.values())) > 1
    foretold = dict(zip(shapes.image_ids.tolist(), map(tuple, dataset.canvases().tolist()), strict=True))
    assert {image_id: {size} for image_id, size in foretold.items()} == seen


# ---- what cannot be used -----------------------------------------------------------------------------------------


def refusal(split: DetectionAnnotations, num_workers: int) -> str:
    """The message of the DataError; no traceback is kept, which would keep the workers alive for seconds."""
    try:
        list(
            DetectionEvalLoader(
                DetectionDataset(split, (SquareResize(size=8),), seed=0), batch_size=2, num_workers=num_workers
            )
        )
    except DataError as error:
        return str(error)
    pytest.fail("nothing was refused")


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut off", b"text", None])
def test_an_unreadable_image_is_one_sentence(
    split: DetectionAnnotations, num_workers: int, content: bytes | None
) -> None:
    """The path, what to do, and no traceback of a worker; a missing file too."""
    bad = split.folder / "8.png"
    bad.unlink() if content is None else bad.write_bytes(content)
    message = refusal(split, num_workers)
    assert message.startswith(f"the image {bad} cannot be decoded: ")
    assert f"take it out of {split.folder}/instances.json (python -m public.datasets.check " in message
    assert "\n" not in message


def test_an_image_of_another_size_than_annotated(split: DetectionAnnotations) -> None:
    """Its boxes would lie elsewhere: the file and both sizes."""
    Image.new("RGB", (20, 15)).save(split.folder / "8.png")
    assert refusal(split, 0).startswith(
        f"the image {split.folder}/8.png is not the one that its boxes were drawn on: it is 15 pixels high and 20 "
        "wide, annotated as 10 and 12. Replace it or take it out of "
    )


@pytest.mark.parametrize(
    ("transforms", "random", "message"),
    [
        (
            (torch.nn.Identity(), SquareResize(size=8)),
            True,
            r"x holds Identity\(\), which knows no boxes; take those of",
        ),
        ((BatchRandomHorizontalFlip(), SquareResize(size=8)), True, r"BatchRandomHorizontalFlip\(.*knows no boxes"),
        ((RandomHorizontalFlip(), SquareResize(size=8)), False, r"x holds RandomHorizontalFlip\(.* may draw; evaluat"),
        ((Mosaic(size=8), SquareResize(size=8)), False, r"x holds Mosaic\(.* may draw"),
        ((RandomSquareResize(sizes=(8,)),), False, r"x holds RandomSquareResize\(.* may draw"),
        ((RandomHorizontalFlip(),), True, r"x=\[RandomHorizontalFlip\(.*\] must hold one resize, as the last"),
        ((SquareResize(size=8), RandomHorizontalFlip()), True, r"must hold one resize, as the last"),
        ((SquareResize(size=8), SquareResize(size=9)), True, r"must hold one resize, as the last"),
        ((), True, r"x=\[\] must hold one resize"),
    ],
)
def test_transforms_that_make_no_batch(transforms: Any, random: bool, message: str) -> None:
    """Of another kind, random in evaluation, without a resize at the end."""
    with pytest.raises(DataError, match=message):
        checked_transforms("x", transforms, random=random)


def test_transforms_that_make_batches() -> None:
    """Given back as they are."""
    assert checked_transforms("x", AUGMENTED) == list(AUGMENTED)
    assert checked_transforms("x", (SquareResize(size=8),), random=False) == [SquareResize(size=8)]
