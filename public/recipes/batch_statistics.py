"""Before a run: whether every norm has more than one value to take a variance of."""

import contextlib
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from public.config.run import RunConfig
from public.evaluation.complexity import without_numbers
from public.layers.evo_norm import EvoNormB0
from public.runtime.distributed import DistributedContext
from public.runtime.parallel import num_replicas


class _OneValueError(ValueError):
    """What ends the pass at the norm that has one value."""


def check_batch_statistics(
    network: nn.Module, config: RunConfig, context: DistributedContext, size: tuple[int, int]
) -> None:
    """Refuses a run whose first step torch would end: "Expected more than 1 value per channel when training".

    EvoNorm, which torch does not know, would divide by the root of a variance of 0 and soon have no finite loss.

    A training pass of shapes alone, on the meta device: it takes no memory, and leaves the network as it is.

    Args:
        network: takes images [B, 3, H, W].
        config: of the run.
        context: this process's place.
        size: H and W of the smallest training images, pixels.

    Raises:
        ValueError: naming the layer, the images in a forward pass, and what helps.
    """
    num_images = config.local_batch_size(context.size) // num_replicas(config.parallel, context)
    shared_by = context.size if config.sync_batch_norm else 1
    probe = without_numbers(network).train()
    for (name, layer), own in zip(probe.named_modules(), network.modules(), strict=True):
        trains = isinstance(own, EvoNormB0) and own.weight.requires_grad
        if trains or isinstance(layer, _BatchNorm | _InstanceNorm | nn.GroupNorm):
            layer.register_forward_pre_hook(partial(_check, name))
    try:
        # A network that cannot be run without numbers is not judged; with them, torch judges.
        with contextlib.suppress(RuntimeError, NotImplementedError), torch.no_grad():
            probe(torch.empty(num_images * shared_by, 3, *size, device="meta"))
    except _OneValueError as error:
        raise ValueError(
            _sentence(config, context, f"{num_images} image(s) of {size[1]}x{size[0]} pixels", error)
        ) from error


@contextlib.contextmanager
def telling_of_batch_statistics(config: RunConfig, context: DistributedContext) -> Iterator[None]:
    """Around a step: the same sentence, where images came out smaller than `check_batch_statistics` was told.

    Raises:
        ValueError: in the place of torch's own.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected more than 1 "):
            raise
        raise ValueError(_sentence(config, context, "too small an image", f"by torch: {error}")) from error


def _sentence(config: RunConfig, context: DistributedContext, images: str, why: object) -> str:
    parts = f"{context.size} processes x {config.accumulation_steps} accumulation steps"
    return (
        f"batch_size={config.batch_size} over {parts} gives {images} in a forward pass, and {why}. Give a larger "
        "--batch-size, or fewer processes or --accumulation-steps, so that there are at least 2 images in a pass, or "
        "larger images (--data.input-size, where the transforms go by it) if its map grows."
    )


def _check(name: str, layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
    """Before a norm: how many values it takes each variance of, by torch's own count."""
    num_images, channels, *map_size = inputs[0].shape
    num_values = math.prod(map_size)
    if isinstance(layer, _BatchNorm | EvoNormB0):
        num_values *= num_images
    elif isinstance(layer, nn.GroupNorm):
        num_values *= num_images * channels // layer.num_groups
    if layer.training and num_values == 1:
        kind = type(layer).__name__
        raise _OneValueError(f"the norm {name} ({kind}) then has one value per channel, too few for a variance")
