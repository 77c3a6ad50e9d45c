"""Reads a config's whole data set, every image of it, and lists what is wrong instead of stopping at the first problem.

    python -m public.datasets.check <experiment> [row] [--data.folder ...] [any other setting]
    python -m public.datasets.check --data.folder ~/raccoons [any other setting of the data]

<experiment> is an experiment's folder or its config.py; without one the format of the folder is recognized. Errors are
what training refuses; warnings are what it leaves out, clips or keeps. Beside the list a page of statistics is written,
one HTML file with pictures: objects of each class, sizes and shapes of boxes and images, some images with their boxes;
--page FILE says where (else runs/check/<row>.html of the experiment, or check_<folder>.html here). All cores read
images; --runtime.num-workers takes another number of processes. Exit code: 1 after an error, 2 for a wrong command
line, else 0.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from public.config.classification import ClassificationConfig
from public.config.command_line import fail, given, parse_config
from public.config.detection import DetectionConfig, DetectionData
from public.config.experiment import load_configs
from public.config.names import printable
from public.config.record import class_summary
from public.datasets import formats, image_formats
from public.datasets.batches import DataError
from public.datasets.checking import (
    FoundImage,
    SplitFacts,
    SplitReport,
    amount_problems,
    class_problems,
    look_at,
    read_images,
    unusable,
    way_problems,
)
from public.datasets.decoding import Reading, annotated_way, decode_annotated_bytes
from public.datasets.formats import format_of, resolved
from public.datasets.image_formats import image_format_of
from public.datasets.locations import dataset_folder
from public.datasets.own_folder import rows_on_folder
from public.datasets.scan import (
    TREATMENT,
    Kind,
    Problem,
    RawAnnotations,
    box_problems,
    clip_boxes,
    num_usable,
    usable,
)
from public.datasets.splits import PURPOSES, is_divided, scan_split, scan_undivided, splits_for
from public.datasets.statistics import problems_of_all
from public.datasets.statistics_page import statistics_page
from public.runtime.accidents import Remedies, end_by
from public.runtime.device import num_cores
from public.runtime.output import make_folder_of
from public.runtime.run_folder import log_to_console, replace_text

Config = ClassificationConfig | DetectionConfig
_REMEDIES = Remedies(
    workers="fewer processes (--runtime.num-workers)",
    too_much="the images that are read at once",
    less="fewer processes (--runtime.num-workers) need less",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads a command line, checks, prints, writes the page, and gives the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if args else 2
    experiment = None if args[0].startswith("-") else Path(args.pop(0)).resolve()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--page", type=Path)
    own, settings = parser.parse_known_args(args)
    config = parsed_config(experiment, settings)
    if experiment is None:
        page = Path(f"check_{config.name}.html")
    else:
        page = (experiment.parent if experiment.suffix == ".py" else experiment) / "runs/check" / f"{config.name}.html"
    if own.page is not None:
        _refuse_unwritable(own.page)
    log_to_console(is_main=True)  # which format was recognized
    try:
        reports = list(_printed(check_all(config)))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError, KeyboardInterrupt) as error:
        end_by(error, _REMEDIES)
    _write_page(own.page or page, f"{dataset_folder(config.data.folder)}", reports)
    counts: Counter[Kind] = Counter()
    for problem in (problem for report in reports for problem in report.problems):
        counts[problem.kind] += problem.times
    for kind, count in sorted(counts.items()):
        print(f"{count:8d} x {kind}: training {treatment(kind)}")
    print(f"problems: {counts.total()}" if counts else "nothing is wrong")
    return int(any(kind not in TREATMENT for kind in counts))


def parsed_config(experiment: Path | None, args: Sequence[str]) -> Config:
    """The row that a command line means, with a process for each core unless it gives another number.

    Args:
        experiment: its folder or config.py; None: `--data.folder` says what is meant.
        args: a row's name where there is an experiment, and settings; a mistake in them ends the program.
    """
    configs, args = rows_on_folder(args) if experiment is None else (load_configs(experiment), args)
    of_detection = isinstance(next(iter(configs.values())), DetectionConfig)
    kinds = (formats.DATA_KIND if of_detection else image_formats.DATA_KIND,)
    config, fresh = parse_config(configs, args, kinds, prog="python -m public.datasets.check <experiment>")
    if fresh:
        fail("--fresh has no effect on a check of the data.")
    if given("runtime.num-workers", args) is not None:
        return config
    return replace(config, runtime=replace(config.runtime, num_workers=num_cores()))


def check(config: Config) -> Iterator[SplitReport]:
    """Reads the splits of a config one after the other, images included."""
    if isinstance(config, DetectionConfig):
        return _check_detection(config)
    return image_format_of(config.data).check(config)


def check_all(config: Config) -> Iterator[SplitReport]:
    """The same, and in the end what only all splits together show."""
    splits, named = [], set()
    for report in check(config):
        splits += [report.facts] if report.facts is not None else []
        named.update(problem.path for problem in report.problems)
        yield report
    folder = dataset_folder(config.data.folder)
    problems = problems_of_all(folder, splits, named) if splits else []
    if problems:
        yield SplitReport(f"{folder}, all splits", f"{sum(len(facts.found) for facts in splits)} images", problems)


def treatment(kind: Kind) -> str:
    """What training does about problems of a kind, as the words behind "training"."""
    verbs = {"skipped": "skips them", "clipped": "clips them", "kept": "continues", "filled": "fills them in"}
    return verbs.get(TREATMENT.get(kind, ""), "refuses")


def _printed(reports: Iterator[SplitReport]) -> Iterator[SplitReport]:
    """Each split's content as it comes, then one line a problem, those of one file together."""
    for report in reports:
        print(f"{report.title}: {report.content}")
        for problem in sorted(report.problems, key=lambda problem: problem.path):
            print(f"  {'error' if problem.is_refused else 'warning'}: {problem}")
        yield report


def _refuse_unwritable(page: Path) -> None:
    """Ends the program where a page that was asked for cannot be written: before a long reading, not after it."""
    try:
        make_folder_of(page, "page", "check.html")
    except ValueError as error:
        fail(str(error))


def _write_page(path: Path, title: str, reports: Sequence[SplitReport]) -> None:
    """Where it cannot be written, that is said, and the check goes on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, statistics_page(title, reports))
        print(f"statistics: {path}")
    except OSError as error:
        print(
            f"warning: the page of statistics {path} could not be written: {error.strerror or error}", file=sys.stderr
        )


def _check_detection(config: DetectionConfig) -> Iterator[SplitReport]:
    """Annotations, and every image against them."""
    folder, expected = dataset_folder(config.data.folder), None
    try:
        data = resolved(config.data)
    except DataError as error:
        yield unusable(str(folder), error)
        return
    config = replace(config, data=data)
    undivided: RawAnnotations | None = None
    is_one = (data.train_splits, data.train_list) == (data.val_splits, data.val_list) and not is_divided(data)
    for purpose in PURPOSES[: 1 if is_one else 2]:
        name = purpose if data.train_splits == data.val_splits else " + ".join(splits_for(data, purpose))
        title = f"{folder} {name}"
        try:
            undivided = undivided or scan_undivided(data)
            raw = scan_split(data, purpose, expected, undivided)
        except DataError as error:
            yield unusable(title, error)
            continue
        expected = expected or raw.class_names
        reading = Reading(config.data.orientation, config.data.max_pixels)
        found = read_images(title, _AnnotatedImages(raw, reading), config.runtime.num_workers)
        known = {problem.path for problem in raw.problems if problem.kind == Kind.UNREADABLE_IMAGE}
        problems = [
            *raw.problems,
            *box_problems(raw),
            *class_problems(config, title, raw.class_names, expected),
            *(one.problem for one in found if one.problem is not None and one.problem.path not in known),
            *way_problems(found),
        ]
        if purpose == "train":
            problems += amount_problems(config, title, len(raw.files), num_usable(raw))
        content = f"{len(raw.files)} images, {len(raw.boxes)} boxes ({raw.ignored.sum()} of them ignored)"
        facts = _facts(name, raw, found)
        yield SplitReport(title, f"{content}, {class_summary(raw.class_names)}", problems, facts)
    yield from _leftovers(folder, data)


def _leftovers(folder: Path, data: DetectionData) -> Iterator[SplitReport]:
    """What the data set names or holds beside its splits, if anything."""
    try:
        problems = format_of(data).leftovers(folder, data)
    except DataError:  # said of the split that it is about
        return
    if problems:
        yield SplitReport(f"{folder}, beside its splits", "what is not used", problems)


def _facts(name: str, raw: RawAnnotations, found: list[FoundImage]) -> SplitFacts:
    """Of the boxes that can be learnt."""
    boxes, flaws = clip_boxes(raw)
    learnt = usable(raw, flaws)
    return SplitFacts(
        name=name,
        found=found,
        class_names=[printable(one) for one in raw.class_names],
        labels=raw.labels[learnt],
        object_images=raw.object_images[learnt],
        boxes=boxes[learnt],
    )


class _AnnotatedImages:
    """Images of a detection data set, decoded as training decodes them and compared with their annotations."""

    def __init__(self, raw: RawAnnotations, reading: Reading) -> None:
        self.reading = reading
        # Arrays, which worker processes share.
        self.folder, self.sizes, self.missing = raw.folder, raw.sizes, raw.missing
        self.files = np.array([os.fsencode(file) for file in raw.files])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> FoundImage:
        """By its row; a missing one is a problem already."""
        path = self.folder / os.fsdecode(self.files[index])
        if self.missing[index]:
            return FoundImage(str(path), None, b"", (0, 0))
        height, width = self.sizes[index].tolist()
        way = None

        def judge(content: bytes) -> tuple[int, int] | Problem:
            nonlocal way
            found = decode_annotated_bytes(content, (height, width), self.reading).shape[:2]
            way = annotated_way(content, (height, width), self.reading) if height else None
            if found == (height, width) or not height:
                return found
            text = f"it is {found[1]} x {found[0]} pixels, and its annotation says {width} x {height}"
            return Problem(Kind.WRONG_SIZE, str(path), text)

        return look_at(str(path), path.read_bytes, judge)._replace(way=way)


if __name__ == "__main__":
    sys.exit(main())
