"""Writes a trained network as a file for other runtimes, and runs it at once beside PyTorch.

    python -m public.apps.export --weights best.pth --format onnx
    python -m public.apps.export --weights best.pth --format openvino --precision bf16 --images photos/
    python -m public.apps.export --weights best.pth --precision int8 --calibrate photos/
    python -m public.apps.export --weights torchvision:mobilenet_v2 --network mobilenet_v2 --format torch

The file takes uint8 pictures [B, 3, H, W] of one size in batches of any size, and answers as we do: probabilities, or
boxes, scores and labels after suppression, see `public.apps.export_graph`. It holds its classes, threshold, config and
versions, and is a --weights for public.apps.predict and evaluate. One that does not say what PyTorch says is not
written.

Exit codes: 0, 1 where the file was refused or memory did not suffice, 2 where nothing could be done.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro

from public.apps.engine_choice import Ready, files_of, note, notes_of
from public.apps.evaluate_exported import worth
from public.apps.export_check import BOX_TOLERANCE, SCORE_TOLERANCE, Difference, Limits, difference
from public.apps.export_graph import Graph, graph_of, write_onnx, write_openvino, write_torch
from public.apps.export_inputs import BATCHES, Network, batches_of, calibration, canvas_for
from public.apps.export_int8 import quantize
from public.apps.exported import (
    CLASSIFICATION,
    DETECTION,
    INSTALL,
    About,
    ExportedClassifier,
    ExportedDetector,
    Run,
    is_exported,
    on_arrays,
    read_exported,
)
from public.apps.predict_model import NetworkChoice, OpenedNetwork, open_network, read_command, simplify
from public.apps.predict_sources import find_images
from public.backbones.classifier import ImageClassifier
from public.backbones.trained import TrainedClassifier
from public.config.checks import require, require_side
from public.config.command_line import fail, in_present
from public.config.experiment import Experiment
from public.config.options import DetectorOptions, NetworkOptions
from public.config.record import to_record
from public.datasets.decoding import read_pixels
from public.detectors.detector import ImageDetector
from public.detectors.trained import TrainedDetector
from public.layers.packing import pack_convolutions
from public.runtime.accidents import Remedies, end_by, naming_memory
from public.runtime.device import PRECISION_DTYPES
from public.runtime.environment import package_version
from public.runtime.launch import raised_by_us
from public.runtime.output import make_folder, writing_to
from public.test_scripts.request import named

PROGRAM = "python -m public.apps.export"
REMEDIES = Remedies(
    workers="nothing else at the same time",
    too_much="writing this network and trying the file",
    less="a smaller --canvas, and fewer pictures for --calibrate, need less",
)
ROUNDS = 5
"""In which the file and PyTorch take turns."""


class Writer(NamedTuple):
    """A format."""

    ending: str
    engine: str
    """What runs the file, a name of `FILE_FORMATS`."""
    packages: tuple[str, ...]
    """That write and run it."""
    write: Callable[[Graph, tuple[int, int], Path, About], None]
    precisions: tuple[str, ...]
    """That it can have."""
    casts: bool = False
    """Whether the graph itself is computed in the precision, not by the engine's own means."""


FORMATS = {
    "onnx": Writer(".onnx", "onnxruntime", ("onnx", "onnxscript", "onnxruntime"), write_onnx, ("fp32", "int8")),
    "openvino": Writer(".xml", "openvino", ("onnx", "onnxscript", "openvino"), write_openvino, ("fp32", "bf16")),
    "torch": Writer(".pt2", "torch.export", (), write_torch, ("fp32", "bf16"), casts=True),
}
"""By the name that --format has for it."""


class Refused(ValueError):
    """The file does not say what PyTorch says."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(NetworkChoice):
    """Writes a trained network as a file for other runtimes, and runs it at once beside PyTorch."""

    format: Literal[tuple(FORMATS)] = "onnx"  # pyright: ignore[reportInvalidTypeForm]
    """onnx: one file, for onnxruntime and many others; openvino: .xml and .bin; torch: torch.export's .pt2."""
    output: str | None = None
    """The file; None: beside the weights, with the ending of the format."""
    canvas: tuple[int, int] | None = None
    """Height and width of what the network sees, pixels. None: what the transforms of evaluation make of any picture;
    where each picture has its own canvas, the smallest that the first eight of `images` fit on."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """In which the file computes; bf16: openvino and torch; int8: onnx."""
    calibrate: str | None = None
    """For int8: pictures such as it will see, a folder or a glob, of which at most 300 are taken."""
    images: str | None = None
    """Pictures to try the file with: a file, a folder or a glob, of which the first eight are taken; None: generated
    ones."""
    split: str | None = None
    """A data set's folder, of the checkpoint's own format: on its validation split the metric that chose the checkpoint
    is said of PyTorch in fp32 and of the file. None: of neither."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in self.canvas or ():
            require_side("canvas", side)
        writer = FORMATS[self.format]
        able = [name for name, one in FORMATS.items() if self.precision in one.precisions]
        require(
            self.precision in writer.precisions,
            f"precision={self.precision!r} with format={self.format!r}: that is computed by {' or '.join(able)}.",
        )
        require(
            (self.calibrate is not None) == (self.precision == "int8"),
            f"precision={self.precision!r}, calibrate={self.calibrate!r}: int8, and nothing else, takes its ranges "
            "from pictures: --precision int8 --calibrate FOLDER.",
        )

    @property
    def path(self) -> Path:
        """Where the file goes."""
        ending = FORMATS[self.format].ending
        if self.output is None:
            name = (
                self.weights.replace(":", "_") if self.weights.startswith(("torchvision:", "timm:")) else self.weights
            )
            return Path(name).with_suffix(ending)
        path = Path(self.output)
        require(path.suffix == ending, f"output={self.output!r}: files of format={self.format!r} end in {ending}.")
        return path

    @property
    def lies_beside_checkpoint(self) -> bool:
        """Whether the file is in fp32 and in the folder of the checkpoint, whose name alone says all."""
        weights = Path(self.weights)
        is_there = self.network is None and weights.is_file() and self.precision == "fp32"
        return is_there and weights.absolute().parent == self.path.absolute().parent


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(ExportOptions):
    """Writes a trained network as a file for other runtimes, and runs it at once beside PyTorch."""

    network_options: NetworkOptions  # pyright: ignore[reportGeneralTypeIssues]
    """How the network differs from what its family gives."""


@dataclass(frozen=True, kw_only=True)
class DetectorWeightsOptions(ExportOptions):
    """Writes a trained network as a file for other runtimes, and runs it at once beside PyTorch."""

    detector: DetectorOptions  # pyright: ignore[reportGeneralTypeIssues]
    """How the detector is built, and how detections are chosen."""


class Export(NamedTuple):
    """What was written."""

    path: Path
    canvas: tuple[int, int]
    difference: Difference
    """From PyTorch in fp32."""
    speed: float | None
    """How many times as fast as PyTorch in fp32, as predict has it; None where PyTorch itself is what runs the file in
    another precision."""
    worth: tuple[float, float] | None
    """The metric on the split, of PyTorch in fp32 and of the file."""


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line, writes and tries; None takes the program's arguments."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        kinds = (ExportOptions, ClassifierOptions, DetectorWeightsOptions)
        options = read_command(kinds, args, PROGRAM, weights=tyro.MISSING)
        with naming_memory():
            run(options)
    except Refused as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error
    except (ValueError, OSError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))
    except (RuntimeError, MemoryError, KeyboardInterrupt) as error:
        end_by(error, REMEDIES)


def run(options: ExportOptions) -> Export:
    """Writes the file, runs it beside PyTorch and says how they compare.

    Raises:
        FileNotFoundError: there are no weights or no pictures.
        OSError: a picture cannot be read.
        Refused: the file does not say what PyTorch says; it is not written, and one of that name stays.
        ValueError: the weights do not fit, the network cannot be exported, or the file cannot be written.
    """
    require(not is_exported(options.weights), f"weights={options.weights!r} was exported already; give a checkpoint.")
    missing = [name for name in FORMATS[options.format].packages if find_spec(name) is None]
    require(
        not missing,
        f"format={options.format!r} needs {', '.join(missing)}, which this Python has not: {INSTALL}.",
    )
    return export(open_network(options, torch.device("cpu"), "fp32", channels_last=False), options)


def export(opened: OpenedNetwork, options: ExportOptions) -> Export:
    """As `run`, of an opened network, which is changed: its batch norms are folded."""
    make_folder(options.path.parent)
    shown = [] if options.images is None else [read_pixels(one) for one in find_images(options.images)[: sum(BATCHES)]]
    calibrating = [] if options.calibrate is None else find_images(options.calibrate)
    canvas = canvas_for(opened.network, shown, options.canvas)
    batches = batches_of(opened.network, shown, canvas)
    answer = answer_of(opened.network)
    expected = [answer(*batch) for batch in batches]
    before = None if options.split is None else worth(module_of(opened.network), *_split(opened, options.split))
    about, writer = about_of(opened, canvas, options), FORMATS[options.format]
    dtype = PRECISION_DTYPES[options.precision] if writer.casts else torch.float32
    with writing_to(options.path.parent), tempfile.TemporaryDirectory(dir=options.path.parent) as folder:
        path = Path(folder) / options.path.name
        writer.write(fold(opened.network, dtype), canvas, path, about)
        if calibrating:
            quantize(path, calibration(opened.network, calibrating, canvas))
        _, answer = read_exported(path, writer.engine)
        limits = limits_of(opened)
        found = [difference(ours, answer(*batch), limits) for ours, batch in zip(expected, batches, strict=True)]
        apart = Difference.of(found)
        if options.precision == "fp32" and not apart.is_small:
            raise Refused(
                f"{options.path} is not written: beside PyTorch it differs in {apart}; allowed are "
                f"{SCORE_TOLERANCE:g} and {BOX_TOLERANCE:g} px."
            )
        kind = ExportedClassifier if about.task == CLASSIFICATION else ExportedDetector
        after = None if options.split is None else worth(kind(path, answer, canvas), *_split(opened, options.split))
        speed = times_as_fast(answer, opened.network, batches[BATCHES.index(1)]) if dtype == torch.float32 else None
        for one in path.parent.iterdir():
            one.replace(options.path.parent / one.name)
    both = None if before is None or after is None else (before, after)
    written = Export(options.path, canvas, apart, speed, both)
    _say(written, about, opened.config, options)
    if speed is not None and options.lies_beside_checkpoint:
        note(Path(options.weights), Ready(options.path, speed))
        print(f"noted      in {notes_of(options.weights)}: --engine auto takes the fastest that is there")
    return written


def _split(opened: OpenedNetwork, folder: str) -> tuple[Any, list[str]]:
    """The config with its data in a folder, and the classes."""
    data = replace(opened.config.data, folder=in_present(folder))
    return replace(opened.config, data=data), opened.network.class_names


def _say(written: Export, about: About, config: Any, options: ExportOptions) -> None:
    """Prints what was written and what is known of it."""
    height, width = written.canvas
    size = sum(one.stat().st_size for one in files_of(written.path))
    print(f"written    {written.path}: {about.network} in {about.precision}, {size / 1e6:.1f} MB")
    print(f"takes      uint8 [B, 3, {height}, {width}]")
    source = "generated pictures" if options.images is None else f"of {options.images}"
    print(f"compared   with PyTorch in fp32 on {sum(BATCHES)} {source}: {written.difference}")
    if written.speed is not None:
        print(f"speed      {written.speed:.2f} times PyTorch's in fp32, one picture at a time, on this machine")
    if written.worth is not None:
        before, after = written.worth
        change = (
            f"{config.best_metric} {before:.4f} by PyTorch in fp32, {after:.4f} by the file ({after - before:+.4f})"
        )
        print(f"worth      {change}, validation split of {options.split}")
    elif about.precision != "fp32":
        print(f"worth      not known: --split FOLDER says the change in {config.best_metric}")


def times_as_fast(answer: Run, network: Network, batch: tuple[np.ndarray, ...]) -> float:
    """Of a file, beside PyTorch as predict has it: the ratio of the medians of a few rounds in turn.

    Args:
        answer: of the file.
        network: folded, in fp32; left in NHWC memory layout and packed.
        batch: the inputs of the file.
    """
    module = module_of(network).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    module.normalize.memory_format = torch.channels_last
    plain = answer_of(network)
    pack_convolutions(module, lambda: plain(*batch))
    ways, seconds = (answer, plain), ([], [])
    for _ in range(1 + ROUNDS):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way(*batch)
            taken.append(time.perf_counter() - start)
    file, own = (median(taken[1:]) for taken in seconds)  # the first one warms up
    return own / file


def module_of(network: Network) -> ImageClassifier | ImageDetector:
    """uint8 images to logits or detections."""
    return network.image_classifier if isinstance(network, TrainedClassifier) else network.image_detector


def answer_of(network: TrainedClassifier | TrainedDetector) -> Run:
    """What PyTorch says, as an exported file would."""
    return on_arrays(graph_of(network))


def fold(network: Network, dtype: torch.dtype) -> Graph:
    """The graph of a network whose batch norms, from here on, are part of its convolutions."""
    module = module_of(network)
    module.dtype = dtype
    outputs = module.outputs if isinstance(module, ImageDetector) else module
    simplify(module, outputs, torch.device("cpu"), dtype)
    return graph_of(network)


def about_of(opened: OpenedNetwork, canvas: tuple[int, int], options: ExportOptions) -> About:
    """What the file says of itself."""
    network = opened.network
    packages = ("torch", "torchvision", *FORMATS[options.format].packages)
    return About(
        task=CLASSIFICATION if isinstance(network, TrainedClassifier) else DETECTION,
        network=named(opened.config),
        class_names=network.class_names,
        category_ids=None if isinstance(network, TrainedClassifier) else network.category_ids,
        input_size=canvas,
        score_threshold=opened.score_threshold,
        precision=options.precision,
        config=to_record(opened.config, None if options.experiment is None else Experiment(Path(options.experiment))),
        versions={name: package_version(name) or "unknown" for name in packages},
    )


def limits_of(opened: OpenedNetwork) -> Limits | None:
    """The edges of a detector's decisions; None: a classifier has none."""
    if isinstance(opened.network, TrainedClassifier):
        return None
    chosen = opened.config.detector
    is_hard = getattr(chosen, "soft_nms", None) is None
    return Limits(score_threshold=chosen.score_threshold, iou_threshold=chosen.iou_threshold if is_hard else None)


if __name__ == "__main__":
    main()
