"""How often an epoch takes each image where rare classes shall come more often (`data.balance`), and in which order."""

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch

from public.config.classification import ClassificationData
from public.config.detection import DetectionData
from public.datasets.annotations import DetectionAnnotations
from public.runtime.distributed import DistributedContext
from public.runtime.seeding import epoch_order, sample_seed

logger = logging.getLogger(__name__)


def repeat_factors(annotations: DetectionAnnotations, threshold: float) -> np.ndarray:
    """How often an epoch takes each image of a detection data set: the more often, the rarer the rarest class in it.

    LVIS's formula, Gupta et al. 2019, https://arxiv.org/abs/1908.03195, appendix B.2: max(1, sqrt(threshold / f)) for a
    class that the share f of the images holds, and of an image the largest of its classes'. Ignored objects do not
    count.

    Args:
        annotations: of N images.
        threshold: the share of the images below which a class is rare.

    Returns:
        float64 [N], 1 or more.
    """
    num_images, num_classes = annotations.num_images, len(annotations.class_names)
    rows = np.repeat(np.arange(num_images), np.diff(annotations.offsets))  # [T]
    learnt = ~annotations.ignored
    pairs = np.unique(rows[learnt] * num_classes + annotations.labels[learnt])  # each class of each image once
    images, classes = np.divmod(pairs, num_classes)
    share = np.bincount(classes, minlength=num_classes) / num_images  # [C]
    of_class = np.maximum(1, np.sqrt(threshold / np.maximum(share, 1 / num_images)))
    factors = np.ones(num_images)
    np.maximum.at(factors, images, of_class[classes])
    return factors


def class_factors(labels: np.ndarray, strength: float) -> np.ndarray:
    """How often an epoch takes each image of a classification data set: so that classes come equally often.

    Kang et al. 2019, https://arxiv.org/abs/1910.09217, section 3.2, with q = 1 - strength: of n images of a class come
    as many as n ** (1 - strength) asks for beside those of the other classes. An epoch keeps its number of images.

    Args:
        labels: int64 [N].
        strength: 1: every class equally often; 0.5: by the square root of its number; 0 would leave all as it is.

    Returns:
        float64 [N], above 0, N in sum.
    """
    weights = np.bincount(labels)[labels] ** -strength  # [N]
    return weights * (len(labels) / weights.sum())


def repeated(annotations: DetectionAnnotations, data: DetectionData, context: DistributedContext) -> np.ndarray | None:
    """The factors that a detection config asks for, which the main process logs; None where it does not."""
    return None if data.balance is None else _told(repeat_factors(annotations, data.balance), context)


def balanced(labels: np.ndarray, data: ClassificationData, context: DistributedContext) -> np.ndarray | None:
    """The factors that a classification config asks for, which the main process logs; None where it does not."""
    return None if data.balance is None else _told(class_factors(labels, data.balance), context)


def _told(factors: np.ndarray, context: DistributedContext) -> np.ndarray:
    if context.is_main:
        length = EpochOrder(0, len(factors), factors).length
        logger.info(
            f"data.balance: an epoch takes {length} images of {len(factors)}, each {factors.min():.3g} to "
            f"{factors.max():.3g} times"
        )
    return factors


@dataclass(frozen=True)
class EpochOrder:
    """The samples of every epoch in their order: a function of the seed and the epoch alone.

    Sample k * N + i is the image i for the (k + 1)-th time within the epoch. What is drawn for it comes from that
    number, so that no two are alike, and the first is as it is without factors.
    """

    seed: int
    num_images: int
    """N, of the data set."""
    factors: np.ndarray | None = None
    """float64 [N], how often an epoch takes each image, in the mean over epochs: an epoch takes it the next lower or
    higher number of times. None: each once."""

    @property
    def length(self) -> int:
        """Samples of an epoch, the same for all."""
        # Up, so that a factor of 1 is at least once; but for what rounding adds.
        return self.num_images if self.factors is None else math.ceil(self.factors.sum() - 1e-6)

    def samples(self, epoch: int) -> np.ndarray:
        """The samples of an epoch, int64 [length]."""
        if self.factors is None:
            return epoch_order(self.seed, epoch, self.num_images)
        generator = torch.Generator().manual_seed(sample_seed(self.seed, epoch, self.num_images))
        order = torch.randperm(self.num_images, generator=generator).numpy()
        # Systematic sampling: equidistant points on a line on which each image, in random order, is as long as its
        # factor. So many fall on it.
        ends = np.cumsum(self.factors[order])  # [N]
        offset = torch.rand((), generator=generator, dtype=torch.float64).item()
        points = (np.arange(self.length) + offset) * (ends[-1] / self.length)
        places = np.searchsorted(ends, points, side="right").clip(max=self.num_images - 1)
        copies = np.arange(self.length) - np.searchsorted(places, places)  # 0, 1, ... of those on the same image
        shuffled = torch.randperm(self.length, generator=generator).numpy()
        return (copies * self.num_images + order[places])[shuffled]
