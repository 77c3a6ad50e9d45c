"""What is put around a training module so that it runs on the devices of a run."""

from importlib import import_module

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from public.runtime.distributed import DistributedContext


def check_sync_batch_norm(sync_batch_norm: bool, context: DistributedContext) -> None:
    """Refuses synchronized batch norm where torch has none; to be called before any data is touched."""
    if sync_batch_norm and context.device.type == "cpu":
        raise ValueError("sync_batch_norm=True needs GPUs: torch's SyncBatchNorm does not run on a CPU.")


def check_data_parallel(parallel: str, images_per_pass: int, context: DistributedContext) -> None:
    """Refuses parts of unequal size: nn.DataParallel's mean of their means would weigh images unequally."""
    num_gpus = torch.cuda.device_count()
    if parallel == "data_parallel" and context.device.type == "cuda" and images_per_pass % max(1, num_gpus):
        raise ValueError(
            f"parallel='data_parallel': {images_per_pass} images in a forward pass (batch_size / accumulation_steps) "
            f"must be divisible by the {num_gpus} visible GPUs."
        )


def num_replicas(parallel: str, context: DistributedContext) -> int:
    """Into how many parts nn.DataParallel splits a process's batch; 1 without it."""
    uses_it = parallel == "data_parallel" and context.size == 1 and context.device.type == "cuda"
    return max(1, torch.cuda.device_count()) if uses_it else 1


def _synchronize_batch_norms(module: nn.Module) -> None:
    """torch's conversion, in place; timm's where it has norms of its own, whose activations torch's would lose."""
    convert = nn.SyncBatchNorm.convert_sync_batchnorm
    if any(type(layer).__module__.startswith("timm.") for layer in module.modules()):
        convert = import_module("timm.layers").convert_sync_batchnorm
    convert(module)


def wrap(
    module: nn.Module,
    context: DistributedContext,
    *,
    sync_batch_norm: bool,
    parallel: str,
    compiled: bool,
    channels_last: bool,
) -> nn.Module:
    """Moves a training module to its device and wraps it for all of the run's devices.

    Args:
        module: takes a batch and gives losses; its state stays reachable through the same object.
        context: this process's place.
        sync_batch_norm: batch norm statistics over all processes.
        parallel: 'distributed' or 'data_parallel'.
        compiled: make the module a graph, within whatever is put around it.
        channels_last: convert the weights' memory layout.

    Returns:
        What the training loop calls.
    """
    if sync_batch_norm and context.size > 1:
        _synchronize_batch_norms(module)
    module.to(context.device)
    if channels_last:
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if compiled:
        if context.size > 1:
            # Else torch cuts the graph where DDP's buckets are full, which fails where sizes are symbolic (2.14.1).
            # The gradients of a whole graph are exchanged when its backward pass is done.
            torch._dynamo.config.optimize_ddp = False
        module.compile()
    wrapped: nn.Module = module
    if context.size > 1:
        device_ids = [context.device.index] if context.device.type == "cuda" else None
        wrapped = DistributedDataParallel(module, device_ids=device_ids, gradient_as_bucket_view=True)
    elif num_replicas(parallel, context) > 1:
        wrapped = DataParallel(module)
    return wrapped
