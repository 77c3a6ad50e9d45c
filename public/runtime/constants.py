"""Numbers that the host knows, as tensors of a device."""

from typing import Any

import torch
from torch import Tensor


def tensor_on(device: torch.device, values: Any, dtype: torch.dtype | None = None) -> Tensor:
    """As `torch.tensor(values, dtype=dtype, device=device)`, without waiting for a GPU.

    torch's own copies as `Tensor.to` does by default: it waits until the GPU has done all that was queued before.
    What is copied lies in ordinary memory, of which CUDA takes its copy before the call returns: the tensor may go.
    """
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)
