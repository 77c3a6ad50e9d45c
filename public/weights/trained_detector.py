"""A trained detector with all that it takes to use it: a checkpoint of ours knows its network, canvas and classes.

detect = load_detector("best.pth")
found = detect("street.jpg")            # boxes, scores, labels, names
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from public.config.checks import require
from public.datasets.batches import PADDING, DetectionBatch
from public.datasets.decoding import read_pixels
from public.datasets.detection_loaders import LoadedImage, collate
from public.detectors.catalog import build_detector
from public.detectors.detector import ImageDetector
from public.runtime.checkpoint import load_checkpoint
from public.runtime.device import choose_device, choose_precision
from public.transforms.detection import DetectionSample, DetectionTransform
from public.transforms.from_text import transforms_from_text
from public.weights.loading import load_weights
from public.weights.reading import WeightsSource


class Found(NamedTuple):
    """What is in one image, best first."""

    boxes: np.ndarray
    """float32 [D, 4], x1 y1 x2 y2 in pixels of the image."""
    scores: np.ndarray
    """float32 [D]."""
    labels: np.ndarray
    """int64 [D]."""
    names: list[str]
    """The classes of the labels."""


class TrainedDetector:
    """Images in, detections out.

    Args:
        image_detector: on its device; put into evaluation mode.
        transforms: those of evaluation, a resize.
        class_names: of the labels.
        category_ids: the data set's own number of each class; None: counted from 1.
    """

    def __init__(
        self,
        image_detector: ImageDetector,
        transforms: Sequence[DetectionTransform],
        class_names: list[str],
        category_ids: list[int] | None = None,
    ) -> None:
        self.image_detector, self.transforms = image_detector.eval(), tuple(transforms)
        self.class_names = class_names
        self.category_ids = category_ids or list(range(1, len(class_names) + 1))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.image_detector.parameters()).device

    @torch.inference_mode()
    def __call__(self, image: str | Path | np.ndarray, score_threshold: float = 0.0) -> Found:
        """Detects in one image.

        Args:
            image: a file, or uint8 [H, W, 3] red green blue.
            score_threshold: 0..1; weaker detections are left out (beside those that the network leaves out itself).

        Raises:
            OSError: the file is missing, or no image.
            ValueError: the array is not of this kind, or the threshold no score.
        """
        require(0 <= score_threshold <= 1, f"score_threshold={score_threshold} must lie in 0..1.")
        batch = self._batch_of(_checked_pixels(image) if isinstance(image, np.ndarray) else read_pixels(Path(image)))
        found = self.image_detector(batch.images.to(self.device), batch.sizes)
        boxes, scores, labels = (field[0].cpu().numpy() for field in found)
        shown = (labels != PADDING) & (scores >= score_threshold)
        return Found(boxes[shown], scores[shown], labels[shown], [self.class_names[i] for i in labels[shown].tolist()])

    def _batch_of(self, pixels: np.ndarray) -> DetectionBatch:
        """One image on its canvas."""
        size = (pixels.shape[0], pixels.shape[1])
        sample = DetectionSample(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), size)
        for transform in self.transforms:
            sample = transform(sample, np.zeros(0))
        multiple = getattr(self.transforms[-1], "canvas_multiple", 1)
        batch: DetectionBatch = collate([LoadedImage(sample, size, 0)], canvas_multiple=multiple)
        sizes = {name: getattr(batch, name).to(self.device) for name in ("content_sizes", "original_sizes")}
        return batch._replace(**sizes)


def _checked_pixels(image: np.ndarray) -> np.ndarray:
    """The array, if it is an image."""
    is_image = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0
    kind = f"{image.dtype} {list(image.shape)}"
    require(is_image, f"an image was given as {kind}; expected is uint8 [height, width, 3], red green blue.")
    return np.ascontiguousarray(image)


def load_detector(path: str | Path, *, device: str = "auto", precision: str = "fp32") -> TrainedDetector:
    """The detector of one of our checkpoints.

    Args:
        path: latest.pth or best.pth of a detection run.
        device: 'auto' (the GPU where there is one), 'cpu' or 'cuda'.
        precision: 'fp32', 'bf16', 'fp16', or 'auto' as in training.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of one of our detection runs.
    """
    checkpoint = load_checkpoint(Path(path))
    config = checkpoint["config"]
    if "detector" not in config:
        raise ValueError(f"{path} is the checkpoint of a {config['network']} classifier; expected a detector's.")
    names, ids = checkpoint["class_names"], checkpoint["category_ids"]
    return assemble_detector(config, checkpoint, names, ids, device=choose_device(device), precision=precision)


def assemble_detector(
    record: Mapping[str, Any],
    weights: WeightsSource,
    class_names: list[str],
    category_ids: list[int],
    *,
    device: torch.device,
    precision: str,
) -> TrainedDetector:
    """A detector from what a DetectionConfig's record says of it, and weights of any kind that `load_weights` reads.

    Args:
        record: its network, detector, canvas and data.
        weights: a checkpoint, or what names or holds one.
        class_names: of the labels.
        category_ids: the data set's own number of each class.
        device: of this process, where there are several: each has its own GPU.
        precision: 'fp32', 'bf16', 'fp16', or 'auto' as in training.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they do not fit.
    """
    options = {name: _as_option(value) for name, value in record["detector"].items() if value is not None}
    detector = build_detector(record["network"], num_classes=len(class_names), **options)
    load_weights(detector, weights)
    image_detector = ImageDetector(
        detector,
        mean=record["data"]["mean"],
        std=record["data"]["std"],
        dtype=choose_precision(precision, device),
        channels_last=record["channels_last"],
    )
    layout = torch.channels_last if record["channels_last"] else torch.contiguous_format
    image_detector.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    transforms = transforms_from_text(record["data"]["val_transforms"])
    return TrainedDetector(image_detector, transforms, class_names, category_ids)


def _as_option(value: Any) -> Any:
    """A recorded setting as the constructor takes it: records hold lists in the place of tuples."""
    return tuple(value) if isinstance(value, list) else value
