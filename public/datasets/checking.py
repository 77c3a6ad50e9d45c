"""What the checks of all formats have in common: a split's classes, its size, and every image of it decoded."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from public.config.record import class_summary
from public.config.run import RunConfig
from public.datasets.batches import DataError, steps_per_epoch
from public.datasets.decoding import UnreadableImage
from public.datasets.scan import Kind, Problem
from public.runtime.interruption import ignore_signals_in_worker


class SplitReport(NamedTuple):
    """What was found in one split."""

    title: str
    content: str
    """How much there is."""
    problems: list[Problem]


class Samples(Protocol):
    """Images of a split, each of which is read and judged when it is asked for."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """By (epoch, index): an UnreadableImage or a Problem for one that cannot be used."""
        ...


def unusable(title: str, error: DataError) -> SplitReport:
    """The report of a split that cannot be read at all."""
    return SplitReport(title, "cannot be read", [Problem(Kind.UNUSABLE_SPLIT, title, str(error))])


def class_problems(config: RunConfig, title: str, class_names: list[str], expected: list[str]) -> list[Problem]:
    """Whether a split's classes are those of the training split, and as many as the config states."""
    problems = []
    if class_names != expected:
        only_here, only_there = sorted({*class_names} - {*expected}), sorted({*expected} - {*class_names})
        text = f"its classes are not those of the training split; only here {only_here}, only there {only_there}"
        problems.append(Problem(Kind.DIFFERENT_CLASSES, title, f"{text} (no names: in another order)"))
    if config.num_classes not in (None, len(class_names)):
        text = f"{class_summary(class_names)}, and the config states num_classes={config.num_classes}"
        problems.append(Problem(Kind.DIFFERENT_CLASSES, title, text))
    return problems


def amount_problems(config: RunConfig, title: str, num_images: int, num_objects: int) -> list[Problem]:
    """Whether the training split makes one batch and holds something to learn."""
    problems = []
    if not num_objects:
        problems.append(Problem(Kind.TOO_LITTLE, title, "there is no object to learn"))
    try:
        steps_per_epoch(num_images, config.batch_size, title)
    except DataError as error:
        problems.append(Problem(Kind.TOO_LITTLE, title, str(error)))
    return problems


def image_problems(title: str, images: Samples, num_workers: int) -> list[Problem]:
    """Decodes every image in several processes, with a bar in a terminal."""
    collate: Callable[[Sequence[Any]], Any] = list
    batches = DataLoader(
        _WrongWithImages(images),
        batch_size=16,
        collate_fn=collate,
        num_workers=min(num_workers, os.cpu_count() or 1),
        worker_init_fn=ignore_signals_in_worker,
        generator=torch.Generator(),
    )
    problems: list[Problem] = []
    with tqdm(total=len(images), desc=title, unit="image", leave=False, dynamic_ncols=True, disable=None) as bar:
        for batch in batches:
            problems += [problem for problem in batch if problem is not None]
            bar.update(len(batch))
    return problems


class _WrongWithImages(Dataset[Any]):
    """What is wrong with each image of a split, None for nothing: workers send no pixels."""

    def __init__(self, images: Samples) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Problem | None:
        sample = self.images[0, index]
        if isinstance(sample, UnreadableImage):
            return _undecoded(sample)
        return sample if isinstance(sample, Problem) else None


def _undecoded(image: UnreadableImage) -> Problem:
    """Tells a file that begins as an image from one that is none."""
    try:
        with Image.open(image.path) as opened:
            text = f"a {opened.format} file of {opened.width} x {opened.height} pixels that is cut short or damaged"
        return Problem(Kind.TRUNCATED_IMAGE, image.path, text)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Problem(Kind.UNREADABLE_IMAGE, image.path, image.reason)
