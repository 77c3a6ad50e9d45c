"""Top-1 and top-5 over a whole split, exact for any number of processes and any batch size."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from public.datasets.batches import ClassificationBatch
from public.evaluation.outcomes import Outcomes
from public.runtime.distributed import DistributedContext


def topk_correct(logits: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    """How many images have their class among the k highest logits.

    Args:
        logits: [B, num_classes].
        labels: int64 [B].
        k: clipped to num_classes.

    Returns:
        A float64 scalar on the logits' device.
    """
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices  # [B, k]
    return (best == labels[:, None]).any(dim=1).sum(dtype=torch.float64)


class ClassificationResult(NamedTuple):
    """What a classifier is worth on a split."""

    metrics: dict[str, float]
    """top1 and top5 as fractions, loss (mean cross entropy), num_images."""
    outcomes: Outcomes
    """Image by image, in the split's order."""


@torch.inference_mode()
def evaluate(
    classifier: nn.Module,
    batches: Iterable[ClassificationBatch],
    context: DistributedContext,
    *,
    after_batch: Callable[[int], None] = lambda num_images: None,
) -> ClassificationResult:
    """Evaluates on this process's share of the images and brings the results of all processes together.

    Args:
        classifier: uint8 images [B, 3, H, W] -> float32 logits [B, num_classes]; evaluated in eval mode and left in
            the mode it had.
        batches: this process's share.
        context: this process's place.
        after_batch: called with the number of images of each batch.

    Returns:
        The same on every process.
    """
    found: list[torch.Tensor] = []  # on the device until the last batch: copies would wait for each batch
    sums = torch.zeros(4, dtype=torch.float64, device=context.device)  # top-1, top-5, loss, images
    was_training = classifier.training
    classifier.eval()
    for images, labels in batches:
        logits = classifier(images.to(context.device, non_blocking=True))  # [B, num_classes]
        labels = labels.to(context.device, non_blocking=True)
        loss = F.cross_entropy(logits, labels, reduction="sum").double()
        found.append(_outcomes(logits, labels))
        counts = topk_correct(logits, labels, 1), topk_correct(logits, labels, 5)
        sums += torch.stack([*counts, loss, torch.full_like(loss, len(labels))])
        after_batch(len(labels))
    classifier.train(was_training)
    top1, top5, loss_sum, num_images = context.sum(sums).tolist()
    metrics = {
        "top1": top1 / num_images,
        "top5": top5 / num_images,
        "loss": loss_sum / num_images,
        "num_images": int(num_images),
    }
    return ClassificationResult(metrics, _gather_outcomes(found, int(num_images), context))


def _outcomes(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Float64 [4, B] on the device: label, predicted class, its probability, the label's probability."""
    probabilities = logits.float().softmax(dim=1)  # [B, num_classes]
    confidence, predicted = probabilities.max(dim=1)
    true = probabilities.gather(1, labels[:, None])[:, 0]
    return torch.stack([labels.double(), predicted.double(), confidence.double(), true.double()])


def _gather_outcomes(found: list[torch.Tensor], num_images: int, context: DistributedContext) -> Outcomes:
    """The outcomes of all processes in the split's order, of which each process has every size-th image."""
    own = torch.cat(found, dim=1).cpu().numpy() if found else np.zeros((4, 0))
    rows = np.empty((4, num_images))
    for rank, part in enumerate(context.gather(own)):
        rows[:, rank :: context.size] = part
    labels, predicted, confidence, true = rows
    return Outcomes(
        labels.astype(np.int64), predicted.astype(np.int64), confidence.astype(np.float32), true.astype(np.float32)
    )
