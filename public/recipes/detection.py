"""Training an object detector: what differs from other tasks. The start is `start.py`, the loop `train_loop.py`."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.backbones.catalog import check_backbone_name
from public.config.detection import DetectionConfig
from public.datasets.batches import DetectionBatch, check_batch
from public.datasets.detection import DetectionTrainData, build_train_data, canvas_size, smallest_canvas
from public.datasets.detection_loaders import on_larger_canvas
from public.datasets.formats import DATA_KIND, resolved
from public.detectors.catalog import DETECTOR_KIND, build_from_options
from public.detectors.detector import Detector, ImageDetector
from public.evaluation.complexity import count
from public.evaluation.detection import check_metrics, evaluate_detector, evaluator_of, format_table
from public.evaluation.operating_points import OperatingPoints
from public.evaluation.report import write_report
from public.geometry.labels import PADDING
from public.optim.options import OPTIMIZER_KIND, SCHEDULE_KIND
from public.recipes import start
from public.recipes.task import Evaluated, Panels, Task
from public.runtime.distributed import DistributedContext
from public.runtime.parallel import num_replicas
from public.weights.class_rows import ClassLayers
from public.weights.loading import load_weights
from public.weights.published import note_on_input

logger = logging.getLogger(__name__)


class DetectionTask(Task):
    """Detector and losses."""

    kinds = (DETECTOR_KIND, DATA_KIND, OPTIMIZER_KIND, SCHEDULE_KIND)
    config: DetectionConfig
    model: ImageDetector
    _canvas: tuple[int, int] | None = None  # of the present step, in all processes
    _targets: Callable[[DetectionBatch], Any] | None = None  # the detector's, compiled

    @classmethod
    def resolve(cls, config: DetectionConfig) -> DetectionConfig:
        """The format of `data.folder`, where it is to be recognized."""
        data = resolved(config.data)
        return config if data is config.data else replace(config, data=data)

    @classmethod
    def check(cls, config: DetectionConfig) -> None:
        """Raises ValueError unless there are such a backbone and such metrics."""
        check_backbone_name(config.detector.backbone)
        check_metrics(config)

    @classmethod
    def open_data(cls, config: DetectionConfig, context: DistributedContext) -> DetectionTrainData:
        """Both loaders and the annotations."""
        return build_train_data(config, context)

    @classmethod
    def build_network(cls, config: DetectionConfig, num_classes: int) -> Detector:
        """The detector with new weights."""
        return build_from_options(num_classes, config.detector)

    @classmethod
    def load_initial_weights(cls, network: nn.Module, config: DetectionConfig, class_names: list[str]) -> list[str]:
        """The whole detector's weights, the classes of a checkpoint of ours by name, or the backbone's from
        classification; what was loaded and skipped."""
        assert isinstance(network, Detector)
        reports = []
        if config.initial_weights is not None:
            source = config.initial_weights
            if config.new_class_head:
                report = load_weights(network, source, skip=network.class_prefixes)
            else:
                report = load_weights(network, source, classes=ClassLayers(class_names, network.class_rows))
            reports.append(f"initial weights {config.initial_weights}: {report}")
        if config.backbone_weights is not None:
            report = load_weights(network.body, config.backbone_weights, allow_unexpected=network.body.unused_prefixes)
            reports.append(f"backbone weights {config.backbone_weights}: {report}")
            reports += note_on_input(config.backbone_weights, config.data)
        return reports

    @classmethod
    def inference(cls, network: nn.Module, config: DetectionConfig, dtype: torch.dtype) -> ImageDetector:
        """The detector with the data's normalization and the config's layout around it."""
        assert isinstance(network, Detector)
        mean, std = config.data.mean, config.data.std
        return ImageDetector(
            network,
            mean=mean,
            std=std,
            dtype=dtype,
            channels_last=config.channels_last,
            activation_checkpointing=config.runtime.activation_checkpointing,
        )

    @classmethod
    def smallest_size(cls, config: DetectionConfig, data: DetectionTrainData) -> tuple[int, int]:
        """That of the smallest canvas."""
        return smallest_canvas(config.data, data.annotations)

    @property
    def detector(self) -> Detector:
        """The bare detector."""
        return self.model.detector

    def begin(self, network: nn.Module, data: DetectionTrainData, context: DistributedContext) -> None:
        """Prepares the evaluation, which keeps the truth from one epoch to the next."""
        self._context, self._data = context, data
        self._evaluator = evaluator_of(self.config.data.rules)(data.val_annotations)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Network and losses become one graph, the targets another: in between, processes add up their counts."""
        super().compile(*args, **kwargs)
        self._targets = torch.compile(self.detector.targets, *args, **kwargs)

    def agreed(self, batches: Iterable[DetectionBatch]) -> Iterator[DetectionBatch]:
        """The batches, each once the processes agreed on its canvas, which they do during the step before."""
        for batch, canvas in on_agreed_canvases(batches, self._context):
            check_batch(batch, len(self._data.class_names))
            self._canvas = canvas
            yield batch

    @torch.no_grad()
    def prepare(self, parts: list[DetectionBatch], step: int) -> list[Sequence[Any]]:
        """The images of each part on canvases of one size, its targets, and the normalizer [B, K] of the global batch.

        The losses of all parts are averaged in the end, over accumulation steps, processes and the GPUs of
        nn.DataParallel: dividing each by total / number of parts makes that average the sum over the batch / total.
        The normalizer has a row for each image, all equal, because nn.DataParallel cuts along B.
        """
        if self._canvas is not None:
            parts = [part._replace(images=on_larger_canvas(part.images, self._canvas)) for part in parts]
        if self._targets is None:
            targets = [self.detector.targets(part) for part in parts]
        else:
            parts = [with_common_rows(part) for part in parts]
            targets = [self._targets(of_any_size(part)) for part in parts]
            targets = [of_any_size(one) for one in targets]
        own = torch.stack([self.detector.counts(one).sum(dim=0) for one in targets]).sum(dim=0)  # [K]
        total = self._context.sum(own).clamp(min=1)
        share = total / (len(parts) * self._context.size * num_replicas(self.config.parallel, self._context))
        return [
            (part.images, one, share.expand(len(part.images), -1)) for part, one in zip(parts, targets, strict=True)
        ]

    def forward(self, images: Tensor, targets: Any, normalizer: Tensor) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """uint8 images [B, 3, H, W], the detector's targets, and normalizers [B, K], equal in each row."""
        return self.losses(self.model.outputs(images), targets, normalizer[0])

    def losses(self, outputs: Any, targets: Any, normalizer: Tensor) -> dict[str, Tensor]:
        """The detector's raw outputs and targets -> the named losses; what they are called is free.

        Args:
            outputs: of the detector.
            targets: of the detector.
            normalizer: float32 [K], what the sums over the images of the batch are divided by.
        """
        return self.detector.loss(outputs, targets, normalizer)

    def evaluate(self, evaluated: Evaluated) -> dict[str, float]:
        """The metrics of the data's rules; writes pictures, curves and the table by class."""
        model, batches, after_batch, context, folder, epoch = evaluated
        model.eval()
        result, predictions = evaluate_detector(model, batches, self._evaluator, context, after_batch=after_batch)
        if context.is_main:
            points = write_report(
                folder / "report",
                result,
                predictions,
                self._data.val_annotations,
                data=self.config.data,
                evaluator=self._evaluator,
                title=f"{self.config.name}, epoch {epoch}",
                picture=f"epoch_{epoch:03d}.jpg",
            )
            self.measured = thresholds_of(points, result.class_names)
            logger.info("\n" + format_table(result).rstrip())
        return result.metrics

    @property
    def panels(self) -> Panels:
        """Losses, learning rate and what the data's rules give."""
        losses = ("train_loss", *(f"train_{name}" for name in self.detector.loss_names))
        return (("loss", losses), ("learning rate", ("lr",)), *self._evaluator.panels)

    def summary(self, network: nn.Module) -> str:
        """The detector with its size on the canvas of a picture of 4 to 3."""
        height, width = canvas_size(self.config.data)
        size = count(network, (height, width), macs_behind=self.detector.decode_macs)
        return f"{self.config.network} on {self.config.detector.backbone}, {size} at {width}x{height}"


def with_common_rows(batch: DetectionBatch) -> DetectionBatch:
    """The batch with 8, 16, 32, ... rows of objects, so that a graph sees few sizes; no object is left out."""
    num_rows = batch.labels.shape[1]
    missing = max(8, 1 << (num_rows - 1).bit_length()) - num_rows
    labels = F.pad(batch.labels, (0, missing), value=PADDING)
    return batch._replace(boxes=F.pad(batch.boxes, (0, 0, 0, missing)), labels=labels)


def of_any_size(tensors: Any) -> Any:
    """A NamedTuple of tensors [B, ...], which a graph is to take with any sizes behind the first: canvases differ."""
    for one in tensors:
        torch._dynamo.maybe_mark_dynamic(one, tuple(range(1, one.ndim)))
    return tensors


def thresholds_of(points: OperatingPoints, class_names: list[str]) -> dict[str, Any]:
    """The thresholds of the best F1 as a checkpoint has them: of all classes together, and of each."""
    own = {name: one.threshold for name, one in zip(class_names, points.per_class, strict=True) if one is not None}
    return {} if points.best is None else {"score_threshold": points.best.threshold, "class_thresholds": own}


def on_agreed_canvases(
    batches: Iterable[DetectionBatch], context: DistributedContext
) -> Iterator[tuple[DetectionBatch, tuple[int, int]]]:
    """Batches with the height and width of the largest canvas that any process has in the step.

    An image's outputs, and what is drawn for its anchors, then depend on its global batch and not on who has it. Each
    batch is read one step ahead, so that no process waits for another's answer.
    """
    if context.size == 1:
        yield from ((batch, (batch.images.shape[-2], batch.images.shape[-1])) for batch in batches)
        return

    def asked(batch: DetectionBatch) -> tuple[DetectionBatch, Tensor, Any]:
        canvas = torch.tensor(batch.images.shape[-2:])
        return batch, canvas, context.start_max(canvas)

    answers = map(asked, batches)
    following = next(answers, None)
    while following is not None:
        (batch, canvas, work), following = following, next(answers, None)
        work.wait()
        height, width = canvas.tolist()
        yield batch, (height, width)


def main(
    configs: Mapping[str, DetectionConfig],
    script: str,
    argv: Sequence[str] | None = None,
    task: type[DetectionTask] = DetectionTask,
) -> None:
    """Runs an experiment from its command line: see `start.run_experiment`."""
    start.run_experiment(configs, script, task, argv)


def train(config: DetectionConfig, path: Path, context: DistributedContext, *, fresh: bool = False) -> int:
    """Trains one row in a run folder; gives the exit code. See `start.train`."""
    return start.train(config, path, context, DetectionTask, fresh)
