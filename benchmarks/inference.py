"""What predict computes with, against a plain torchvision loop in float32: engines and precisions, a row each.

    python -m benchmarks.inference                                              everything; takes an hour on two cores
    python -m benchmarks.inference --networks retinanet --batch-sizes 1 --rows openvino_bf16 --files /tmp/engines

The same weights and photos. The plain loop is what torchvision's own pages show: a batch normalized and given to the
network, on 640 x 640 for detectors, whose last layer is scaled so that some hundred scores an image count. Ours are
asked for one picture at a time, as predict does on a CPU: eager (batch norms folded, NHWC, packed), or a file of
`public.apps.export` and its engine; int8 is onnxruntime's. "boxes" is what the decoding and suppression take of the
whole, which only eager ways can tell apart. "load" reads files and resizes; the whole way of files to results is
`benchmarks.predict_photos`. Each way has a process of its own.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
import torchvision
import tyro
from PIL import Image
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from benchmarks.apart import Apart, Turn, device_here, entered, sides, timed
from benchmarks.compare import Comparison, alternate, benchmark_device, find_data, real_data_folder, report
from benchmarks.retinanet import Options as RetinaNetBenchmark
from benchmarks.retinanet import photos, spread_scores
from public.apps.export import FORMATS, ExportOptions, export, module_of
from public.apps.exported import FILE_FORMATS
from public.apps.predict_model import OpenedNetwork, speed_up
from public.backbones.trained import assemble_classifier
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.datasets.batches import ImageSizes
from public.datasets.decoding import read_pixels
from public.detectors.catalog import build_from_options
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.options import RetinaNetOptions
from public.detectors.trained import assemble_detector
from public.runtime.device import synchronize
from public.runtime.seeding import seed_everything
from public.test_scripts import classification, detection
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_imagenet import IMAGENET

NUM_CLASSES = 80
PEER = "torchvision"
WHOLE = "forward and boxes"
TURN_SECONDS = 0.5
"""That a turn takes at least: the first pictures after another process find other things in the caches."""
LOADED = 64
"""Pictures of a turn of reading."""


class Row(NamedTuple):
    """A way to compute."""

    precision: Any
    """fp32, bf16 or int8."""
    format: str | None = None
    """Of `public.apps.export`; None: eager."""
    engine: str | None = None
    """What runs the file."""


ROWS = {
    "eager_fp32": Row("fp32"),
    "eager_bf16": Row("bf16"),
    "onnxruntime_fp32": Row("fp32", "onnx", "onnxruntime"),
    "openvino_fp32": Row("fp32", "openvino", "openvino"),
    "openvino_bf16": Row("bf16", "openvino", "openvino"),
    "onnxruntime_int8": Row("int8", "onnx", "onnxruntime"),
}
_DETECTOR = {"eager_fp32": 1.2, "onnxruntime_fp32": 1.4, "openvino_fp32": 1.4, "openvino_bf16": 2.8}
_DETECTOR |= {"onnxruntime_int8": 4.0}
_CLASSIFIER = {"openvino_bf16": 2.0}
CLAIMED = {"retinanet": _DETECTOR, "fcos": _DETECTOR, "resnet50": _CLASSIFIER, "mobilenet_v2": _CLASSIFIER}
"""How many times as fast as the plain loop, boxes included; the others are for information. Of two engines the faster
one counts."""
Name = Literal["resnet50", "mobilenet_v2", "retinanet", "fcos"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    networks: tuple[Name, ...] = ("resnet50", "mobilenet_v2", "retinanet", "fcos")
    """Which to measure."""
    rows: tuple[Literal[tuple(ROWS)], ...] = tuple(ROWS)  # pyright: ignore[reportInvalidTypeForm]
    """With what; on a GPU the eager ones alone."""
    batch_sizes: tuple[int, ...] = (1, 8)
    """Pictures at once, a comparison each."""
    rounds: int = 15
    """Counted rounds, in which every row and torchvision take turns."""
    canvas: int = 640
    """Height and width of what detectors see, pixels."""
    files: str | None = None
    """A folder where exported files stay for the next time; None: they are made anew."""


class Way:
    """One way, in a process of its own; each call is a turn, which gives its speed."""

    def __init__(self, turn: Apart[tuple[float, float]], num_images: int) -> None:
        self.turn, self.num_images = turn, num_images
        self.seconds: list[tuple[float, float]] = []
        """Of the whole and of the boxes in each turn."""

    def __call__(self) -> float:
        """Pictures a second."""
        self.seconds.append(self.turn())
        return self.num_images / self.seconds[-1][0]

    def __str__(self) -> str:
        whole, boxes = (1e3 * median(column) for column in zip(*self.seconds, strict=True))
        return f"{whole:.1f} ms" + (f", of which boxes {boxes:.1f} ms" if boxes else "")


class Subject:
    """A network of torchvision and ours with the same new weights."""

    def __init__(self, name: Name, options: Options, device: torch.device) -> None:
        seed_everything(0)
        self.name, self.options, self.device = name, options, device
        self.is_detector = name in ("retinanet", "fcos")
        self.images, self.data = self._pictures(max(options.batch_sizes))
        self.theirs: Any = self._torchvision().eval()

    def _pictures(self, count: int) -> tuple[Tensor, str]:
        """uint8 [B, 3, H, W], and which they are."""
        if self.is_detector:
            batch, data = photos(RetinaNetBenchmark(canvas=self.options.canvas), count)
            return batch.images, f"{data} at {self.options.canvas}"
        folder, data = find_data("imagenet_like", "ILSVRC2012")
        self.photos = sorted((folder / "val").glob("*/*"))
        return opened(self.photos[:count]), data

    def _torchvision(self) -> Any:
        if not self.is_detector:
            return getattr(torchvision.models, self.name)()
        build = getattr(torchvision.models.detection, f"{self.name}_resnet50_fpn")
        theirs = build(weights=None, weights_backbone=None, num_classes=NUM_CLASSES)
        mean, std, canvas = list(IMAGENET_MEAN), list(IMAGENET_STD), self.options.canvas
        theirs.transform = GeneralizedRCNNTransform(canvas, canvas, mean, std, _skip_resize=True)
        spread_scores(theirs, self.images[:1], mean=-7 if self.name == "retinanet" else -5.5)
        return theirs

    def ours(self, *, channels_last: bool, precision: str) -> OpenedNetwork:
        """As a checkpoint of these weights would be opened."""
        on: dict[str, Any] = {"device": self.device, "precision": precision}
        if not self.is_detector:
            config = replace(classification.of_network(self.name, IMAGENET), channels_last=channels_last)
            names = [str(n) for n in range(1000)]
            return OpenedNetwork(assemble_classifier(config, self.theirs.state_dict(), names, **on), config, None)
        config = detection.of_network(self.name, replace(COCO, input_size=self.options.canvas))
        settings = {"retinanet": RetinaNetOptions, "fcos": FCOSOptions}[self.name].torchvision()
        config = replace(config, detector=settings, channels_last=channels_last)
        names, detector = [str(n) for n in range(NUM_CLASSES)], build_from_options(NUM_CLASSES, settings)
        network = assemble_detector(detector, config, self.theirs.state_dict(), names, None, **on)
        return OpenedNetwork(network, config, None)

    def plain(self) -> Callable[[Tensor], float]:
        """As torchvision's pages compute; gives the seconds of the boxes."""
        theirs, seconds = self.theirs.to(self.device), [0.0]
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        if self.is_detector:
            postprocess = theirs.postprocess_detections

            def timed(*arguments: Any) -> Any:
                synchronize(self.device)
                start = time.perf_counter()
                found = postprocess(*arguments)
                synchronize(self.device)
                seconds[0] = time.perf_counter() - start
                return found

            theirs.postprocess_detections = timed

        def run(images: Tensor) -> float:
            scaled = images.to(self.device) / 255
            said = theirs(list(scaled)) if self.is_detector else theirs((scaled - mean) / std).softmax(dim=1).cpu()
            assert len(said) == len(images)
            return seconds[0]

        return run

    def row(self, row: Row, folder: Path) -> Callable[[Tensor], float]:
        """One of ours; gives the seconds of the boxes, where it can tell them."""
        return self._eager(row.precision) if row.format is None else self._file(row, folder)

    def _eager(self, precision: str) -> Callable[[Tensor], float]:
        last = self.device.type == "cpu" or precision != "fp32"
        module: Any = module_of(self.ours(channels_last=last, precision=precision).network)
        outputs = module.outputs if self.is_detector else module
        speed_up(module, outputs, self.device, module.dtype)

        def run(images: Tensor) -> float:
            boxes = 0.0
            for some in images.to(self.device).split(1 if self.device.type == "cpu" else len(images)):
                said = outputs(some)
                synchronize(self.device)
                start = time.perf_counter()
                if self.is_detector:
                    content = torch.tensor(some.shape[2:], device=self.device).expand(len(some), 2)
                    module.detector.decode(said, ImageSizes(content, content)).boxes.cpu()
                else:
                    said.softmax(dim=1).cpu()
                boxes += time.perf_counter() - start
            return boxes if self.is_detector else 0.0

        return run

    def _file(self, row: Row, folder: Path) -> Callable[[Tensor], float]:
        assert row.format is not None
        assert row.engine is not None
        size = f"_{self.options.canvas}" if self.is_detector else ""
        path = folder / f"{self.name}{size}_{row.precision}{FORMATS[row.format].ending}"
        if not path.is_file():
            some = real_data_folder() / (
                "coco_mini/images/val2017/*0.jpg" if self.is_detector else "imagenet_like/val/*1/*"
            )
            canvas = (self.options.canvas, self.options.canvas) if self.is_detector else None
            asked = ExportOptions(
                weights="new.pth", format=row.format, precision=row.precision, output=str(path), canvas=canvas,
                calibrate=str(some) if row.precision == "int8" else None,
            )  # fmt: skip
            export(self.ours(channels_last=False, precision="fp32"), asked)
        _, answer = FILE_FORMATS[row.engine].read(path)

        def run(images: Tensor) -> float:
            for one in images.split(1):
                content = torch.tensor(one.shape[2:])[None].numpy()
                answer(*(one.numpy(), content)[: 1 + self.is_detector])
            return 0.0

        return run

    def load(self, side: str) -> Callable[[list[Path]], Any]:
        """What reads files and resizes."""
        network: Any = self.ours(channels_last=False, precision="fp32").network
        return (lambda files: [network.prepare(read_pixels(file)) for file in files]) if side == "ours" else opened


SHOWN = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])


def opened(files: list[Path]) -> Tensor:
    """uint8 [B, 3, 224, 224], as torchvision's pages read them."""
    return torch.stack([SHOWN(Image.open(file).convert("RGB")) for file in files])


def turn_of(name: Name, batch_size: int, options: Options, folder: Path, way: str) -> Callable[[], tuple[float, float]]:
    """Computes with one of the rows, or with torchvision; gives the seconds of the whole and of the boxes."""
    subject = Subject(name, options, device_here(ours=way != PEER))
    run = subject.plain() if way == PEER else subject.row(ROWS[way], folder)
    images, device = subject.images[:batch_size], subject.device

    @torch.inference_mode()
    def turn() -> tuple[float, float]:
        times, boxes, start = 0, 0.0, time.perf_counter()
        while (spent := time.perf_counter() - start) < TURN_SECONDS:
            boxes += run(images)
            synchronize(device)
            times += 1
        return spent / times, boxes / times

    return turn


def loading_turn_of(name: Name, batch_size: int, options: Options, side: str) -> Turn:
    """Reads and resizes."""
    subject = Subject(name, options, device_here(ours=side != PEER))
    load, files = subject.load(side), subject.photos[:batch_size]
    return timed(lambda: load(files), len(files), subject.device, steps=max(1, LOADED // len(files)))


def compare(subject: Subject, batch_size: int, options: Options, folder: Path) -> None:
    """Measures all rows in turn with torchvision, prints and appends to results.jsonl."""
    device = subject.device
    rows = [name for name in options.rows if device.type == "cpu" or ROWS[name].format is None]
    made = {name: Apart(turn_of, subject.name, batch_size, options, folder, name) for name in [*rows, PEER]}
    with entered(made) as turns:
        ways = {name: Way(turn, batch_size) for name, turn in turns.items()}
        speeds = alternate(ways, options.rounds, "images/s").speeds
    data = f"{subject.data}, batch {batch_size}"
    for name in rows:
        own = Comparison(unit="images/s", speeds={name: speeds[name], PEER: speeds[PEER]})
        claimed = CLAIMED[subject.name].get(name, 1.0)
        report(f"inference_{subject.name}_{name}: {WHOLE}", own, claimed, device, data)
        print(f"{name} {ways[name]}; {PEER} {ways[PEER]}\n")


def compare_loading(subject: Subject, batch_size: int, options: Options) -> None:
    """Measures what comes before, for the pictures of a classifier."""
    with sides(loading_turn_of, subject.name, batch_size, options) as ways:
        comparison = alternate(ways, options.rounds, "images/s")
    data = f"{subject.data}, batch {batch_size}"
    report(f"inference_{subject.name}_fp32: load", comparison, 1.0, subject.device, data)


def main(options: Options) -> None:
    """Every network at every batch size."""
    device = benchmark_device()
    with ExitStack() as stack:
        folder = Path(options.files or stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.networks:
            subject = Subject(name, options, device)
            for batch_size in options.batch_sizes:
                compare(subject, batch_size, options, folder)
                if not subject.is_detector:
                    compare_loading(subject, batch_size, options)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
