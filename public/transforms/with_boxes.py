"""torchvision's v2 transforms in the place of a detection transform: they know boxes, and draw by themselves.

The adapter gives one a picture, its boxes and labels, and seeds torch's generator with a draw of the sample's own: the
same picture comes whatever was drawn before, and from any worker. Labels follow their boxes, also those below 0 (crowds
and difficult objects, which torchvision's transforms treat as any other). Boxes are clipped to the picture; those that
a transform empties, as RandomIoUCrop does with what it cuts off, are left out with their labels.
"""

import random
from typing import Any, ClassVar

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from public.config.names import first_line
from public.runtime.seeding import drawing_for
from public.transforms.detection import DetectionSample, kept_boxes


class WithBoxes:
    """A v2 transform as a `DetectionTransform`.

    Args:
        transform: of images and boxes, or of images alone that moves no pixel: RandomIoUCrop, RandomZoomOut,
            ScaleJitter, RandomPhotometricDistort, RandomHorizontalFlip, ColorJitter, ...
    """

    num_draws: ClassVar[int] = 1
    per_batch: ClassVar[bool] = False

    def __init__(self, transform: v2.Transform) -> None:
        self.transform = transform

    def __repr__(self) -> str:
        return repr(self.transform)

    def __call__(self, sample: DetectionSample, draws: np.ndarray) -> DetectionSample:
        """Image [H, W, 3] -> [H', W', 3].

        Raises:
            ValueError: the transform gives something else than one picture of 8 bits with its boxes and labels.
        """
        size = (sample.image.shape[0], sample.image.shape[1])
        of_boxes: dict[str, Any] = {"format": tv_tensors.BoundingBoxFormat.XYXY, "canvas_size": size}
        boxes: Any = tv_tensors.BoundingBoxes(torch.from_numpy(sample.boxes.copy()), **of_boxes)
        picture = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)
        given = {"image": tv_tensors.Image(picture), "boxes": boxes, "labels": torch.from_numpy(sample.labels.copy())}
        with drawing_for(0, 0, int(draws[0] * 2**53)):
            found = self.transform(given)
        image = found["image"]
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"it gives pixels {image.dtype} {list(image.shape)}, expected torch.uint8 [3, H, W]")
        if len(found["boxes"]) != len(found["labels"]):
            raise ValueError(f"it gives {len(found['boxes'])} boxes and {len(found['labels'])} labels")
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        return kept_boxes(pixels, np.asarray(found["boxes"], dtype=np.float32), found["labels"].numpy())


def with_boxes(transform: v2.Transform) -> WithBoxes:
    """The transform as one of a detection's, after it was tried on a small picture.

    Raises:
        ValueError: it cannot work on a picture and its boxes, or draws from elsewhere than torch's generator.
    """
    adapted = WithBoxes(transform)
    image = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8)
    boxes = np.array([[2, 3, 30, 40], [10, 20, 60, 47], [40, 1, 50, 11]], dtype=np.float32)
    sample = DetectionSample(image, boxes, np.array([0, 1, -1]), (48, 64))
    try:
        states = random.getstate(), str(np.random.get_state())  # noqa: NPY002
        for draw in np.linspace(0, 1, 8, endpoint=False):
            adapted(sample, np.array([draw]))
        others = random.getstate(), str(np.random.get_state())  # noqa: NPY002
    except Exception as error:  # whatever a transform raises that was made for something else
        raise ValueError(f"{transform!r} does not work on a picture and its boxes: {first_line(error)}") from error
    if states != others:
        raise ValueError(f"{transform!r} draws from other generators than torch's: its samples could not be repeated")
    return adapted
