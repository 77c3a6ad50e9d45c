"""Reads a config's whole data set, every image of it, and lists what is wrong instead of stopping at the first problem.

    python -m public.datasets.check <experiment> [row] [--data.folder ...] [any other setting]

<experiment> is an experiment's folder or its config.py; --runtime.num-workers is the number of processes that decode
images. Errors are what training refuses; warnings are what it leaves out, clips or keeps. Exit code: 1 after an error,
2 for a wrong command line, else 0.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from public.config.classification import ClassificationConfig
from public.config.command_line import fail, parse_config
from public.config.detection import DetectionConfig
from public.config.experiment import load_configs
from public.config.names import first_line
from public.config.record import class_summary
from public.datasets import formats, image_formats
from public.datasets.batches import DataError
from public.datasets.checking import SplitReport, amount_problems, class_problems, image_problems, unusable
from public.datasets.decoding import UnreadableImage, decode_annotated
from public.datasets.formats import format_of
from public.datasets.image_formats import image_format_of
from public.datasets.locations import dataset_folder
from public.datasets.scan import TREATMENT, Kind, Problem, box_problems, num_usable

Config = ClassificationConfig | DetectionConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Reads a command line, checks, prints, and gives the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if args else 2
    if args[0].startswith("-"):
        fail(f"the first argument must be an experiment's folder or its config.py, got {args[0]!r}.")
    configs = load_configs(Path(args[0]))
    of_detection = isinstance(next(iter(configs.values())), DetectionConfig)
    kinds = (formats.DATA_KIND if of_detection else image_formats.DATA_KIND,)
    config, fresh = parse_config(configs, args[1:], kinds, prog="python -m public.datasets.check <experiment>")
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
    return image_format_of(config.data).check(config)


def _treatment(kind: Kind) -> str:
    return {"skipped": "skips them", "clipped": "clips them", "kept": "continues"}.get(
        TREATMENT.get(kind, ""), "refuses"
    )


def _print_report(report: SplitReport) -> None:
    """The split's content, then one line a problem, those of one file together."""
    print(f"{report.title}: {report.content}")
    for problem in sorted(report.problems, key=lambda problem: problem.path):
        print(f"  {'error' if problem.is_refused else 'warning'}: {problem}")


def _check_detection(config: DetectionConfig) -> Iterator[SplitReport]:
    """Annotations, and every image against them."""
    folder, expected = dataset_folder(config.data.folder), None
    for splits in dict.fromkeys((config.data.train_splits, config.data.val_splits)):
        title = f"{folder} {' + '.join(splits)}"
        try:
            raw = format_of(config.data).scan(folder, splits, config.data)
        except DataError as error:
            yield unusable(title, error)
            continue
        expected = expected or raw.class_names
        there = np.flatnonzero(~raw.missing)
        files = np.array([os.fsencode(raw.files[row]) for row in there.tolist()])
        decoded = _CheckedImages(raw.folder, files, raw.sizes[there])
        problems = [
            *raw.problems,
            *box_problems(raw),
            *class_problems(config, title, raw.class_names, expected),
            *image_problems(title, decoded, config.runtime.num_workers),
        ]
        if splits == config.data.train_splits:
            problems += amount_problems(config, title, len(raw.files), num_usable(raw))
        content = f"{len(raw.files)} images, {len(raw.boxes)} boxes ({raw.ignored.sum()} of them ignored)"
        yield SplitReport(title, f"{content}, {class_summary(raw.class_names)}", problems)


class _CheckedImages:
    """Images of a detection data set, decoded as training decodes them and compared with their annotations.

    Args:
        folder: of the files.
        files: paths below it [N].
        sizes: int64 [N, 2], the annotated height and width of each, 0 where unknown.
    """

    def __init__(self, folder: Path, files: np.ndarray, sizes: np.ndarray) -> None:
        self.folder, self.files, self.sizes = folder, files, sizes

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> UnreadableImage | Problem | None:
        """What is wrong with an image, by (epoch, index)."""
        _, index = key
        path = self.folder / os.fsdecode(self.files[index])
        height, width = self.sizes[index].tolist()
        try:
            found = decode_annotated(path, (height, width)).shape[:2]
        except (OSError, ValueError, cv2.error) as error:
            return UnreadableImage(str(path), first_line(error))
        if found == (height, width) or not height:
            return None
        text = f"it is {found[1]} x {found[0]} pixels, and its annotation says {width} x {height}"
        return Problem(Kind.WRONG_SIZE, str(path), text)


if __name__ == "__main__":
    sys.exit(main())
