"""Reads a config's whole data set, every image of it, and lists what is wrong instead of stopping at the first problem.

    python -m public.datasets.check <experiment> [row] [--data.folder ...] [any other setting]

<experiment> is an experiment's folder or its config.py; --runtime.num-workers is the number of processes that decode
images. Errors are what training refuses; warnings are what it leaves out, clips or keeps. Exit code: 1 after an error,
2 for a wrong command line, else 0.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from public.config.classification import ClassificationConfig
from public.config.command_line import fail, parse_config
from public.config.detection import DetectionConfig
from public.config.experiment import load_configs
from public.config.names import first_line
from public.config.record import class_summary
from public.datasets.batches import DataError, steps_per_epoch
from public.datasets.classification import build_train_data
from public.datasets.coco import scan_coco
from public.datasets.detection_loaders import decode_annotated
from public.datasets.imagenet import ImageFolderDataset, ImageList, UnreadableImage
from public.datasets.locations import dataset_folder
from public.datasets.packed import find_images
from public.datasets.scan import TREATMENT, Kind, Problem, RawAnnotations, box_problems, num_usable
from public.datasets.voc import scan_voc, voc_class_names
from public.runtime.distributed import World
from public.runtime.interruption import ignore_signals_in_worker

Config = ClassificationConfig | DetectionConfig


class SplitReport(NamedTuple):
    """What was found in one split."""

    title: str
    content: str
    """How much there is."""
    problems: list[Problem]


def main(argv: Sequence[str] | None = None) -> int:
    """Reads a command line, checks, prints, and gives the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if args else 2
    if args[0].startswith("-"):
        fail(f"the first argument must be an experiment's folder or its config.py, got {args[0]!r}.")
    config, fresh = parse_config(
        load_configs(Path(args[0])), args[1:], prog="python -m public.datasets.check <experiment>"
    )
    if fresh:
        fail("--fresh has no effect on a check of the data.")
    counts: Counter[Kind] = Counter()
    for report in check(config):
        _print_report(report)
        counts.update(problem.kind for problem in report.problems)
    for kind, count in sorted(counts.items()):
        print(f"{count:8d} x {kind}: training {_treatment(kind)}")
    print(f"problems: {counts.total()}" if counts else "nothing is wrong")
    return int(any(kind not in TREATMENT for kind in counts))


def check(config: Config) -> Iterator[SplitReport]:
    """Reads the splits of a config one after the other, images included."""
    if isinstance(config, DetectionConfig):
        return _check_detection(config)
    return {"imagenet": _check_image_folder, "cifar100": _check_cifar100}[config.data.dataset](config)


def _treatment(kind: Kind) -> str:
    return {"left out": "leaves them out", "clipped": "clips them", "kept": "goes on"}.get(
        TREATMENT.get(kind, ""), "refuses"
    )


def _print_report(report: SplitReport) -> None:
    """The split's content, then one line a problem, those of one file together."""
    print(f"{report.title}: {report.content}")
    for problem in sorted(report.problems, key=lambda problem: problem.path):
        print(f"  {'error' if problem.is_refused else 'warning'}: {problem}")


def _unusable(title: str, error: DataError) -> SplitReport:
    return SplitReport(title, "cannot be read", [Problem(Kind.UNUSABLE_SPLIT, title, str(error))])


def _class_problems(config: Config, title: str, class_names: list[str], expected: list[str]) -> list[Problem]:
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


def _amount_problems(config: Config, title: str, num_images: int, num_objects: int) -> list[Problem]:
    """Whether the training split makes one batch and holds something to learn."""
    problems = []
    if not num_objects:
        problems.append(Problem(Kind.TOO_LITTLE, title, "there is no object to learn"))
    try:
        steps_per_epoch(num_images, config.batch_size, title)
    except DataError as error:
        problems.append(Problem(Kind.TOO_LITTLE, title, str(error)))
    return problems


def _check_detection(config: DetectionConfig) -> Iterator[SplitReport]:
    """COCO's or VOC's format: annotations, and every image against them."""
    folder, expected = dataset_folder(config.data.folder), None
    for splits in dict.fromkeys((config.data.train_splits, config.data.val_splits)):
        title = f"{folder} {' + '.join(splits)}"
        try:
            raw = _scan(config, folder, splits)
        except DataError as error:
            yield _unusable(title, error)
            continue
        expected = expected or raw.class_names
        there = np.flatnonzero(~raw.missing)
        files = np.array([os.fsencode(raw.files[row]) for row in there.tolist()])
        images = ImageList(raw.folder, files, np.zeros(len(files), dtype=np.int64), raw.class_names)
        decoded = _CheckedImages(images, raw.sizes[there])
        problems = [
            *raw.problems,
            *box_problems(raw),
            *_class_problems(config, title, raw.class_names, expected),
            *_image_problems(title, decoded, config.runtime.num_workers),
        ]
        if splits == config.data.train_splits:
            problems += _amount_problems(config, title, len(raw.files), num_usable(raw))
        content = f"{len(raw.files)} images, {len(raw.boxes)} boxes ({raw.ignored.sum()} of them ignored)"
        yield SplitReport(title, f"{content}, {class_summary(raw.class_names)}", problems)


def _scan(config: DetectionConfig, folder: Path, splits: tuple[str, ...]) -> RawAnnotations:
    if config.data.dataset == "coco":
        return scan_coco(folder, splits[0])
    return scan_voc(folder, splits, config.data.class_names or voc_class_names(folder, config.data.class_file))


def _check_image_folder(config: ClassificationConfig) -> Iterator[SplitReport]:
    """Folders of images, or packed ones: every one must decode."""
    folder, expected = dataset_folder(config.data.folder), None
    for split in ("train", "val"):
        title = str(folder / split)
        try:
            images = find_images(folder, split)
        except DataError as error:
            yield _unusable(title, error)
            continue
        expected = expected or images.class_names
        decoded = ImageFolderDataset(images, (), decoder=config.data.decoder or "opencv", seed=0)
        problems = [
            *_class_problems(config, title, images.class_names, expected),
            *_image_problems(title, decoded, config.runtime.num_workers),
        ]
        if split == "train":
            problems += _amount_problems(config, title, len(images.files), len(images.files))
        yield SplitReport(title, f"{len(images.files)} images, {class_summary(images.class_names)}", problems)


def _check_cifar100(config: ClassificationConfig) -> Iterator[SplitReport]:
    """Both splits lie in memory: what training reads is all there is."""
    title = str(dataset_folder(config.data.folder))
    try:
        here = World(rank=0, size=1, device=torch.device("cpu"))
        data = build_train_data(replace(config, data=replace(config.data, download=None)), here)
    except DataError as error:
        yield _unusable(title, error)
        return
    content = f"{data.num_images} training and {data.val.num_images} validation images"
    yield SplitReport(title, f"{content}, {class_summary(data.class_names)}", [])


class _CheckedImages(Dataset[Any]):
    """Images of a detection data set, decoded as training decodes them, each with its annotated size.

    Args:
        images: the files.
        sizes: int64 [N, 2], the annotated height and width of each, 0 where unknown.
    """

    def __init__(self, images: ImageList, sizes: np.ndarray) -> None:
        self.images, self.sizes = images, sizes

    def __len__(self) -> int:
        return len(self.images.files)

    def __getitem__(self, key: tuple[int, int]) -> UnreadableImage | Problem | None:
        """What is wrong with an image, by (epoch, index) as in ImageFolderDataset."""
        _, index = key
        path = self.images.folder / os.fsdecode(self.images.files[index])
        height, width = self.sizes[index].tolist()
        try:
            found = decode_annotated(path, (height, width)).shape[:2]
        except (OSError, ValueError, cv2.error) as error:
            return UnreadableImage(str(path), first_line(error))
        if found == (height, width) or not height:
            return None
        text = f"it is {found[1]} x {found[0]} pixels, and its annotation says {width} x {height}"
        return Problem(Kind.WRONG_SIZE, str(path), text)


class _WrongWithImages(Dataset[Any]):
    """What is wrong with each image of a data set, None for nothing: workers send no pixels."""

    def __init__(self, images: ImageFolderDataset | _CheckedImages) -> None:
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


def _image_problems(title: str, images: ImageFolderDataset | _CheckedImages, num_workers: int) -> list[Problem]:
    """Decodes every image in several processes, with a bar in a terminal."""
    collate: Callable[[Any], Any] = list
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


if __name__ == "__main__":
    sys.exit(main())
