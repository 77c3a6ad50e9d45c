"""Top-1, top-5 and loss by hand, over any division into batches and processes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from public.datasets.batches import ClassificationBatch
from public.evaluation.classification import evaluate, topk_correct
from public.runtime.distributed import DistributedContext

# Class 2 is best everywhere; the order of the six classes is 2 0 1 5 3 4.
SCORES = [4.0, 3.0, 5.0, 1.0, 0.0, 2.0]


@pytest.mark.parametrize(("k", "expected"), [(1, 1), (2, 2), (3, 3), (5, 5), (6, 6), (10, 6)])
def test_topk_by_hand(k: int, expected: int) -> None:
    """One image of each class: as many are right as classes are looked at; k beyond the classes takes all."""
    correct = topk_correct(torch.tensor([SCORES] * 6), torch.arange(6), k)
    assert (correct.item(), correct.dtype) == (expected, torch.float64)


def test_topk_counts_images() -> None:
    """Labels 2, 2, 4 and 0: two among the first one, three among the first two, all only among six."""
    labels = torch.tensor([2, 2, 4, 0])
    assert [topk_correct(torch.tensor([SCORES] * 4), labels, k).item() for k in (1, 2, 5, 6)] == [2, 3, 3, 4]


class FirstPixels(nn.Module):
    """Takes the first six pixels of the first row for logits, and remembers its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, 6]."""
        self.modes.append(self.training)
        return images[:, 0, 0, :6].float()


def batches_of(labels: list[int], batch_size: int) -> list[ClassificationBatch]:
    """Images whose logits are SCORES."""
    images = torch.zeros(len(labels), 3, 1, 6, dtype=torch.uint8)
    images[:, 0, 0] = torch.tensor(SCORES, dtype=torch.uint8)
    parts = zip(images.split(batch_size), torch.tensor(labels).split(batch_size), strict=True)
    return [ClassificationBatch(*part) for part in parts]


LABELS = [2, 2, 0, 4, 5, 1, 2]
LOG_SUM = math.log(sum(math.exp(score) for score in SCORES))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_evaluate_by_hand(context: DistributedContext, batch_size: int) -> None:
    """7 images: 3 of class 2 are right, 6 of 7 among the five best (class 4 is last).

    Mean cross entropy: log sum exp of the scores minus the mean score of the labels, (5 + 5 + 4 + 0 + 2 + 3 + 5) / 7.
    Batches of 2 and 3 leave a smaller last one: a mean of batch means would be another number.
    """
    result = evaluate(FirstPixels(), batches_of(LABELS, batch_size), context)
    expected = {"top1": 3 / 7, "top5": 6 / 7, "loss": LOG_SUM - 24 / 7, "num_images": 7}
    assert result.metrics == pytest.approx(expected, rel=1e-6)
    assert isinstance(result.metrics["num_images"], int)
    best = math.exp(5) / math.exp(LOG_SUM)
    outcomes = result.outcomes
    assert (outcomes.labels.tolist(), outcomes.predicted.tolist()) == (LABELS, [2] * 7)
    assert outcomes.confidence.tolist() == pytest.approx([best] * 7, rel=1e-6)
    true = [math.exp(SCORES[label] - LOG_SUM) for label in LABELS]
    assert outcomes.true_probability.tolist() == pytest.approx(true, rel=1e-6)


def test_sums_are_added_over_processes() -> None:
    """Processes with 4 and 3 of the 7 images, whose sums are exchanged: both get the one-process result."""

    class Two(DistributedContext):
        """Adds the other process's sums to this one's."""

        others = torch.tensor([0.0, 0.0, 0.0, 0.0], dtype=torch.float64)

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values + self.others

        def gather(self, value: Any) -> list[Any]:
            other = np.array([[5, 1, 2], [2, 2, 2], [0.5] * 3, [0.1, 0.2, 0.5]])
            return [value, other]

    two = Two(rank=0, size=2, device=torch.device("cpu"))
    Two.others = torch.tensor([1.0, 3.0, 3 * LOG_SUM - (2 + 3 + 5), 3.0], dtype=torch.float64)  # labels 5, 1, 2
    result = evaluate(FirstPixels(), batches_of(LABELS[:4], 2), two)
    assert result.outcomes.labels.tolist() == [2, 5, 2, 1, 0, 2, 4]  # this one's images are 0, 2, 4, 6
    assert result.metrics == pytest.approx(
        {"top1": 3 / 7, "top5": 6 / 7, "loss": LOG_SUM - 24 / 7, "num_images": 7}, rel=1e-6
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(context: DistributedContext, training: bool) -> None:
    """Evaluated in eval mode, without gradients, and left as it was."""
    classifier = FirstPixels().train(training)
    evaluate(classifier, batches_of(LABELS, 3), context)
    assert classifier.modes == [False] * 3
    assert classifier.training is training


def test_after_batch_hears_of_every_batch(context: DistributedContext) -> None:
    """For progress lines and signals."""
    sizes: list[int] = []
    evaluate(FirstPixels(), batches_of(LABELS, 3), context, after_batch=sizes.append)
    assert sizes == [3, 3, 1]


def test_a_process_without_images(context: DistributedContext) -> None:
    """An empty share adds nothing: here to the batch of another."""
    empty = ClassificationBatch(torch.zeros(0, 3, 1, 6, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    result = evaluate(FirstPixels(), [empty, *batches_of([2], 1)], context)
    assert result.metrics == pytest.approx({"top1": 1, "top5": 1, "loss": LOG_SUM - 5, "num_images": 1}, rel=1e-6)
