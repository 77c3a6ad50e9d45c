"""Top-1 and top-5 over a whole split, exact for any number of processes and any batch size."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn

from public.datasets.batches import ClassificationBatch
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


@torch.inference_mode()
def evaluate(
    classifier: nn.Module,
    batches: Iterable[ClassificationBatch],
    context: DistributedContext,
    *,
    after_batch: Callable[[int], None] = lambda num_images: None,
) -> dict[str, float]:
    """Evaluates on this process's share of the images and adds the sums up over all processes.

    Args:
        classifier: uint8 images [B, 3, H, W] -> float32 logits [B, num_classes]; evaluated in eval mode and left in
            the mode it had.
        batches: this process's share.
        context: this process's place.
        after_batch: called with the number of images of each batch.

    Returns:
        top1 and top5 as fractions, loss (mean cross entropy), num_images.
    """
    sums = torch.zeros(4, dtype=torch.float64, device=context.device)  # top-1, top-5, loss, images
    was_training = classifier.training
    classifier.eval()
    for images, labels in batches:
        logits = classifier(images.to(context.device, non_blocking=True))  # [B, num_classes]
        labels = labels.to(context.device, non_blocking=True)
        loss = F.cross_entropy(logits, labels, reduction="sum").double()
        counts = topk_correct(logits, labels, 1), topk_correct(logits, labels, 5)
        sums += torch.stack([*counts, loss, torch.full_like(loss, len(labels))])
        after_batch(len(labels))
    classifier.train(was_training)
    top1, top5, loss_sum, num_images = context.sum(sums).tolist()
    return {
        "top1": top1 / num_images,
        "top5": top5 / num_images,
        "loss": loss_sum / num_images,
        "num_images": int(num_images),
    }
