"""A detector over a whole split: detections of every process gathered, evaluated once, known to all."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from public.config.checks import require
from public.config.detection import DetectionConfig
from public.config.names import nearest_names
from public.datasets.batches import DetectionBatch, ImageSizes
from public.datasets.predictions import Predictions
from public.detectors.detector import Detections
from public.evaluation.coco import CocoEvaluator
from public.evaluation.evaluator import DetectionResult, Evaluator, existing
from public.evaluation.voc import VocEvaluator
from public.geometry.labels import PADDING
from public.runtime.distributed import DistributedContext

EVALUATORS: dict[str, type[Evaluator]] = {one.kind: one for one in (CocoEvaluator, VocEvaluator)}
"""By the name that --data.metrics has for it; each judges a split of any format."""


def evaluator_of(rules: str) -> type[Evaluator]:
    """The evaluator by these rules, to be called with the annotations of a split.

    Raises:
        ValueError: there is none.
    """
    if rules not in EVALUATORS:
        raise ValueError(f"data.metrics={rules!r}: no evaluation has these rules; {nearest_names(rules, EVALUATORS)}.")
    return EVALUATORS[rules]


def check_metrics(config: DetectionConfig) -> None:
    """Raises ValueError unless the data's rules are known and give the metric that chooses the best epoch."""
    data = config.data
    given = evaluator_of(data.rules).metrics
    setting = f"dataset={data.kind!r}" if data.metrics is None else f"metrics={data.metrics!r}"
    require(
        config.best_metric in given,
        f"best_metric={config.best_metric!r} is not among the metrics of data.{setting}: {', '.join(given)}.",
    )


@torch.inference_mode()
def evaluate_detector(
    detect: Callable[[torch.Tensor, ImageSizes], Detections],
    loader: Iterable[DetectionBatch],
    evaluator: Evaluator,
    context: DistributedContext,
    *,
    after_batch: Callable[[int], None] = lambda num_images: None,
) -> tuple[DetectionResult, Predictions]:
    """Runs a detector on this process's share of the images and evaluates the detections of all processes.

    Args:
        detect: uint8 images [B, 3, H, W] and their sizes, on the device -> detections; in eval mode already.
        loader: this process's share.
        evaluator: of the split; used on the main process alone.
        context: this process's place.
        after_batch: called with the number of images of each batch.

    Returns:
        The result and the predictions for the whole split, sorted by image, the same on every process.
    """
    # The detections stay on the device (some megabytes) until the last batch: copies would wait for each batch.
    found: list[Detections] = []
    image_ids: list[torch.Tensor] = []
    for batch in loader:
        sizes = ImageSizes(*(size.to(context.device, non_blocking=True) for size in batch.sizes))
        found.append(detect(batch.images.to(context.device, non_blocking=True), sizes))
        image_ids.append(batch.image_ids)
        after_batch(len(batch.image_ids))
    predictions = gather_predictions(_flatten(found, image_ids), context)
    result = evaluator.evaluate(predictions) if context.is_main else None
    result = context.gather(result)[0]
    assert result is not None
    return result, predictions


def gather_predictions(local: Predictions, context: DistributedContext) -> Predictions:
    """The predictions of all processes, on every process, sorted by image.

    Within an image they keep their order, and each image belongs to one process: the result is the same, to the last
    bit, for any number of processes.
    """
    parts = context.gather(tuple(local))
    together = Predictions(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order = np.argsort(together.image_ids, kind="stable")
    return Predictions(*(array[order] for array in together))


def _flatten(found: list[Detections], image_ids: list[torch.Tensor]) -> Predictions:
    """Detections of batches ([B, D] each) as one list on the CPU, without the padding."""
    if not found:  # more processes than images
        return Predictions(
            np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int)
        )
    boxes = torch.cat([part.boxes.flatten(0, 1) for part in found]).cpu()
    scores = torch.cat([part.scores.flatten() for part in found]).cpu()
    labels = torch.cat([part.labels.flatten() for part in found]).cpu()
    ids = [i.repeat_interleave(part.labels.shape[1]) for i, part in zip(image_ids, found, strict=True)]
    real = labels != PADDING
    columns = torch.cat(ids)[real], boxes[real].float(), scores[real].float(), labels[real]
    return Predictions(*(column.numpy() for column in columns))


def format_table(result: DetectionResult) -> str:
    """The metrics, then a line for each class in the data set's order, then the classes that were skipped, as text."""
    lines = ["  ".join(f"{name} {value:.4f}" for name, value in existing(result.metrics).items())]
    width = max((len(name) for name in result.class_names), default=0)
    names = [name for name in (result.per_class or [{}])[0] if name not in ("class", "objects")]
    if result.per_class:
        lines += [
            "",
            "  ".join([f"{'class':<{width}}", f"{'objects':>8}", *(f"{name:>12}" for name in names)]).rstrip(),
        ]
    for row in result.per_class:
        numbers = (f"{row[name]:>12.4f}" if row[name] >= 0 else f"{'-':>12}" for name in names)
        lines.append("  ".join([f"{row['class']:<{width}}", f"{row['objects']:>8}", *numbers]))
    if result.absent:
        counts = f"{len(result.absent)} of {len(result.class_names)} classes"
        lines += ["", f"no object of {counts}, in no mean: {', '.join(result.absent)}"]
    return "\n".join(lines) + "\n"
