"""What is put around a training module; one CPU needs nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from public.runtime.distributed import World
from public.runtime.parallel import check_sync_batch_norm, wrap

PLAIN = {"sync_batch_norm": False, "parallel": "distributed", "compiled": False, "channels_last": False}


def wrapped(module: nn.Module, world: World, **options: Any) -> nn.Module:
    """With everything switched off but what is stated."""
    arguments: dict[str, Any] = PLAIN | options
    return wrap(module, world, **arguments)


def test_one_process_on_the_cpu_is_left_bare(world: World) -> None:
    """For data_parallel too: there are no GPUs to spread over."""
    module = nn.Conv2d(3, 4, 3)
    assert wrapped(module, world) is module
    assert wrapped(module, world, parallel="data_parallel") is module


def test_channels_last(world: World) -> None:
    """The convolution's weights change their layout."""
    module = nn.Conv2d(3, 4, 3)
    wrapped(module, world, channels_last=True)
    assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_synchronised_batch_norm_needs_gpus(world: World) -> None:
    """Refused on a CPU, where torch has none."""
    check_sync_batch_norm(False, world)
    check_sync_batch_norm(True, replace(world, device=torch.device("cuda")))
    with pytest.raises(ValueError, match="sync_batch_norm=True needs GPUs"):
        check_sync_batch_norm(True, world)
