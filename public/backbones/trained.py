"""A trained classifier with all it takes to use it: a checkpoint of ours knows its network, transforms and classes.

classify = load_classifier("best.pth")
probabilities = classify("cat.jpg")         # float32 [C], in the order of classify.class_names
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from public.backbones.build import build_from_options
from public.backbones.classifier import ImageClassifier
from public.config.calls import build_all
from public.config.classification import ClassificationConfig
from public.datasets.decoding import read_pixels
from public.runtime.device import choose_device, choose_precision, memory_format
from public.weights.loading import load_weights
from public.weights.trained import open_trained, require_usual_task


class TrainedClassifier:
    """Images in, probabilities out.

    Args:
        image_classifier: on its device; put into evaluation mode.
        transforms: those of evaluation, of one uint8 image [3, H, W].
        class_names: of the labels.
        on_pil: whether the transforms are given PIL images, as data with decoder="pil" gives them.
    """

    def __init__(
        self,
        image_classifier: ImageClassifier,
        transforms: Sequence[Callable[[Any], Any]],
        class_names: list[str],
        *,
        on_pil: bool = False,
    ) -> None:
        self.image_classifier, self.transforms = image_classifier.eval(), tuple(transforms)
        self.class_names, self.on_pil = class_names, on_pil

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.image_classifier.parameters()).device

    @torch.inference_mode()
    def __call__(self, image: str | Path | np.ndarray) -> np.ndarray:
        """The probability of each class, float32 [C].

        Args:
            image: a file, or uint8 [H, W, 3] red green blue.

        Raises:
            OSError: the file is missing, or no image.
        """
        pixels = image if isinstance(image, np.ndarray) else read_pixels(Path(image))
        shown: Any = Image.fromarray(pixels) if self.on_pil else torch.from_numpy(pixels).permute(2, 0, 1)  # [3, H, W]
        for transform in self.transforms:
            shown = transform(shown)
        tensor = shown if isinstance(shown, torch.Tensor) else functional.pil_to_tensor(shown)
        return self.image_classifier(tensor[None].to(self.device)).softmax(dim=1)[0].cpu().numpy()


def load_classifier(
    path: str | Path, *, device: str = "auto", precision: str = "fp32", experiment: str | Path | None = None
) -> TrainedClassifier:
    """The classifier of one of our checkpoints.

    Args:
        path: latest.pth or best.pth of a classification run.
        device: 'auto' (the GPU where there is one), 'cpu' or 'cuda'.
        precision: 'fp32', 'bf16', 'fp16', or 'auto' as in training.
        experiment: the folder of an experiment with transforms of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of one of our classification runs.
    """
    trained = open_trained(path, experiment)
    require_usual_task(trained)
    config = trained.config
    if not isinstance(config, ClassificationConfig):
        raise ValueError(f"{path} is the checkpoint of a {config.network} detector; expected a classifier's.")
    network = build_from_options(config.network, len(trained.class_names), config.network_options)
    load_weights(network, trained.state)
    data, where = config.data, choose_device(device)
    classifier = ImageClassifier(
        network,
        mean=data.mean,
        std=data.std,
        dtype=choose_precision(precision, where),
        channels_last=config.channels_last,
    )
    classifier.to(where, memory_format=memory_format(config.channels_last))  # pyright: ignore[reportCallIssue]
    transforms, on_pil = build_all(data.val_transforms, data.input_size), getattr(data, "decoder", None) == "pil"
    return TrainedClassifier(classifier, transforms, trained.class_names, on_pil=on_pil)
