"""From weights to a predictor, and what computes: PyTorch, or an exported file by its engine.

predict = load("best.pth")
(result,) = predict("street.jpg")        # a Classified or a Detected
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from public.apps import export
from public.apps.engine_choice import Ready, is_noted, notes_of, ready_files
from public.apps.exported import (
    DETECTION,
    FILE_FORMATS,
    INSTALL,
    ExportedClassifier,
    ExportedDetector,
    FileFormat,
    engine_of,
    is_exported,
    open_exported,
    read_exported,
)
from public.apps.predict_model import Predictor, PredictorOptions, open_network, predictor_of, speed_up
from public.backbones.trained import TrainedClassifier
from public.config.checks import require, require_file
from public.config.names import nearest_names
from public.runtime.device import choose_device, choose_precision


class Engine(NamedTuple):
    """A way to compute."""

    takes: Callable[[str], bool]
    """Whether it can use such weights, by their name alone."""
    missing: Callable[[], str | None]
    """The package that would have to be installed; None: nothing is missing."""
    load: Callable[[PredictorOptions], Predictor]


def load(weights: str | Path, **settings: Any) -> Predictor:
    """A predictor of a checkpoint, or of any weights and the network that they fit.

    Args:
        weights: see `PredictorOptions`.
        settings: the other fields of `PredictorOptions`.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they are damaged, do not fit, there is no such setting, or one contradicts them.
    """
    known = [name for name in PredictorOptions.__dataclass_fields__ if name != "weights"]
    for name in settings:
        require(name in known, f"load() has no setting {name!r}; {nearest_names(name, known)}.")
    options = PredictorOptions(weights=str(weights), **settings)
    name = options.engine
    if name == "auto":
        ready = fastest(options)
        if ready is not None:
            return _load_beside(ready.engine, options, ready.path)
        name = engine_of(options.weights) if is_exported(options.weights) else "torch"
    require(name in ENGINES, f"engine={name!r}: {nearest_names(name, ['auto', *ENGINES])}.")
    missing = ENGINES[name].missing()
    asked = f"weights={options.weights!r}" if options.engine == "auto" else f"engine={name!r}"
    require(missing is None, f"{asked} needs the package {missing}, which is not installed: {INSTALL}.")
    require(ENGINES[name].takes(options.weights), f"engine={name!r} does not take weights={options.weights!r}.")
    return ENGINES[name].load(options)


def fastest(options: PredictorOptions) -> Ready | None:
    """The file beside a checkpoint that says the same and was faster than PyTorch; None: there is none.

    Nothing is converted here: that takes longer than PyTorch takes for some dozens of pictures.
    """
    # With a network they are weights alone, or PyTorch says what is wrong with that.
    if is_exported(options.weights) or options.network is not None:
        return None
    device = choose_device(options.device)
    if device.type != "cpu" or choose_precision(options.precision, device) != torch.float32:
        return None
    return next((ready for ready in ready_files(Path(options.weights)) if ready.speed > 1), None)


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def _load_torch(options: PredictorOptions) -> Predictor:
    """PyTorch, eager, on the CPU or a GPU."""
    device = choose_device(options.device)
    dtype = choose_precision(options.precision, device)
    # Fastest everywhere but in fp32 on a GPU; it also decides which kernels compute the last digits.
    last = device.type == "cpu" or dtype != torch.float32
    network, _, threshold = open_network(options, device, options.precision, channels_last=last)
    if isinstance(network, TrainedClassifier):
        speed_up(network.image_classifier, network.image_classifier, device, dtype)
    else:
        speed_up(network.image_detector, network.image_detector.outputs, device, dtype)
    return predictor_of(network, options, threshold)


# ---- exported files --------------------------------------------------------------------------------------------------


class OnCanvas(nn.Module):
    """An exported file for images of its own height and width, and PyTorch for all others.

    Args:
        file: for images of that size, which fill it as they fill PyTorch's canvas: it says the same.
        size: height and width.
        other: in its place for the others.
    """

    def __init__(self, file: nn.Module, size: tuple[int, int], other: nn.Module) -> None:
        super().__init__()
        self.file, self.size, self.other = file, size, other

    def forward(self, images: Tensor, *sizes: Any) -> Any:
        """uint8 [B, 3, H, W] -> what either module gives."""
        return (self.file if images.shape[2:] == self.size else self.other)(images, *sizes)


def _load_file(engine: str, options: PredictorOptions) -> Predictor:
    """What public.apps.export wrote; or a checkpoint, by what it wrote of that."""
    require(options.device != "cuda", f"device='cuda': {options.weights} is computed on the CPU by {engine}.")
    if not is_exported(options.weights):
        return _load_beside(engine, options)
    others = {name: getattr(options, name) for name in ("network", "classes", "input_size")}
    stated = [f"{name}={value!r}" for name, value in others.items() if value is not None]
    require(not stated, f"{options.weights} knows its network, classes and size: leave out {', '.join(stated)}.")
    network, threshold = open_exported(options.weights, engine, options.precision, options.experiment)
    predictor = predictor_of(network, options, threshold)
    predictor.computed_by = engine
    return predictor


def _load_beside(engine: str, options: PredictorOptions, path: Path | None = None) -> Predictor:
    """A checkpoint, whose pictures are computed by a file beside it; None: it is looked for, and else written."""
    weights = Path(options.weights)
    precision = choose_precision(options.precision, torch.device("cpu"))
    require(precision == torch.float32, f"precision={options.precision!r} with engine={engine!r}: export in it.")
    require(options.network is None, f"engine={engine!r} takes checkpoints of ours and what public.apps.export wrote.")
    require_file(options.weights, f"there is no checkpoint {options.weights!r}.")
    if path is None:
        ready = [one.path for one in ready_files(weights) if one.engine == engine]
        path = ready[0] if ready else _exported(engine, weights, options.experiment)
    predictor = _load_torch(replace(options, device="cpu"))  # where the file computes
    network: Any = predictor.network  # pyright: ignore[reportAttributeAccessIssue]
    about, answer = read_exported(path, engine)
    if about.task == DETECTION:
        file = ExportedDetector(path, answer, about.input_size)
        network.image_detector = OnCanvas(file, about.input_size, network.image_detector)
    else:
        file = ExportedClassifier(path, answer, about.input_size)
        network.image_classifier = OnCanvas(file, about.input_size, network.image_classifier)
    height, width = about.input_size
    predictor.computed_by = f"{engine} ({path.name}) on canvases of {height}x{width}, else torch"
    return predictor


def _exported(engine: str, weights: Path, experiment: str | None) -> Path:
    """Writes the file of a checkpoint.

    Raises:
        ValueError: there is such a file of something else, or it cannot be written.
    """
    form = next(name for name, writer in export.FORMATS.items() if writer.engine == engine)
    options = export.ExportOptions(weights=str(weights), format=form, experiment=experiment)
    require(
        not options.path.exists() or is_noted(weights, options.path),
        f"engine={engine!r}: {options.path} is there, and {notes_of(weights).name} does not say that it is "
        f"{weights.name} in fp32: remove it, or give it as --weights.",
    )
    try:
        return export.run(options).path
    except ValueError as error:
        command = f"python -m public.apps.export --weights {weights} --format {form}"
        raise ValueError(f"engine={engine!r} exports the checkpoint first ({command}): {error}") from error


def _engine(engine: str, file_format: FileFormat) -> Engine:
    """The engine of a format of exported files."""
    return Engine(
        takes=lambda weights: weights.endswith(file_format.takes) or not is_exported(weights),
        missing=lambda: None if find_spec(file_format.package) else file_format.package,
        load=partial(_load_file, engine),
    )


ENGINES: dict[str, Engine] = {
    "torch": Engine(takes=lambda weights: not is_exported(weights), missing=lambda: None, load=_load_torch),
    **{name: _engine(name, file_format) for name, file_format in FILE_FORMATS.items()},
}
"""By the name that --engine has for it."""
