"""Predicts with a trained network: pictures, videos, a webcam in; drawn pictures and files of results out.

    python -m public.apps.predict --weights best.pth --source photos/
    python -m public.apps.predict --weights best.pth --source street.mp4 --save pictures csv crops
    python -m public.apps.predict --weights torchvision:mobilenet_v2 --network mobilenet_v2 --source cat.jpg

A checkpoint of ours knows its network, its classes and what is done to pictures. From Python:

    from public.apps.predict import load

    (result,) = load("best.pth")("street.jpg")        # a Classified or a Detected

Exit codes: 0, 1 where a picture could not be read (each is named), 2 where nothing could be done.
"""

import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro
from tqdm import tqdm

from public.apps.predict_engines import load
from public.apps.predict_model import Predictor, PredictorOptions, Prepared, read_command
from public.apps.predict_outputs import OUTPUTS, Names, Output, open_outputs
from public.apps.predict_results import Classified, Detected, Result
from public.apps.predict_sources import Frame, Limits, Sources, find_sources, read_ahead
from public.config.checks import require, require_at_least
from public.config.command_line import fail
from public.config.names import first_line
from public.config.options import DetectorOptions, NetworkOptions
from public.datasets.decoding import DECODING_ERRORS, MAX_PIXELS
from public.runtime.accidents import Remedies, end_by
from public.runtime.launch import raised_by_us
from public.runtime.output import make_folder, writing_to

__all__ = ["Classified", "Detected", "Predictor", "PredictorOptions", "Result", "load"]

PROGRAM = "python -m public.apps.predict"
REMEDIES = Remedies(
    workers="fewer threads (--num-workers)",
    too_much="the pictures in a forward pass",
    less="a smaller --batch-size needs less",
)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PredictorOptions):
    """Predicts with a trained network, of either task."""

    source: tuple[str, ...]
    """One or several: a picture or a video, a folder of them, a glob in quotes, a list (.txt, one a line), the number
    of a webcam, or an http(s) address."""
    output: str | None = None
    """Folder for everything that is written; made if missing. None: predicted, or predicted_2 and so on where that
    holds files."""
    overwrite: bool = False
    """Whether the folder may hold files: those of the same names are replaced, and all others stay."""
    save: tuple[Literal[tuple(OUTPUTS)], ...] = ("pictures", "json")  # pyright: ignore[reportInvalidTypeForm]
    """What is written: drawn pictures and videos; every object as a picture (crops); predictions.json; predictions.csv;
    coco_results.json; labels/ as YOLO has them; pictures sorted into folders of their classes (classes)."""
    allow_http: bool = False
    """Whether addresses are fetched."""
    max_megabytes: float = 50.0
    """Of what is fetched from an address."""
    max_seconds: float = 30.0
    """That fetching it may take."""
    max_pixels: int = MAX_PIXELS
    """A picture of more is skipped before it is decoded."""
    frame_step: int = 1
    """Every how many-th frame of a video is taken."""
    max_frames: int | None = None
    """Of each video or webcam; None: all; a webcam ends with Ctrl-C."""
    num_workers: int = 4
    """Threads that read pictures ahead."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_pixels", "frame_step", "max_frames", "num_workers"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("max_megabytes", "max_seconds"):
            require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be above 0.")
        require(bool(self.save), "save names nothing that is to be written.")
        require(bool(self.source), "source names nothing that is to be predicted.")

    @property
    def limits(self) -> Limits:
        """Of the sources."""
        return Limits(
            http=self.allow_http,
            megabytes=self.max_megabytes,
            seconds=self.max_seconds,
            frame_step=self.frame_step,
            max_frames=self.max_frames,
            pixels=self.max_pixels,
        )


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(PredictOptions):
    """Predicts with a trained network, of either task."""

    network_options: NetworkOptions  # pyright: ignore[reportGeneralTypeIssues]
    """How the network differs from what its family gives."""


@dataclass(frozen=True, kw_only=True)
class DetectorWeightsOptions(PredictOptions):
    """Predicts with a trained network, of either task."""

    detector: DetectorOptions  # pyright: ignore[reportGeneralTypeIssues]
    """How the detector is built, and how detections are chosen."""


class Shot(NamedTuple):
    """A picture that was read."""

    frame: Frame
    pixels: np.ndarray
    """uint8 [H, W, 3] red green blue."""
    prepared: Prepared


class Tally(NamedTuple):
    """What became of the pictures."""

    predicted: int
    skipped: list[str]
    """Why, a sentence each."""


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line, predicts and writes; None takes the program's arguments."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        kinds = (PredictOptions, ClassifierOptions, DetectorWeightsOptions)
        tally = run(read_command(kinds, args, PROGRAM, weights=tyro.MISSING, source=tyro.MISSING))
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))
    except (RuntimeError, MemoryError, KeyboardInterrupt) as error:
        end_by(error, REMEDIES)
    if tally.skipped:
        raise SystemExit(1)


def run(options: PredictOptions) -> Tally:
    """Predicts every picture and writes what is asked for.

    Raises:
        FileNotFoundError: there are no weights or no pictures.
        ValueError: the weights do not fit, an option contradicts them, not one picture could be read, or the results
            cannot be written.
    """
    folder = _folder(options.output, overwrite=options.overwrite)
    sources = find_sources(options.source, options.limits)
    if sources.is_live and options.batch_size is None:
        options = replace(options, batch_size=1)  # who waits for a picture does not wait for eight
    predictor = load_from(options)
    outputs = open_outputs(options.save, folder, predictor, sources)
    make_folder(folder)
    start = time.perf_counter()
    with writing_to(folder):
        tally = _write_all(predictor, sources, outputs, options.num_workers)
    if not tally.predicted:
        raise ValueError(f"not one of {len(tally.skipped)} pictures could be read: {tally.skipped[0]}.")
    seconds = time.perf_counter() - start
    speed = f"{tally.predicted} pictures in {seconds:.1f} s ({tally.predicted / seconds:.1f} a second)"
    skipped = f", {len(tally.skipped)} skipped" if tally.skipped else ""
    made_by = f"weights {options.weights}, computed by {predictor.computed_by}"
    print(f"{speed}{skipped}; {', '.join(options.save)} in {folder.resolve()} ({made_by})")
    return tally


def _folder(output: str | None, *, overwrite: bool) -> Path:
    """Where everything is written.

    Raises:
        ValueError: the folder that was given holds files.
    """
    if output is None:
        numbered = (Path(f"predicted_{number}") for number in itertools.count(2))
        folders = itertools.chain([Path("predicted")], numbered)
        return next(folder for folder in folders if overwrite or not _holds_files(folder))
    require(
        overwrite or not _holds_files(Path(output)),
        f"output={output!r} holds files already: give another folder, or --overwrite to replace those of the same "
        "names.",
    )
    return Path(output)


def _holds_files(folder: Path) -> bool:
    with writing_to(folder):
        return folder.is_dir() and any(folder.iterdir())


def load_from(options: PredictorOptions) -> Predictor:
    """As `load`, of options that may have others beside them."""
    return load(**{name: getattr(options, name) for name in PredictorOptions.__dataclass_fields__})


def _write_all(predictor: Predictor, sources: Sources, outputs: Sequence[Output], num_threads: int) -> Tally:
    """Every picture into every output; Ctrl-C ends it, and what was predicted so far is written."""
    predicted, skipped, names = 0, [], Names(path.stem for path in sources.pictures)
    with tqdm(total=sources.total, unit="picture", leave=False, dynamic_ncols=True, disable=None) as bar:
        try:
            for frame, shot, result in predictions(predictor, sources.frames(), num_threads=num_threads):
                if isinstance(shot, Exception):
                    skipped.append(first_line(shot))
                    bar.write(f"skipped: {skipped[-1]}", file=sys.stderr)
                else:
                    predicted += 1
                    name = names.take(frame.stem)
                    for output in outputs:
                        output.add(frame, name, shot.pixels, result)
                    if frame.clip is None:  # a line a frame would be too many
                        bar.write(f"{frame.source}: {result}")
                bar.update()
        except KeyboardInterrupt:
            bar.write("stopped; what was predicted so far is written", file=sys.stderr)
        for output in outputs:
            output.close()
    return Tally(predicted, skipped)


def predictions(
    predictor: Predictor, frames: Iterable[Frame], *, num_threads: int = 4
) -> Iterator[tuple[Frame, Any, Any]]:
    """Every picture in order with its `Shot` and its result, or with the reason why it could not be read and None.

    Pictures are read ahead by threads. Where the predictor takes several at once it is given eight times as many: on a
    GPU it puts those of a size together.
    """

    def read(frame: Frame) -> Shot:
        pixels = frame.read()
        return Shot(frame, pixels, predictor.prepare(pixels, frame.source))

    window = 1 if predictor.at_once == 1 else 8 * predictor.at_once
    shots = read_ahead(frames, read, num_threads=num_threads, depth=2 * num_threads + window)
    while group := list(itertools.islice(shots, window)):
        for _, shot in group:
            if isinstance(shot, Exception) and not isinstance(shot, DECODING_ERRORS):
                raise shot
        results = iter(predictor.predict([shot.prepared for _, shot in group if isinstance(shot, Shot)]))
        for frame, shot in group:
            yield frame, shot, next(results) if isinstance(shot, Shot) else None


if __name__ == "__main__":
    main()
