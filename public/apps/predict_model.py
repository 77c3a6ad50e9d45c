"""Pictures in, one typed result each out, the same numbers whichever way it is asked; and which network that is.

What computes, and `load`, is in `predict_engines.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import tyro
from PIL import Image
from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

from public.apps.predict_results import Classified, Detected, Result
from public.apps.predict_sources import require_picture
from public.backbones.catalog import check_backbone_name, options_of
from public.backbones.trained import TrainedClassifier, assemble_classifier, classifier_of
from public.config.checks import require, require_at_least, require_side
from public.config.command_line import given
from public.config.detection import DetectionConfig
from public.config.experiment import Experiment
from public.config.names import first_line
from public.config.options import DetectorOptions, NetworkOptions
from public.datasets.decoding import pixels_of_pil, read_pixels
from public.detectors.catalog import DETECTOR_KIND, build_from_options
from public.detectors.trained import TrainedDetector, assemble_detector, checked_pixels, detector_of
from public.evaluation.report import USUAL_THRESHOLD
from public.layers.folding import fold_batch_norms, keep_weights_in
from public.layers.packing import pack_convolutions
from public.runtime.checkpoint import load_checkpoint
from public.runtime.device import check_device, one_thread_each
from public.test_scripts import classification, detection
from public.test_scripts.request import open_ours
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_imagenet import IMAGENET
from public.weights.trained import Trained

GPU_BATCH = 8
"""Pictures that go through the network together where nothing else is said."""
USUAL_TOP_K = 5
TASK_OF = {"score_threshold": "detection", "top_k": "classification"}
"""Of the settings that one task alone has."""
Picture = str | Path | Image.Image | np.ndarray | torch.Tensor
"""A file, a PIL image, uint8 [H, W, 3] red green blue, or uint8 [3, H, W]."""


@dataclass(frozen=True, kw_only=True)
class NetworkChoice:
    """Which network."""

    weights: str
    """A checkpoint of ours, which knows all of the rest, or what public.apps.export made of one; or, with network, a
    file of weights alone, torchvision:<model>[.<weights>] or timm:<model>."""
    network: str | None = None
    """Of weights that do not know it: a name from public.backbones.catalog (a classifier) or public.detectors.catalog
    (a detector)."""
    network_options: Annotated[NetworkOptions | None, tyro.conf.Suppress] = None
    """How such a classifier differs from what its family gives; None: not at all."""
    detector: Annotated[DetectorOptions | None, tyro.conf.Suppress] = None
    """The settings of such a detector; None: its defaults."""
    classes: tuple[str, ...] | None = None
    """Of such weights: the names of the classes, or a file with one a line, or just their number; None: ImageNet's
    1000 or COCO's 80."""
    input_size: int | None = None
    """Of such weights: height and width of what the network sees, pixels; None: 224, for detectors 667."""
    experiment: str | None = None
    """The folder of the experiment whose own transforms a checkpoint uses."""

    def __post_init__(self) -> None:
        if self.input_size is not None:
            require_side("input_size", self.input_size)
        if self.experiment is not None:
            require(Path(self.experiment).is_dir(), f"experiment={self.experiment!r}: there is no such folder.")


@dataclass(frozen=True, kw_only=True)
class PredictorOptions(NetworkChoice):
    """Which network, and how it computes: what `load` takes."""

    engine: str = "auto"
    """What computes: torch, onnxruntime, openvino or torch.export, of which all but torch export a checkpoint first
    where that is not done yet. auto: of a checkpoint the fastest that is ready: torch, or a file in fp32 that
    public.apps.export wrote beside it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """auto: what training takes."""
    batch_size: int | None = None
    """Pictures that go through the network together on a GPU, None: 8. On a CPU each goes alone: the last digits of a
    result then depend on nothing else. Several of a classifier go at the same time, each by one thread; with 1 one
    after the other, by all."""
    score_threshold: float | None = None
    """0..1: weaker detections are skipped; None: the threshold that the checkpoint states, else 0.3."""
    top_k: int | None = None
    """How many of the likeliest classes a classifier's result has, at most all; None: 5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_device(self.device)  # of an exported file nothing else asks
        require_at_least("batch_size", self.batch_size, 1)
        require_at_least("top_k", self.top_k, 1)
        require(
            self.score_threshold is None or 0 <= self.score_threshold <= 1,
            f"score_threshold={self.score_threshold} must lie in 0..1.",
        )


class Prepared(NamedTuple):
    """A picture as the network takes it."""

    source: str
    size: tuple[int, int]
    """Height and width of the picture."""
    sample: Any
    """What the network's own `prepare` gave."""
    canvas: tuple[int, int]
    """Height and width of what the network sees: those of one canvas go through it together."""


class Predictor(ABC):
    """Pictures in, one result each out.

    A picture's numbers depend on the picture, the network and the device alone: not on what else is asked at the same
    time, nor on how it is handed over. On a CPU each goes through the network by itself; on a GPU, where that would
    be slow, batches are always filled up to `batch_size`, so that the same kernels compute them. Where several go
    through a network at the same time, each by one thread, a lone one is computed by all threads: on the processors
    that were tried to the same bits.
    """

    task: ClassVar[str]
    """What outputs are asked for by."""
    computed_by = "torch"
    """The engine, in words."""
    goes_by_threads: ClassVar[bool] = False
    """Whether that is worth it on a CPU, see `by_threads`."""

    def __init__(self, class_names: list[str], device: torch.device, batch_size: int | None) -> None:
        self.class_names, self.device = class_names, device
        self.batch_size = 1 if device.type == "cpu" else batch_size or GPU_BATCH
        self.by_threads = self.goes_by_threads and device.type == "cpu" and batch_size != 1
        """Whether several pictures are computed at the same time by PyTorch, each by a thread of its own."""

    @property
    def at_once(self) -> int:
        """Pictures that are computed at the same time; other engines than torch have threads of their own."""
        return torch.get_num_threads() if self.by_threads and self.computed_by == "torch" else self.batch_size

    def __call__(self, pictures: Picture | Iterable[Picture]) -> list[Result]:
        """Predicts.

        Args:
            pictures: one or several, of any sizes; a tensor may also hold a batch, uint8 [B, 3, H, W].

        Returns:
            One result each, in their order.

        Raises:
            OSError: a file is missing, or no image; the message names it.
            ValueError: a picture is of another kind, or a source that only the command line takes.
        """
        if isinstance(pictures, torch.Tensor) and pictures.ndim == 4:
            pictures = list(pictures)
        several: list[Any] = [pictures]
        if isinstance(pictures, Iterable) and not isinstance(pictures, Picture | bytes):
            several = list(pictures)
        return self.predict([self.prepare(pixels_of(one), _name(one, n)) for n, one in enumerate(several)])

    def prepare(self, pixels: np.ndarray, source: str) -> Prepared:
        """A picture uint8 [H, W, 3] as the network takes it; any thread may do this."""
        sample, canvas = self._prepare(pixels)
        return Prepared(source, (pixels.shape[0], pixels.shape[1]), sample, canvas)

    def predict(self, prepared: Sequence[Prepared]) -> list[Result]:
        """One result each, in their order; those of one canvas are computed together, see `batch_size`."""
        if self.batch_size < self.at_once:
            return one_thread_each(lambda one: self._in_batches([one])[0], prepared)
        return self._in_batches(prepared)

    def _in_batches(self, prepared: Sequence[Prepared]) -> list[Result]:
        results: dict[int, Result] = {}
        by_canvas: dict[tuple[int, int], list[int]] = {}
        for number, one in enumerate(prepared):
            by_canvas.setdefault(one.canvas, []).append(number)
        for numbers in by_canvas.values():
            for begin in range(0, len(numbers), self.batch_size):
                chosen = numbers[begin : begin + self.batch_size]
                filled = chosen + chosen[:1] * (self.batch_size - len(chosen))
                said = self._run([prepared[number].sample for number in filled])
                results |= {n: self._result(one, prepared[n]) for n, one in zip(chosen, said, strict=False)}
        return [results[number] for number in range(len(prepared))]

    @abstractmethod
    def _prepare(self, pixels: np.ndarray) -> tuple[Any, tuple[int, int]]:
        """The sample and its canvas."""

    @abstractmethod
    def _run(self, samples: list[Any]) -> Iterable[Any]:
        """What the network says of samples of one canvas."""

    @abstractmethod
    def _result(self, said: Any, prepared: Prepared) -> Result:
        """What it says of one of them."""


class ClassificationPredictor(Predictor):
    """A trained classifier. Its pictures are small: several take little memory, and give all threads enough to do."""

    task = "classification"
    goes_by_threads = True

    def __init__(self, network: TrainedClassifier, *, top_k: int, batch_size: int | None) -> None:
        super().__init__(network.class_names, network.device, batch_size)
        self.network, self.top_k = network, min(top_k, len(network.class_names))

    def _prepare(self, pixels: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        sample = self.network.prepare(pixels)
        return sample, (sample.shape[1], sample.shape[2])

    def _run(self, samples: list[torch.Tensor]) -> Iterable[np.ndarray]:
        return self.network.classify(samples)

    def _result(self, said: np.ndarray, prepared: Prepared) -> Classified:
        labels = np.argsort(-said, kind="stable")[: self.top_k]
        names = [self.class_names[label] for label in labels.tolist()]
        (height, width), scores = prepared.size, said[labels]
        return Classified(
            source=prepared.source, height=height, width=width, labels=labels, scores=scores, names=names,
            probabilities=said,
        )  # fmt: skip


class DetectionPredictor(Predictor):
    """A trained detector."""

    task = "detection"

    def __init__(self, network: TrainedDetector, *, score_threshold: float, batch_size: int | None) -> None:
        super().__init__(network.class_names, network.device, batch_size)
        self.network, self.score_threshold = network, score_threshold

    def _prepare(self, pixels: np.ndarray) -> tuple[Any, tuple[int, int]]:
        sample = self.network.prepare(pixels)
        return sample, self.network.canvas_size(sample)

    def _run(self, samples: list[Any]) -> Iterable[Any]:
        return self.network.detect(samples, self.score_threshold)

    def _result(self, said: Any, prepared: Prepared) -> Detected:
        (height, width), (boxes, scores, labels, names) = prepared.size, said
        return Detected(
            source=prepared.source, height=height, width=width, labels=labels, scores=scores, names=names, boxes=boxes
        )


def pixels_of(picture: Picture) -> np.ndarray:
    """uint8 [H, W, 3] of a picture of any kind; raises as a `Predictor` does."""
    require(
        isinstance(picture, Picture),
        f"a picture was given as {type(picture).__name__}; expected is a path, a PIL image, an array uint8 [height, "
        "width, 3] or a tensor uint8 [3, height, width].",
    )
    if isinstance(picture, Image.Image):
        picture = _pixels_of_pil(picture)
    if isinstance(picture, torch.Tensor):
        kind = f"{str(picture.dtype).removeprefix('torch.')} {list(picture.shape)}"
        is_picture = picture.dtype == torch.uint8 and picture.ndim == 3 and picture.shape[0] == 3
        require(is_picture, f"a picture was given as a tensor {kind}; expected is uint8 [3, height, width].")
        picture = picture.permute(1, 2, 0).cpu().numpy()
    if isinstance(picture, np.ndarray):
        return checked_pixels(picture)
    require_picture(picture)
    return read_pixels(Path(picture))


def _pixels_of_pil(picture: Image.Image) -> np.ndarray:
    try:
        return pixels_of_pil(picture)
    except OSError as error:
        raise OSError(f"a picture was given as a PIL image that cannot be read: {first_line(error)}.") from error


def _name(picture: Picture, number: int) -> str:
    return str(picture) if isinstance(picture, str | Path) else f"picture {number}"


# ---- from weights ----------------------------------------------------------------------------------------------------


def read_command(kinds: tuple[Any, Any, Any], args: Sequence[str], program: str, **must: Any) -> Any:
    """What a command line asks for, with the options of the network that it names.

    Args:
        kinds: subclasses of `NetworkChoice`: for weights that know their network, for a classifier, which has
            `network_options`, and for a detector, which has `detector`.
        args: the command line.
        program: its name.
        must: the fields without a default.

    Raises:
        ValueError: there is no such network, or an option's own check.
    """
    plain, classifier, detector = kinds
    name = given("network", args)
    if name is None:
        kind, default = plain, plain(**must)
    elif name in DETECTOR_KIND.names:
        kind, default = detector, detector(**must, detector=DETECTOR_KIND.type_of(name)())
    else:
        check_backbone_name(name)
        kind, default = classifier, classifier(**must, network_options=options_of(name)())
    return tyro.cli(kind, args=args, default=default, prog=program, description=kind.__doc__)


def predictor_of(
    network: TrainedClassifier | TrainedDetector, options: PredictorOptions, stated: float | None
) -> Predictor:
    """The predictor of a network, where its weights state a threshold with that.

    Raises:
        ValueError: a setting is for the other task.
    """
    if isinstance(network, TrainedClassifier):
        check_settings(vars(options), [ClassificationPredictor.task])
        return ClassificationPredictor(network, top_k=options.top_k or USUAL_TOP_K, batch_size=options.batch_size)
    check_settings(vars(options), [DetectionPredictor.task])
    threshold = next(one for one in (options.score_threshold, stated, USUAL_THRESHOLD) if one is not None)
    return DetectionPredictor(network, score_threshold=threshold, batch_size=options.batch_size)


def check_settings(settings: Mapping[str, Any], tasks: Collection[str]) -> None:
    """Refuses what would have no effect on results of any of these tasks."""
    for name, task in TASK_OF.items():
        value, theirs = settings.get(name), " and ".join(tasks)
        require(value is None or task in tasks, f"{name}={value} is for {task}; the weights are for {theirs}.")


class OpenedNetwork(NamedTuple):
    """A network with its weights, as its config has it."""

    network: TrainedClassifier | TrainedDetector
    config: Any
    """A ClassificationConfig or DetectionConfig."""
    score_threshold: float | None
    """Detection: what the checkpoint states."""


def open_network(choice: NetworkChoice, device: torch.device, precision: str, *, channels_last: bool) -> OpenedNetwork:
    """The network of a checkpoint, or the one that is named with weights of any kind.

    Args:
        choice: which.
        device: where it goes.
        precision: see `PredictorOptions`.
        channels_last: NHWC memory layout.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they are damaged, do not fit, or a setting contradicts them.
    """
    trained = _opened(choice)
    if trained is None:
        return _of_weights(choice, device, precision, channels_last)
    trained = trained._replace(config=replace(trained.config, channels_last=channels_last))
    of_trained = detector_of if isinstance(trained.config, DetectionConfig) else classifier_of
    network = of_trained(trained, device=device.type, precision=precision)
    return OpenedNetwork(network, trained.config, trained.score_threshold)


def _opened(options: NetworkChoice) -> Trained | None:
    """The checkpoint; None for weights of another kind, whose network is given."""
    own = {"network": options.network, "classes": options.classes, "input_size": options.input_size}
    stated = [f"{name}={value!r}" for name, value in own.items() if value is not None]
    trained = open_ours(options.weights, None if options.experiment is None else Experiment(Path(options.experiment)))
    if trained is not None:
        known = f"{trained.path} is a checkpoint of ours, which knows its network, classes and size"
        require(not stated, f"{known}: leave out {', '.join(stated)}.")
        return trained
    if options.network is None:
        hint = "Weights that do not know their network need its name beside them: --network NAME."
        try:
            load_checkpoint(Path(options.weights))
        except (ValueError, FileNotFoundError) as error:  # says what is wrong with it
            raise ValueError(f"{error} {hint}") from error
    return None


def _of_weights(options: NetworkChoice, device: torch.device, precision: str, channels_last: bool) -> OpenedNetwork:
    """The network that is named, by the protocol of the test scripts, with weights of any kind."""
    is_detector = options.network in DETECTOR_KIND.names
    of_network = partial(detection.of_network, data=COCO)
    if not is_detector:
        of_network = partial(classification.of_network, data=IMAGENET)
    config: Any = of_network(options.network)
    data = config.data if options.input_size is None else replace(config.data, input_size=options.input_size)
    config = replace(config, data=data, channels_last=channels_last)
    names, ids = _classes(options.classes, is_detector)
    where = {"device": device, "precision": precision}
    if not is_detector:
        config = replace(config, network_options=options.network_options or config.network_options)
        return OpenedNetwork(assemble_classifier(config, options.weights, names, **where), config, None)
    config = replace(config, detector=options.detector or config.detector)
    detector = build_from_options(len(names), config.detector)
    return OpenedNetwork(assemble_detector(detector, config, options.weights, names, ids, **where), config, None)


def _classes(given: tuple[str, ...] | None, is_detector: bool) -> tuple[list[str], list[int] | None]:
    """The names of the classes and, of COCO's, the numbers that its annotations have for them.

    Raises:
        ValueError: no names, or one twice.
    """
    if given is None and is_detector:
        named = enumerate(RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
        coco = {name: number for number, name in named if name not in ("__background__", "N/A")}
        return list(coco), list(coco.values())
    if given is None:
        return list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"]), None
    names = list(given)
    if len(names) == 1 and names[0].isdecimal():
        names = [str(number) for number in range(int(names[0]))]
    elif len(names) == 1 and Path(names[0]).is_file():
        lines = Path(names[0]).read_text(encoding="utf-8").splitlines()
        names = [line.strip() for line in lines if line.strip()]
    require(len(names) > 0, f"classes={' '.join(given)}: there is no name of a class.")
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"classes={' '.join(given)}: {', '.join(twice)} stands there twice.")
    return names, None


def speed_up(module: nn.Module, run: Callable[[torch.Tensor], Any], device: torch.device, dtype: torch.dtype) -> None:
    """Folds batch norms, casts once what autocast would cast for every batch, and on a CPU packs convolutions.

    Args:
        module: in evaluation mode, on the device.
        run: uint8 images [B, 3, H, W] through the network, with autocast where it has any.
        device: of the module.
        dtype: of autocast.
    """
    simplify(module, run, device, dtype)
    if device.type == "cpu":
        pack_convolutions(module, lambda: run(_example(device)))


def simplify(module: nn.Module, run: Callable[[torch.Tensor], Any], device: torch.device, dtype: torch.dtype) -> None:
    """What of `speed_up` can be exported; as there."""
    fold_batch_norms(module, lambda: run(_example(device)))
    keep_weights_in(module, dtype, lambda: run(_example(device)))


def _example(device: torch.device) -> torch.Tensor:
    return torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device)
