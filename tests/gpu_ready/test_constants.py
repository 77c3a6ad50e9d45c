"""What the host sends to a GPU in a step is not waited for: fake tensors on cuda, see test_training_step.py."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.host_waits import HostWaits
from public.datasets.cifar100 import Cifar100, CifarTrainLoader
from public.datasets.detection_loaders import on_larger_canvas
from public.detectors.centernet.decode import _on_images
from public.geometry.anchors import pyramid_anchors
from public.geometry.points import point_grid
from public.transforms.batch import BatchCutout, BatchRandomCrop, BatchRandomErasing, BatchRandomHorizontalFlip
from tests.gpu_ready.test_training_step import faking

CUDA, STRIDES = torch.device("cuda"), (8, 16, 32)


def images_on(device: torch.device) -> torch.Tensor:
    return torch.zeros(8, 3, 32, 32, dtype=torch.uint8, device=device)


def cifar_batch() -> None:
    """What the loader does for each step."""
    data = Cifar100(images_on(torch.device("cpu")), torch.zeros(8, dtype=torch.int64), [])
    transforms = (BatchRandomCrop(size=32, padding=4), BatchRandomHorizontalFlip())
    loader = CifarTrainLoader(data, transforms, batch_size=4, seed=0)
    loader.images, loader.labels = images_on(CUDA), torch.zeros(8, dtype=torch.int64, device=CUDA)
    loader._batch(np.zeros(4, dtype=np.int64), np.arange(4))


@pytest.mark.parametrize(
    "work",
    [
        lambda: on_larger_canvas(images_on(CUDA), (64, 48)),
        lambda: BatchRandomErasing()(images_on(CUDA), torch.zeros(8, 41, device=CUDA)),
        lambda: BatchCutout(size=8)(images_on(CUDA), torch.zeros(8, 2, device=CUDA)),
        cifar_batch,
        lambda: pyramid_anchors((64, 96), STRIDES, (32.0, 64.0, 128.0), CUDA),
        lambda: point_grid((64, 96), STRIDES, CUDA),
        lambda: _on_images(torch.zeros(2, 3, 8, 8, device=CUDA), 4, torch.full((2, 1, 2), 32)),  # sizes on the host
    ],
    ids=["canvas", "erasing", "cutout", "cifar", "anchors", "points", "sizes"],
)
def test_nothing_is_waited_for(work: Callable[[], object]) -> None:
    with faking(), HostWaits() as waits:
        work()
    assert waits.num_operators > 0
    assert not waits.waits


def test_a_copy_that_is_waited_for_is_counted() -> None:
    """To a GPU in torch's usual way, and to the host in any."""
    with faking(), HostWaits() as waits:
        there = torch.zeros(2).to(CUDA)
        there.copy_(torch.ones(2))
        there.copy_(torch.ones(2), non_blocking=True)
        there.to("cpu", non_blocking=True)
        torch.zeros(2).to(CUDA, non_blocking=True)
    assert dict(waits.waits) == {"_to_copy": 2, "copy_": 1}
