"""A trained detector with all that it takes to use it: a checkpoint of ours knows its network, canvas and classes.

detect = load_detector("best.pth")
found = detect("street.jpg")            # boxes, scores, labels, names
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from public.config.calls import build_all
from public.config.checks import require
from public.config.detection import DetectionConfig
from public.datasets.batches import DetectionBatch, ImageSizes
from public.datasets.decoding import read_pixels
from public.datasets.detection_loaders import LoadedImage, checked_transforms, collate, on_larger_canvas
from public.detectors.catalog import build_from_options
from public.detectors.detector import Detector, ImageDetector
from public.geometry.labels import PADDING
from public.runtime.device import choose_device, choose_precision, memory_format
from public.transforms.detection import DetectionSample, DetectionTransform
from public.weights.loading import load_trained
from public.weights.reading import WeightsSource
from public.weights.trained import Trained, open_trained, require_usual_task


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

    canvas: tuple[int, int] | None = None
    """Height and width of every canvas, pixels, where it is always the same; None: as small as its pictures allow."""

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

    def __call__(self, image: str | Path | np.ndarray, score_threshold: float = 0.0) -> Found:
        """Detects in one image.

        Args:
            image: a file, or uint8 [H, W, 3] red green blue.
            score_threshold: 0..1; weaker detections are skipped (beside those that the network leaves out itself).

        Raises:
            OSError: the file is missing, or no image.
            ValueError: the array is not of this kind, or the threshold no score.
        """
        require(0 <= score_threshold <= 1, f"score_threshold={score_threshold} must lie in 0..1.")
        pixels = checked_pixels(image) if isinstance(image, np.ndarray) else read_pixels(Path(image))
        return self.detect([self.prepare(pixels)], score_threshold)[0]

    def prepare(self, pixels: np.ndarray) -> LoadedImage:
        """An image uint8 [H, W, 3] as it comes onto the canvas; any thread may do this."""
        size = (pixels.shape[0], pixels.shape[1])
        sample = DetectionSample(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), size)
        for transform in self.transforms:
            sample = transform(sample, np.zeros(0))
        return LoadedImage(sample, size, 0)

    def canvas_size(self, prepared: LoadedImage) -> tuple[int, int]:
        """Height and width of an image's canvas, pixels."""
        if self.canvas is not None:
            return self.canvas
        height, width = (
            -(-side // self.canvas_multiple) * self.canvas_multiple for side in prepared.sample.image.shape[:2]
        )
        return height, width

    def gather(self, prepared: Sequence[LoadedImage]) -> tuple[torch.Tensor, ImageSizes]:
        """Images on their canvas, uint8 [B, 3, H, W], and their sizes."""
        batch: DetectionBatch = collate(prepared, canvas_multiple=self.canvas_multiple)
        return batch.images if self.canvas is None else on_larger_canvas(batch.images, self.canvas), batch.sizes

    @torch.inference_mode()
    def detect(self, prepared: Sequence[LoadedImage], score_threshold: float = 0.0) -> list[Found]:
        """Detects in images at once. They should have canvases of one size: else what lies around the smaller ones
        is larger than it would be alone."""
        images, sizes = self.gather(prepared)
        found = self.image_detector(images.to(self.device), ImageSizes(*(size.to(self.device) for size in sizes)))
        columns = (field.cpu().numpy() for field in found)
        return [self._found(*row, score_threshold=score_threshold) for row in zip(*columns, strict=True)]

    @property
    def canvas_multiple(self) -> int:
        """What heights and widths of canvases are multiples of, pixels."""
        return getattr(self.transforms[-1], "canvas_multiple", 1)

    def _found(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, *, score_threshold: float) -> Found:
        """One image's rows without those that only fill up, or are too weak."""
        shown = (labels != PADDING) & (scores >= score_threshold)
        return Found(boxes[shown], scores[shown], labels[shown], [self.class_names[i] for i in labels[shown].tolist()])


def checked_pixels(image: np.ndarray) -> np.ndarray:
    """The array, if it is an image; raises ValueError unless it is uint8 [H, W, 3]."""
    is_image = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0
    kind = f"{image.dtype} {list(image.shape)}"
    require(is_image, f"an image was given as {kind}; expected is uint8 [height, width, 3], red green blue.")
    return np.ascontiguousarray(image)


def load_detector(
    path: str | Path, *, device: str = "auto", precision: str = "fp32", experiment: str | Path | None = None
) -> TrainedDetector:
    """The detector of one of our checkpoints.

    Args:
        path: latest.pth or best.pth of a detection run.
        device: 'auto' (the GPU where there is one), 'cpu' or 'cuda'.
        precision: 'fp32', 'bf16', 'fp16', or 'auto' as in training.
        experiment: the folder of an experiment with transforms of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of one of our detection runs.
    """
    return detector_of(open_trained(path, experiment), device=device, precision=precision)


def detector_of(trained: Trained, *, device: str, precision: str) -> TrainedDetector:
    """The detector of an opened checkpoint; the rest as in `load_detector`."""
    require_usual_task(trained)
    config = trained.config
    if not isinstance(config, DetectionConfig):
        raise ValueError(f"{trained.path} is the checkpoint of a {config.network} classifier; expected a detector's.")
    return assemble_detector(
        build_from_options(len(trained.class_names), config.detector),
        config,
        trained.state,
        trained.class_names,
        trained.category_ids,
        device=choose_device(device),
        precision=precision,
    )


def assemble_detector(
    detector: Detector,
    config: DetectionConfig,
    weights: WeightsSource,
    class_names: list[str],
    category_ids: list[int] | None,
    *,
    device: torch.device,
    precision: str,
) -> TrainedDetector:
    """A detector with its weights, on its device, with what the config does to images.

    Args:
        detector: with new weights.
        config: whose data's normalization, layout and evaluation transforms are used.
        weights: of any kind that `load_weights` reads.
        class_names: of the labels.
        category_ids: the data set's own number of each class; None: counted from 1.
        device: of this process, where there are several: each has its own GPU.
        precision: 'fp32', 'bf16', 'fp16', or 'auto' as in training.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they do not fit.
    """
    load_trained(detector, weights, detector.class_prefixes, class_names)
    data, dtype = config.data, choose_precision(precision, device)
    image_detector = ImageDetector(
        detector, mean=data.mean, std=data.std, dtype=dtype, channels_last=config.channels_last
    )
    image_detector.to(device, memory_format=memory_format(config.channels_last))  # pyright: ignore[reportCallIssue]
    transforms = checked_transforms(
        "data.val_transforms", build_all(data.val_transforms, data.input_size), random=False
    )
    return TrainedDetector(image_detector, transforms, class_names, category_ids)
