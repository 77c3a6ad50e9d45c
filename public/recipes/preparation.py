"""What a step of image classification does before its forward pass, by the number of the step alone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from public.backbones.features import Backbone
from public.config.classification import ClassificationConfig
from public.datasets.batches import ClassificationBatch
from public.layers.drop_block import DropBlock, add_drop_block
from public.transforms.mixing import Mixing

Prepare = Callable[[list[ClassificationBatch], int], list[Sequence[Tensor]]]


def preparation(config: ClassificationConfig, network: Backbone, steps_per_epoch: int) -> Prepare:
    """What is done to a batch before each step: it sets DropBlock's rate, shrinks the images and mixes them.

    All of it is a pure function of (config, step): a resumed run has nothing to take up.

    Args:
        config: the row.
        network: on its device and with its final norms; gets the row's DropBlock.
        steps_per_epoch: optimizer steps of an epoch.

    Raises:
        ValueError: DropBlock is asked of a network that has no place for it.
    """
    drop_blocks = _drop_blocks(config, network)
    mixup_alpha, cutmix_alpha, probability = config.mixing.mixup_alpha, config.mixing.cutmix_alpha, 1.0
    if config.mixing.probability is not None:
        probability = config.mixing.probability
    mixing = Mixing(mixup_alpha, cutmix_alpha, probability, seed=config.seed)

    def prepare(parts: list[ClassificationBatch], step: int) -> list[Sequence[Tensor]]:
        for layer, final_rate in drop_blocks:
            layer.rate.fill_(final_rate * step / (config.epochs * steps_per_epoch))
        size = config.train_size(step // steps_per_epoch)
        return [mixing(_shrunk(images, size, config.data.input_size), labels, step) for images, labels in parts]

    return prepare


def _drop_blocks(config: ClassificationConfig, network: Backbone) -> list[tuple[DropBlock, float]]:
    """DropBlock in the two deepest levels, each layer with its rate at the end of the run.

    Ghiasi et al. 2018, section 4.1: in ResNet's groups 3 and 4, which are c4 and c5. A quarter of the rate in the
    former, as in the authors' code (https://github.com/tensorflow/tpu).
    """
    if config.drop_block is None:
        return []
    size = 7 if config.drop_block_size is None else config.drop_block_size
    levels, rates = list(network.levels.values())[-2:], (config.drop_block / 4, config.drop_block)
    found = [
        (layer, rate)
        for level, rate in zip(levels, rates[-len(levels) :], strict=True)
        for path in level.modules
        for layer in add_drop_block(network.get_submodule(path), size)
    ]
    if not found:
        raise ValueError(f"drop_block={config.drop_block}: {config.network} has no norm behind which it could stand.")
    return found


def _shrunk(images: torch.Tensor, size: int, full_size: int) -> torch.Tensor:
    """uint8 [B, 3, full_size, full_size] -> float32 [B, 3, size, size], or as it is where that is its size."""
    if size == full_size:
        return images
    return interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
