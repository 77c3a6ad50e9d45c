"""Training steps as `python -m benchmarks.gpu` tries them: on which device, how large, in which precision."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.random_batches import NUM_CLASSES, random_batch
from public.backbones.catalog import build_backbone
from public.config.run import OptimizerOptions
from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_detector
from public.detectors.detector import ImageDetector
from public.geometry.fixed_shapes import fixed_shapes
from public.layers.normalize import Normalize
from public.losses.classification import cross_entropy
from public.optim.ema import AveragedWeights
from public.optim.optimizers import build_optimizer
from public.optim.options import SGDOptions
from public.runtime.device import autocast

MEAN, STD = (0.45,) * 3, (0.23,) * 3
"""Of the pixels; ImageNet's own stand in a module that needs more than torch."""
SGD = SGDOptions(lr=1e-4, weight_decay=1e-4)
CLASSIFICATION = "classification"
TWO_STAGES = ("faster_rcnn", "cascade_rcnn")
"""Their proposals depend on the order of scores, which rounding can change; and `nms` makes the host wait."""
SCORE_THRESHOLD = 0.005
"""Below what a new network gives everything, so that there is something to decode."""


class Skipped(Exception):
    """A row that cannot be had here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how large."""

    device: torch.device
    """That is tried."""
    backbone: str = "resnet50"
    """Of ours."""
    canvas: int = 320
    """Of the checks, height and width in pixels."""
    batch_size: int = 4
    """Of the checks."""
    image_batch: int = 128
    """Images of a classification's timed step."""
    image_size: int = 224
    """Their height and width in pixels."""
    detection_batch: int = 8
    """Images of a detector's timed step."""
    turn_seconds: float = 1.0
    """About how long one way is timed before the other has its turn."""
    rounds: int = 3
    """Counted rounds."""

    def only_on_cuda(self, what: str) -> None:
        """Raises Skipped elsewhere."""
        if self.device.type != "cuda":
            raise Skipped(f"{what} need a GPU, and this is a {self.device.type}")

    def on_device(self) -> AbstractContextManager[None]:
        """A CPU in its place computes in a GPU's shapes."""
        return nullcontext() if self.device.type == "cuda" else fixed_shapes()


class Step(nn.Module):
    """Network, targets and losses in one module: a batch -> the named losses.

    Args:
        name: of a detector, or CLASSIFICATION.
        backbone: the network's, or the detector's.
        dtype: of matrix products and convolutions.
        channels_last: the memory layout.
    """

    def __init__(self, name: str, backbone: str, dtype: torch.dtype = torch.float32, channels_last: bool = False):
        super().__init__()
        self.dtype = dtype
        if name == CLASSIFICATION:
            self.model: Any = nn.Sequential(
                Normalize(MEAN, STD, channels_last=channels_last),
                build_backbone(backbone, num_classes=NUM_CLASSES),
            )
        else:
            detector = build_detector(name, NUM_CLASSES, backbone=backbone, score_threshold=SCORE_THRESHOLD)
            self.model = ImageDetector(detector, mean=MEAN, std=STD, dtype=dtype, channels_last=channels_last)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def outputs(self, images: Tensor) -> Any:
        """uint8 [B, 3, H, W] -> logits, or a detector's raw outputs."""
        if isinstance(self.model, ImageDetector):
            return self.model.outputs(images)
        with autocast(images.device, self.dtype):
            return self.model(images)

    def losses(self, outputs: Any, batch: DetectionBatch) -> dict[str, Tensor]:
        """Of outputs for a batch; a picture's class is that of its first object."""
        if isinstance(self.model, ImageDetector):
            detector = self.model.detector
            return detector.loss(outputs, detector.targets(batch))
        return {"cross_entropy": cross_entropy(outputs.float(), batch.labels[:, 0])}

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        """The fields of a batch, one by one as nn.DataParallel cuts them -> the named losses."""
        whole = DetectionBatch(*batch)
        return self.losses(self.outputs(whole.images), whole)


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of the losses, each of which nn.DataParallel gives once for each GPU."""
    return torch.stack([loss.mean() for loss in losses.values()]).sum()


@contextmanager
def float32_products(kind: str) -> Iterator[None]:
    """How a GPU multiplies float32: "ieee" exactly, "tf32" with 10 bits of mantissa."""
    kept: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # pyright: ignore
    before = [one.fp32_precision for one in kept]
    try:
        for one in kept:
            one.fp32_precision = kind
        yield
    finally:
        for one, value in zip(kept, before, strict=True):
            one.fp32_precision = value


class Training:
    """A step's network, optimizer, loss scale and averaged weights, on batches of their own."""

    def __init__(self, name: str, setting: Setting, dtype: torch.dtype, options: OptimizerOptions) -> None:
        torch.manual_seed(0)
        self.setting, self.step = setting, Step(name, setting.backbone, dtype).to(setting.device)
        self.optimizer = build_optimizer(self.step, options)
        self.scaler = torch.amp.GradScaler(setting.device.type, enabled=dtype == torch.float16)
        self.average = AveragedWeights(self.step, 0.9)

    def batch(self, number: int) -> DetectionBatch:
        """The same whenever it is asked for."""
        torch.manual_seed(number)
        canvas = (self.setting.canvas, self.setting.canvas)
        return random_batch(self.setting.batch_size, 7, canvas, self.setting.device)

    def update(self, batch: DetectionBatch, wrapped: nn.Module | None = None) -> Tensor:
        """One step; its loss before it."""
        with self.setting.on_device():
            loss = total((wrapped or self.step)(*batch))
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.step.parameters(), 10.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.step)
        return loss.detach()

    def run(self, numbers: Sequence[int], wrapped: nn.Module | None = None) -> list[float]:
        """Steps on the batches of these numbers; their losses."""
        return torch.stack([self.update(self.batch(number), wrapped) for number in numbers]).tolist()

    def state(self) -> dict[str, Any]:
        """All that a step depends on."""
        average = {"weights": self.average.state_dict(), "number": self.average.num_averaged}
        return {"step": self.step.state_dict(), "optimizer": self.optimizer.state_dict(), "average": average}

    def load(self, state: dict[str, Any]) -> None:
        """Puts it back."""
        self.step.load_state_dict(state["step"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"]["weights"], state["average"]["number"])
