"""A detector over a whole split: detections of every process gathered, evaluated once, known to all."""

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import torch

from public.config.names import nearest_names
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.detector import Detections
from public.evaluation.coco import METRICS, CocoEvaluator
from public.evaluation.predictions import DetectionResult, Predictions, gather_predictions
from public.evaluation.voc import VocEvaluator
from public.geometry.labels import PADDING
from public.runtime.distributed import World


class Evaluator(Protocol):
    """One data set's rules on one split."""

    def evaluate(self, predictions: Predictions) -> DetectionResult:
        """What the predictions for all images of the split are worth."""
        ...


EVALUATORS: dict[str, Callable[[DetectionAnnotations], Evaluator]] = {"coco": CocoEvaluator, "voc": VocEvaluator}
"""By name; each judges a split of any data set, in whatever layout it lies."""


def metrics_evaluator(rules: str) -> Callable[[DetectionAnnotations], Evaluator]:
    """The rules of "coco" or "voc", to be called with the annotations of a split.

    Raises:
        ValueError: there are no others.
    """
    if rules not in EVALUATORS:
        raise ValueError(f"no evaluation is called {rules!r}; {nearest_names(rules, EVALUATORS)}.")
    return EVALUATORS[rules]


@torch.inference_mode()
def evaluate_detector(
    detect: Callable[[torch.Tensor, ImageSizes], Detections],
    loader: Iterable[DetectionBatch],
    evaluator: Evaluator,
    world: World,
    *,
    after_batch: Callable[[int], None] = lambda num_images: None,
) -> tuple[DetectionResult, Predictions]:
    """Runs a detector on this process's share of the images and evaluates the detections of all processes.

    Args:
        detect: uint8 images [B, 3, H, W] and their sizes, on the device -> detections; in eval mode already.
        loader: this process's share.
        evaluator: of the split; used on the main process alone.
        world: this process's place.
        after_batch: called with the number of images of each batch.

    Returns:
        The result and the predictions for the whole split, sorted by image, the same on every process.
    """
    # The detections stay on the device (some megabytes) until the last batch: copies would wait for each batch.
    found: list[Detections] = []
    image_ids: list[torch.Tensor] = []
    for batch in loader:
        sizes = ImageSizes(*(size.to(world.device, non_blocking=True) for size in batch.sizes))
        found.append(detect(batch.images.to(world.device, non_blocking=True), sizes))
        image_ids.append(batch.image_ids)
        after_batch(len(batch.image_ids))
    predictions = gather_predictions(_flatten(found, image_ids), world)
    result = evaluator.evaluate(predictions) if world.is_main else None
    result = world.gather(result)[0]
    assert result is not None
    return result, predictions


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
    """The metrics, then a line for each class in the data set's order, then the classes that were left out, as text."""
    lines = ["  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())]
    width = max((len(name) for name in result.class_names), default=0)
    names = [name for name in (result.per_class or [{}])[0] if name not in ("class", "objects")]
    if result.per_class:
        lines += [
            "",
            "  ".join([f"{'class':<{width}}", f"{'objects':>8}", *(f"{name:>12}" for name in names)]).rstrip(),
        ]
    for row in result.per_class:
        numbers = (f"{row[name]:>12.4f}" for name in names)
        lines.append("  ".join([f"{row['class']:<{width}}", f"{row['objects']:>8}", *numbers]))
    if result.absent:
        counts = f"{len(result.absent)} of {len(result.class_names)} classes"
        lines += ["", f"no object of {counts}, in no mean: {', '.join(result.absent)}"]
    return "\n".join(lines) + "\n"


def format_coco_record(result: DetectionResult) -> str:
    """COCO's twelve numbers in the words of its own tools, then the AP at IoU 0.5 of each class that has objects.

    Raises:
        KeyError: the result is not by COCO's rules.
    """
    kinds = {"AP": "Average Precision", "AR": "Average Recall"}
    lines = ["COCO results:"]
    for name in METRICS:
        kind, _, condition = name.partition("_")
        iou = f"0.{kind[2:]}" if kind[2:] else "0.50:0.95"
        area = "all" if condition in ("", "1", "10", "100") else condition
        most = condition if condition.isdigit() else "100"
        where = f"IoU={iou:<9} | area={area:>6} | maxDets={most:>3}"
        lines.append(f"{kinds[kind[:2]]:<18} ({kind[:2]}) @[ {where} ] = {result.metrics[name]:.3f}")
    lines += ["", "mAP(IoU=0.5) for each category:"]
    width = max((len(row["class"]) for row in result.per_class), default=0)
    lines += [f"{row['class']:<{width}}: {row['AP50']:.4f}" for row in result.per_class]
    return "\n".join(lines) + "\n"
