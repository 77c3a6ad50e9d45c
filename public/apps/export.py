"""Writes a trained network as a file for other runtimes, and runs it at once beside PyTorch.

    python -m public.apps.export --weights best.pth --format onnx
    python -m public.apps.export --weights best.pth --format openvino --precision bf16 --images photos/
    python -m public.apps.export --weights best.pth --precision int8 --calibrate photos/
    python -m public.apps.export --weights torchvision:mobilenet_v2 --network mobilenet_v2 --format torch

The file takes uint8 pictures [B, 3, H, W] of one size in batches of any size, and answers as we do: probabilities, or
boxes, scores and labels after suppression, see `public.apps.export_graph`. It holds its classes, threshold, config and
versions, and is a --weights for public.apps.predict and evaluate. One that does not say what PyTorch says is not
written.

Exit codes: 0, 1 where the file was refused, 2 where nothing could be done.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
import tyro

from public.apps.export_check import BOX_TOLERANCE, SCORE_TOLERANCE, Difference, Limits, difference
from public.apps.export_graph import Graph, graph_of, write_onnx, write_openvino, write_torch
from public.apps.export_int8 import MOST_PICTURES, quantize
from public.apps.exported import CLASSIFICATION, DETECTION, INSTALL, About, Run, is_exported, on_arrays, read_exported
from public.apps.predict_model import NetworkChoice, OpenedNetwork, open_network, read_command, speed_up
from public.apps.predict_sources import find_images
from public.backbones.trained import TrainedClassifier
from public.config.checks import require, require_side
from public.config.command_line import fail
from public.config.experiment import Experiment
from public.config.options import DetectorOptions, NetworkOptions
from public.config.record import to_record
from public.datasets.decoding import read_pixels
from public.detectors.detector import ImageDetector
from public.detectors.trained import TrainedDetector
from public.runtime.device import PRECISION_DTYPES
from public.runtime.launch import raised_by_us
from public.test_scripts.output import make_folder, writing_to
from public.test_scripts.request import named

PROGRAM = "python -m public.apps.export"
BATCHES = (2, 1, 5)
"""How many pictures the file is tried with at once."""


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


Network = TrainedClassifier | TrainedDetector


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
    where each picture has its own canvas, the smallest that all of `images` fit on."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """In which the file computes; bf16: openvino and torch; int8: onnx."""
    calibrate: str | None = None
    """For int8: pictures such as it will see, a folder or a glob, of which at most 300 are taken."""
    images: str | None = None
    """Pictures to try the file with: a file, a folder or a glob, of which the first eight are taken; None: generated
    ones."""

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


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line, writes and tries; None takes the program's arguments."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        kinds = (ExportOptions, ClassifierOptions, DetectorWeightsOptions)
        run(read_command(kinds, args, PROGRAM, weights=tyro.MISSING))
    except Refused as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))


def run(options: ExportOptions) -> Export:
    """Writes the file, runs it beside PyTorch and says how they compare.

    Raises:
        FileNotFoundError: there are no weights or no pictures.
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
    canvas = _canvas(opened.network, shown, options.canvas)
    batches = batches_of(opened.network, shown, canvas)
    answer = answer_of(opened.network)
    expected = [answer(*batch) for batch in batches]
    about, writer = about_of(opened, canvas, options), FORMATS[options.format]
    dtype = PRECISION_DTYPES[options.precision] if writer.casts else torch.float32
    with writing_to(options.path.parent), tempfile.TemporaryDirectory(dir=options.path.parent) as folder:
        path = Path(folder) / options.path.name
        writer.write(fold(opened.network, dtype), canvas, path, about)
        if options.calibrate is not None:
            quantize(path, calibration(opened.network, find_images(options.calibrate), canvas))
        _, answer = read_exported(path, writer.engine)
        limits = limits_of(opened)
        found = [difference(ours, answer(*batch), limits) for ours, batch in zip(expected, batches, strict=True)]
        written = Export(options.path, canvas, Difference.of(found))
        if options.precision == "fp32" and not written.difference.is_small:
            raise Refused(
                f"{options.path} is not written: beside PyTorch it differs in {written.difference}; allowed are "
                f"{SCORE_TOLERANCE:g} and {BOX_TOLERANCE:g} px."
            )
        size = sum(one.stat().st_size for one in path.parent.iterdir())
        for one in path.parent.iterdir():
            one.replace(options.path.parent / one.name)
    print(f"written    {written.path}: {about.network} in {about.precision}, {size / 1e6:.1f} MB")
    print(f"takes      uint8 [B, 3, {canvas[0]}, {canvas[1]}]")
    source = "generated pictures" if options.images is None else f"of {options.images}"
    print(f"compared   with PyTorch in fp32 on {sum(BATCHES)} {source}: {written.difference}")
    return written


def calibration(
    network: Network, pictures: Sequence[Path], canvas: tuple[int, int]
) -> Iterator[tuple[np.ndarray, ...]]:
    """The inputs of a file for pictures, evenly chosen where they are too many, one at a time."""
    step = -(-len(pictures) // MOST_PICTURES)
    for path in pictures[::step]:
        prepared: Any = network.prepare(read_pixels(path))
        if isinstance(network, TrainedClassifier):
            yield (prepared[None].numpy(),)
            continue
        height, width = prepared.sample.image.shape[:2]
        require(
            height <= canvas[0] and width <= canvas[1],
            f"calibrate: {path} needs a canvas of {height} {width}, and the file's is {canvas[0]} {canvas[1]}.",
        )
        network.canvas = canvas
        images, sizes = network.gather([prepared])
        yield images.numpy(), sizes.content.numpy()


def answer_of(network: TrainedClassifier | TrainedDetector) -> Run:
    """What PyTorch says, as an exported file would."""
    return on_arrays(graph_of(network))


def fold(network: Network, dtype: torch.dtype) -> Graph:
    """The graph of a network whose batch norms, from here on, are part of its convolutions."""
    module = network.image_classifier if isinstance(network, TrainedClassifier) else network.image_detector
    module.dtype = dtype
    outputs = module.outputs if isinstance(module, ImageDetector) else module
    speed_up(module, outputs, torch.device("cpu"), dtype)
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
        versions={name: version(name) for name in packages},
    )


def limits_of(opened: OpenedNetwork) -> Limits | None:
    """The edges of a detector's decisions; None: a classifier has none."""
    if isinstance(opened.network, TrainedClassifier):
        return None
    chosen = opened.config.detector
    is_hard = getattr(chosen, "soft_nms", None) is None
    return Limits(score_threshold=chosen.score_threshold, iou_threshold=chosen.iou_threshold if is_hard else None)


# ---- what it is tried with -------------------------------------------------------------------------------------------


def _canvas(network: Network, shown: Sequence[np.ndarray], asked: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of what the file takes.

    Raises:
        ValueError: nothing says it, or a picture does not fit.
    """
    # A wide and a tall one tell whether every picture has the same canvas.
    sizes = {
        _canvas_of(network, pixels)
        for pixels in (shown or [generated_picture(0, 120, 160), generated_picture(1, 160, 120)])
    }
    if isinstance(network, TrainedClassifier):
        require(asked is None, f"canvas={asked}: a classifier's size is what its transforms of evaluation make.")
        require(
            len(sizes) == 1, f"the transforms of evaluation make pictures of several sizes ({sizes}); a file has one."
        )
        return sizes.pop()
    require(
        bool(shown) or asked is not None or len(sizes) == 1,
        "canvas: this detector's pictures come on canvases of many sizes, and a file has one: give --canvas HEIGHT "
        "WIDTH, or --images with pictures that are to fit on it.",
    )
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    if asked is None:
        return height, width
    multiple = network.canvas_multiple
    require(not any(x % multiple for x in asked), f"canvas={asked} must be multiples of {multiple} pixels.")
    fits = not shown or (height <= asked[0] and width <= asked[1])
    require(fits, f"canvas={asked}: the pictures of images need one of {height} {width}.")
    return asked


def _canvas_of(network: Network, pixels: np.ndarray) -> tuple[int, int]:
    if isinstance(network, TrainedDetector):
        return network.canvas_size(network.prepare(pixels))
    _, height, width = network.prepare(pixels).shape
    return height, width


def batches_of(network: Network, shown: Sequence[np.ndarray], canvas: tuple[int, int]) -> list[tuple[np.ndarray, ...]]:
    """The inputs of a file, of as many pictures at once as `BATCHES` says, the shown ones in turn."""
    count = sum(BATCHES)
    shown = [shown[number % len(shown)] for number in range(count)] if shown else []
    if isinstance(network, TrainedClassifier):
        prepared = [
            network.prepare(pixels) for pixels in (shown or [generated_picture(n, *canvas) for n in range(count)])
        ]
        arrays = (torch.stack(prepared).numpy(),)
    elif shown:
        network.canvas = canvas
        images, sizes = network.gather([network.prepare(pixels) for pixels in shown])
        arrays = images.numpy(), sizes.content.numpy()
    else:
        images = np.stack([generated_picture(number, *canvas) for number in range(count)]).transpose(0, 3, 1, 2)
        filled = np.random.default_rng(0).uniform(0.6, 1, (count, 2))
        arrays = images, (filled * canvas).astype(np.int64)
    parts = [np.split(array, np.cumsum(BATCHES)[:-1]) for array in arrays]
    return list(zip(*parts, strict=True))


def generated_picture(seed: int, height: int, width: int) -> np.ndarray:
    """A generated picture, uint8 [H, W, 3]: spots of all sizes, so that its pixels make a difference."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (rng.integers(3, 12), rng.integers(3, 12), 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


if __name__ == "__main__":
    main()
