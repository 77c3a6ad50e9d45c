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
from public.weights.loading import load_trained
from public.weights.reading import WeightsSource
from public.weights.trained import Trained, open_trained, require_usual_task


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

    def __call__(self, image: str | Path | np.ndarray) -> np.ndarray:
        """The probability of each class, float32 [C].

        Args:
            image: a file, or uint8 [H, W, 3] red green blue.

        Raises:
            OSError: the file is missing, or no image.
        """
        return self.classify([self.prepare(image if isinstance(image, np.ndarray) else read_pixels(Path(image)))])[0]

    def prepare(self, pixels: np.ndarray) -> torch.Tensor:
        """An image uint8 [H, W, 3] as the network sees it, uint8 [3, h, w]; any thread may do this."""
        shown: Any = Image.fromarray(pixels) if self.on_pil else torch.from_numpy(pixels).permute(2, 0, 1)  # [3, H, W]
        for transform in self.transforms:
            shown = transform(shown)
        return shown if isinstance(shown, torch.Tensor) else functional.pil_to_tensor(shown)

    @torch.inference_mode()
    def classify(self, prepared: Sequence[torch.Tensor]) -> np.ndarray:
        """The probabilities of images of one size at once, float32 [B, C]."""
        return self.image_classifier(torch.stack(list(prepared)).to(self.device)).softmax(dim=1).cpu().numpy()


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
    return classifier_of(open_trained(path, experiment), device=device, precision=precision)


def classifier_of(trained: Trained, *, device: str, precision: str) -> TrainedClassifier:
    """The classifier of an opened checkpoint; the rest as in `load_classifier`."""
    require_usual_task(trained)
    config = trained.config
    if not isinstance(config, ClassificationConfig):
        raise ValueError(f"{trained.path} is the checkpoint of a {config.network} detector; expected a classifier's.")
    return assemble_classifier(
        config, trained.state, trained.class_names, device=choose_device(device), precision=precision
    )


def assemble_classifier(
    config: ClassificationConfig,
    weights: WeightsSource,
    class_names: list[str],
    *,
    device: torch.device,
    precision: str,
) -> TrainedClassifier:
    """A config's network with its weights, on its device, with what the config does to images.

    Args:
        config: whose network, normalization, layout and evaluation transforms are used.
        weights: of any kind that `load_weights` reads.
        class_names: of the labels.
        device: of this process, where there are several: each has its own GPU.
        precision: 'fp32', 'bf16', 'fp16', or 'auto' as in training.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they do not fit.
    """
    network = build_from_options(config.network, len(class_names), config.network_options)
    load_trained(network, weights, network.classifier_prefix, class_names)
    data, dtype = config.data, choose_precision(precision, device)
    classifier = ImageClassifier(network, mean=data.mean, std=data.std, dtype=dtype, channels_last=config.channels_last)
    classifier.to(device, memory_format=memory_format(config.channels_last))  # pyright: ignore[reportCallIssue]
    transforms, on_pil = build_all(data.val_transforms, data.input_size), getattr(data, "decoder", None) == "pil"
    return TrainedClassifier(classifier, transforms, class_names, on_pil=on_pil)
