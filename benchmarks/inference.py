"""Prediction as `python -m public.apps.predict` computes it against a plain torchvision loop: load, forward, boxes.

    python -m benchmarks.inference
    python -m benchmarks.inference --networks retinanet --batch-sizes 1 --precision bf16

The same weights and photos. The plain loop is what torchvision's own pages show, in float32: PIL, transforms, and a
batch normalized and given to the network; detections are those of its RetinaNet on 640 x 640. Ours is `Predictor`:
decoded by OpenCV, batch norms folded, NHWC, one picture at a time on a CPU whatever the batch. "photos" is the whole
way from files to results, ours with its threads that read ahead.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
import tyro
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.compare import alternate, benchmark_device, find_data, report
from benchmarks.retinanet import Options as RetinaNetBenchmark
from benchmarks.retinanet import Pair, photos
from public.apps.predict import predictions
from public.apps.predict_engines import load
from public.apps.predict_model import ClassificationPredictor, speed_up
from public.apps.predict_sources import file_frame
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.datasets.batches import DetectionBatch, ImageSizes
from public.datasets.decoding import read_pixels
from public.runtime.device import PRECISION_DTYPES, memory_format, synchronize


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    networks: tuple[Literal["resnet50", "mobilenet_v2", "retinanet"], ...] = ("resnet50", "mobilenet_v2", "retinanet")
    """Which to measure."""
    batch_sizes: tuple[int, ...] = (1, 8)
    """Pictures at once, a comparison each."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of ours."""
    rounds: int = 15
    """Counted rounds."""
    photos: int = 64
    """Files of a turn of the whole way; 0: it is not measured."""
    canvas: int = 640
    """Height and width of what the detector sees, pixels."""


WHOLE = "forward and boxes"
CLAIMED: dict[tuple[str, str], float] = {(WHOLE, "fp32"): 1.2, (WHOLE, "bf16"): 2.0, ("photos", "fp32"): 2.0}
"""How many times as fast as the plain loop, by stage and precision of ours; the other stages are for information."""
Ways = dict[str, Callable[[], float]]
"""One turn each, which gives its seconds."""
SHOWN = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])


class Classifiers:
    """Ours and torchvision's with the same new weights."""

    def __init__(self, name: str, options: Options, device: torch.device) -> None:
        self.theirs = getattr(torchvision.models, name)().eval().to(device)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(self.theirs.state_dict(), Path(folder) / "weights.pth")
            ours = load(Path(folder) / "weights.pth", network=name, device=device.type, precision=options.precision)
        assert isinstance(ours, ClassificationPredictor)
        self.ours, self.device = ours, device
        self.mean, self.std = (torch.tensor(v, device=device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))

    def plain(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> probabilities, as torchvision's pages compute them."""
        return self.theirs((images.to(self.device) / 255 - self.mean) / self.std).softmax(dim=1)

    def stages(self, files: list[Path]) -> dict[str, Ways]:
        """What is compared on a batch."""
        prepared = [self.ours.prepare(read_pixels(file), "") for file in files]
        images = torch.stack([one.sample for one in prepared])
        load_ours = timed(lambda: [self.ours.prepare(read_pixels(file), "") for file in files])
        ours, theirs = timed(lambda: self.ours.predict(prepared)), timed(lambda: self.plain(images).cpu())
        return {
            "load": {"ours": load_ours, "torchvision": timed(lambda: opened(files))},
            WHOLE: {"ours": ours, "torchvision": theirs},
        }

    def photos(self, files: list[Path], batch_size: int) -> Ways:
        """The whole way."""

        def plain() -> list[Tensor]:
            batches = [files[begin : begin + batch_size] for begin in range(0, len(files), batch_size)]
            return [self.plain(opened(batch)).topk(5).indices.cpu() for batch in batches]

        ours = timed(lambda: list(predictions(self.ours, map(file_frame, files))))
        return {"ours": ours, "torchvision": timed(plain)}


def opened(files: list[Path]) -> Tensor:
    """uint8 [B, 3, 224, 224], as torchvision's pages read them."""
    return torch.stack([SHOWN(Image.open(file).convert("RGB")) for file in files])


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """The seconds of something that ends on the CPU."""

    @torch.inference_mode()
    def turn() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return turn


class Detectors:
    """Ours and torchvision's RetinaNet with the same weights, of which about a thousand scores an image count."""

    def __init__(self, options: Options, device: torch.device) -> None:
        pair = Pair(RetinaNetBenchmark(canvas=options.canvas, channels_last=True), device)
        self.theirs, self.ours, self.device = pair.theirs.eval(), pair.ours.eval(), device
        self.ours.dtype, last = PRECISION_DTYPES[options.precision], device.type == "cpu" or options.precision != "fp32"
        self.ours.normalize.memory_format = memory_format(last)
        self.ours.to(memory_format=memory_format(last))  # pyright: ignore[reportCallIssue]
        speed_up(self.ours, self.ours.outputs, device, self.ours.dtype)
        self.boxes_seconds = 0.0
        self.postprocess, self.theirs.postprocess_detections = self.theirs.postprocess_detections, self._timed

    def _timed(self, *arguments: Any) -> Any:
        synchronize(self.device)
        start = time.perf_counter()
        found = self.postprocess(*arguments)
        synchronize(self.device)
        self.boxes_seconds += time.perf_counter() - start
        return found

    def stages(self, batch: DetectionBatch) -> dict[str, Ways]:
        """What is compared on a batch."""

        def seconds(name: str, stage: str) -> Callable[[], float]:
            return lambda: self.turn(batch, name)[stage]

        return {
            stage: {name: seconds(name, stage) for name in ("ours", "torchvision")}
            for stage in ("forward", "boxes", WHOLE)
        }

    @torch.inference_mode()
    def turn(self, batch: DetectionBatch, name: str) -> dict[str, float]:
        """Seconds of the forward pass, of the boxes and of both."""
        synchronize(self.device)
        self.boxes_seconds, start = 0.0, time.perf_counter()
        if name == "torchvision":
            self.theirs(list(batch.images / 255))
            synchronize(self.device)
        else:
            at_once = 1 if self.device.type == "cpu" else len(batch.images)
            for images, *sizes in zip(*(part.split(at_once) for part in (batch.images, *batch.sizes)), strict=True):
                outputs = self.ours.outputs(images)
                synchronize(self.device)
                middle = time.perf_counter()
                self.ours.detector.decode(outputs, ImageSizes(*sizes)).boxes.cpu()
                self.boxes_seconds += time.perf_counter() - middle
        whole = time.perf_counter() - start
        return {"forward": whole - self.boxes_seconds, "boxes": self.boxes_seconds, WHOLE: whole}


def compare(
    name: str, stage: str, ways: Ways, num_images: int, options: Options, device: torch.device, data: str
) -> None:
    """Measures, prints and appends to results.jsonl."""
    speeds = {way: lambda turn=turn: num_images / turn() for way, turn in ways.items()}
    comparison = alternate(speeds, options.rounds, "images/s")
    claimed = CLAIMED.get((stage, options.precision), 1.0)
    report(f"inference_{name}_{options.precision}: {stage}", comparison, claimed, device, data)
    print()


def main(options: Options) -> None:
    """Every network at every batch size."""
    device = benchmark_device()
    for name in options.networks:
        detectors = Detectors(options, device) if name == "retinanet" else None
        for batch_size in options.batch_sizes:
            if detectors is not None:
                batch, data = photos(RetinaNetBenchmark(canvas=options.canvas), batch_size)
                stages = detectors.stages(DetectionBatch(*(part.to(device) for part in batch)))
                data = f"{data} at {options.canvas}, batch {batch_size}"
                for stage, ways in stages.items():
                    compare(name, stage, ways, batch_size, options, device, data)
                continue
            folder, data = find_data("imagenet_like", "ILSVRC2012")
            files = sorted((folder / "val").glob("*/*"))[: max(options.photos, batch_size)]
            classifiers, words = Classifiers(name, options, device), f"{data}, batch {batch_size}"
            for stage, ways in classifiers.stages(files[:batch_size]).items():
                compare(name, stage, ways, batch_size, options, device, words)
            if options.photos:
                compare(name, "photos", classifiers.photos(files, batch_size), len(files), options, device, words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
