"""Networks that `python -m public.apps.export` wrote, read again: what they are, and how they are run.

A file is `.onnx` (run by onnxruntime), `.xml` with its `.bin` (OpenVINO) or `.pt2` (torch.export). It
holds what `About` says, so that nothing else is needed to use it; what it computes, `public.apps.export_graph` says.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor, nn

from public.backbones.trained import TrainedClassifier
from public.config.calls import build_all
from public.config.checks import require, require_file
from public.config.experiment import Experiment
from public.config.names import first_line
from public.config.record import from_record
from public.datasets.batches import ImageSizes
from public.datasets.detection_loaders import LoadedImage, checked_transforms, on_larger_canvas
from public.detectors.detector import Detections
from public.detectors.postprocess import to_original
from public.detectors.suppression import suppress_op
from public.detectors.trained import TrainedDetector
from public.runtime.accidents import naming_memory

assert suppress_op  # a torch.export file is read where its operators are known

INSTALL = 'pip install -e ".[export]"'
"""What brings the packages of all formats."""
CLASSIFICATION, DETECTION = "classification", "detection"
Run = Callable[..., list[np.ndarray]]
"""Arrays in the order of a file's inputs -> arrays in the order of its outputs."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file says of itself: the metadata of an ONNX file, OpenVINO's rt_info, the extra files of torch.export."""

    task: str
    """classification or detection."""
    network: str
    """Its name; a detector's with its backbone."""
    class_names: list[str]
    """Of the labels."""
    category_ids: list[int] | None
    """Detection: the data set's own number of each class."""
    input_size: tuple[int, int]
    """Height and width of what the network sees, pixels."""
    score_threshold: float | None
    """Detection: what the checkpoint states."""
    precision: str
    """fp32, bf16 or int8."""
    config: dict[str, Any]
    """The record of the config, which says what is done to pictures."""
    versions: dict[str, str]
    """Of what wrote the file."""

    def texts(self) -> dict[str, str]:
        """Each entry as JSON, by its name."""
        return {name: json.dumps(value) for name, value in asdict(self).items()}


def about_of(path: Path, texts: Mapping[str, str]) -> About:
    """What a file says of itself.

    Raises:
        ValueError: it does not: something else wrote it.
    """
    names = [field.name for field in fields(About)]
    missing = [name for name in names if name not in texts]
    require(not missing, f"{path} was not written by public.apps.export: it does not say its {', '.join(missing)}.")
    try:
        entries: dict[str, Any] = {name: json.loads(texts[name]) for name in names}
        entries["input_size"] = tuple(entries["input_size"])
        return About(**entries)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: what it says of itself cannot be read: {first_line(error)}.") from error


# ---- the formats -----------------------------------------------------------------------------------------------------


def _read_onnx(path: Path) -> tuple[Mapping[str, str], Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in (*session.get_inputs(), *session.get_overridable_initializers())]
    metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(one) for one in session.run(None, dict(zip(names, arrays, strict=False)))]

    return metadata, run


def _read_openvino(path: Path) -> tuple[Mapping[str, str], Run]:
    import openvino

    core = openvino.Core()
    with path.open("rb") as file:
        # Of anything else OpenVINO asks its readers of other formats, which print what they think of it.
        require(b"<net" in file.read(1000), "it is no network of OpenVINO's")
    model = core.read_model(path)
    texts = {
        f.name: str(model.get_rt_info([KEY, f.name]).value) for f in fields(About) if model.has_rt_info([KEY, f.name])
    }
    hint = "bf16" if texts.get("precision") == '"bf16"' else "f32"
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(model, "CPU", settings)

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        return [np.array(one) for one in compiled(list(arrays)[: len(compiled.inputs)]).to_tuple()]

    return texts, run


def _read_torch(path: Path) -> tuple[Mapping[str, str], Run]:
    require(is_zipfile(path), "it is no archive, or its end is missing")  # of which torch prints a traceback
    texts = dict.fromkeys((field.name for field in fields(About)), "")
    with warnings.catch_warnings(action="ignore"):  # of torch about its own deprecated parts
        module = torch.export.load(path, extra_files=texts).module()

    return {name: text for name, text in texts.items() if text}, on_arrays(module)


def on_arrays(module: Callable[..., Any]) -> Run:
    """A module of PyTorch as the other engines are asked."""

    @torch.inference_mode()
    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        said = module(*map(torch.from_numpy, arrays))
        return [one.numpy() for one in (said if isinstance(said, tuple) else (said,))]

    return run


KEY = "public"
"""Under which OpenVINO's files have what they say of themselves."""


class FileFormat(NamedTuple):
    """A way to run exported files."""

    takes: tuple[str, ...]
    """Endings of files."""
    package: str
    read: Callable[[Path], tuple[Mapping[str, str], Run]]


FILE_FORMATS = {
    "onnxruntime": FileFormat((".onnx",), "onnxruntime", _read_onnx),
    "openvino": FileFormat((".xml",), "openvino", _read_openvino),
    "torch.export": FileFormat((".pt2",), "torch", _read_torch),
}
"""By the name of the engine."""


def is_exported(weights: str | Path) -> bool:
    """Whether a name is that of an exported file."""
    return str(weights).endswith(tuple({ending for one in FILE_FORMATS.values() for ending in one.takes}))


def engine_of(weights: str | Path) -> str:
    """The engine that runs an exported file, by the ending of its name."""
    return next(name for name, one in FILE_FORMATS.items() if str(weights).endswith(one.takes))


def read_exported(path: Path, engine: str) -> tuple[About, Run]:
    """What a file says of itself, and how it is run.

    Raises:
        FileNotFoundError: there is no such file.
        MemoryError: it does not suffice; also of what runs the file.
        ValueError: it is damaged, or was not written by public.apps.export, or a package is missing.
    """
    package = FILE_FORMATS[engine].package
    require(find_spec(package) is not None, f"{path} needs {package}, which this Python has not: {INSTALL}.")
    require_file(path, f"there is no {path}.")
    try:
        with naming_memory():
            texts, run = FILE_FORMATS[engine].read(path)
    except MemoryError:
        raise
    except Exception as error:  # each package has its own kinds
        reason = _PLACES.sub("", str(error), count=1)
        raise ValueError(f"{path} cannot be read by {engine}: {first_line(ValueError(reason))}.") from error
    return about_of(path, texts), naming_memory()(run)


_PLACES = re.compile(r"(?:(?:Exception from|Check) .*\n)*")
"""Of OpenVINO's source, with which its messages begin."""


# ---- as our networks are ---------------------------------------------------------------------------------------------


class _Classifier(TrainedClassifier):
    """An exported classifier."""

    def __init__(self, path: Path, run: Run, about: About, config: Any) -> None:
        transforms = build_all(config.data.val_transforms, config.data.input_size)
        on_pil = getattr(config.data, "decoder", None) == "pil"
        super().__init__(nn.Identity(), transforms, about.class_names, on_pil=on_pil)  # pyright: ignore[reportArgumentType]
        self._path, self._run, self._size = path, run, about.input_size

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def classify(self, prepared: Sequence[Tensor]) -> np.ndarray:
        for one in prepared:
            _require_size(self._path, tuple(one.shape[1:]), self._size)
        return self._run(torch.stack(list(prepared)).numpy())[0]


class _Detector(TrainedDetector):
    """An exported detector: pictures lie top left on its canvas, whose size is the file's."""

    def __init__(self, path: Path, run: Run, about: About, config: Any) -> None:
        built = build_all(config.data.val_transforms, config.data.input_size)
        transforms = checked_transforms("data.val_transforms", built, random=False)
        network: Any = ExportedDetector(path, run, about.input_size)
        super().__init__(network, transforms, about.class_names, about.category_ids)
        self._path, self.canvas = path, about.input_size

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def prepare(self, pixels: np.ndarray) -> LoadedImage:
        prepared = super().prepare(pixels)
        height, width = prepared.sample.image.shape[:2]
        assert self.canvas is not None
        picture = f"a picture of {pixels.shape[0]}x{pixels.shape[1]} is resized to"
        _require_fitting(self._path, (height, width), self.canvas, picture)
        return prepared


class ExportedDetector(nn.Module):
    """In the place of an `ImageDetector`: the canvas, which is the file's, may be larger than the images.

    Args:
        path: of the file.
        run: runs it.
        canvas: height and width.
    """

    def __init__(self, path: Path, run: Run, canvas: tuple[int, int]) -> None:
        super().__init__()
        self.path, self.run, self.canvas = path, run, canvas

    def forward(self, images: Tensor, sizes: ImageSizes) -> Detections:
        """uint8 [B, 3, H, W] -> detections in pixels of the original images.

        Raises:
            ValueError: the images do not fit on the canvas.
        """
        height, width = images.shape[2:]
        _require_fitting(self.path, (height, width), self.canvas, "a picture needs")
        images = on_larger_canvas(images, self.canvas)
        boxes, scores, labels = map(torch.from_numpy, self.run(images.numpy(), sizes.content.numpy()))
        return Detections(to_original(boxes, sizes), scores, labels.long())


class ExportedClassifier(nn.Module):
    """In the place of an `ImageClassifier`, with the logarithms of the probabilities for logits.

    Args:
        path: of the file.
        run: runs it.
        size: height and width of its images.
    """

    def __init__(self, path: Path, run: Run, size: tuple[int, int]) -> None:
        super().__init__()
        self.path, self.run, self.size = path, run, size

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, C].

        Raises:
            ValueError: the images have another size.
        """
        _require_size(self.path, (images.shape[2], images.shape[3]), self.size)
        probabilities = torch.from_numpy(self.run(images.numpy())[0])
        return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()  # 0 where float32 ends


def open_exported(
    weights: str, engine: str, precision: str, experiment: str | None
) -> tuple[TrainedClassifier | TrainedDetector, float | None]:
    """An exported network, and the threshold that its checkpoint stated.

    Args:
        weights: the file.
        engine: a name of `FILE_FORMATS`.
        precision: that is asked for; a file has its own.
        experiment: the folder whose own transforms it may name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be used.
    """
    path = Path(weights)
    about, run = read_exported(path, engine)
    allowed = ("auto", "fp32", about.precision)
    require(precision in allowed, f"precision={precision!r}: {path} computes in {about.precision}; leave it out.")
    config = from_record(about.config, None if experiment is None else Experiment(Path(experiment)))
    kind = _Classifier if about.task == CLASSIFICATION else _Detector
    return kind(path, run, about, config), about.score_threshold


def _require_fitting(path: Path, needed: tuple[int, int], canvas: tuple[int, int], picture: str) -> None:
    (height, width), (most_high, most_wide) = needed, canvas
    require(
        height <= most_high and width <= most_wide,
        f"{path} takes canvases of {most_high}x{most_wide} pixels, and {picture} {height}x{width}: export with a "
        "larger --canvas.",
    )


def _require_size(path: Path, received: tuple[int, ...], expected: tuple[int, int]) -> None:
    require(
        tuple(received) == tuple(expected),
        f"{path} takes pictures of {expected[0]}x{expected[1]} pixels, and one comes out of the transforms with "
        f"{received[0]}x{received[1]}.",
    )
