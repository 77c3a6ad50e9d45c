"""torch.compile of a task: its network, targets and losses without a break, for canvases of any size."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel

from public.backbones.catalog import build_backbone
from public.config.classification import ClassificationConfig
from public.datasets.batches import DetectionBatch
from public.datasets.imagenet import ImageFolderData
from public.detectors.catalog import build_detector
from public.detectors.detector import Detector
from public.geometry.labels import IGNORED, PADDING
from public.optim.options import CosineOptions, SGDOptions
from public.recipes.classification import ClassificationTask
from public.recipes.detection import DetectionTask, with_common_rows
from public.runtime.distributed import DistributedContext
from public.runtime.parallel import wrap
from tests.detectors.reference import Objects, batch_of
from tests.recipes.tiny_detection import TINY

CANVASES = ((256, 256), (288, 416), (600, 257))
LEVELS: dict[str, Any] = {"levels": ("p4", "p5"), "channels": 8, "num_convs": 1}
DETECTORS: dict[str, dict[str, Any]] = {
    "retinanet": LEVELS,
    "fcos": LEVELS,
    "centernet": {"upsample_channels": (8, 8, 8), "head_channels": 8},
}
BACKEND = "aot_eager"
"""Needs no compiler. Of whole ResNets see benchmarks/one_graph.py."""
WIDTH = 768
"""Of a convolution that fills more than DDP's first bucket of gradients, 1 MB: torch may not cut the graph there."""


class Strided(nn.Module):
    """Images -> maps of some strides, in the place of a backbone whose graph takes long to make."""

    def __init__(self, strides: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, channels, 3, stride=s, padding=1) for s in strides)
        self.wide = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, channels, 1)
        )
        self.strides = strides

    def forward(self, images: Tensor) -> Any:
        maps = [conv(images) for conv in self.convs]
        maps[-1] = maps[-1] + self.wide(maps[-1])
        return maps if len(maps) > 1 else maps[0]


def small_detector(name: str) -> Detector:
    torch.manual_seed(0)
    detector = build_detector(name, 3, backbone="mobilenet_v2", **DETECTORS[name])
    channels = detector.body.channels
    detector.backbone = Strided((32,), channels["c5"]) if name == "centernet" else Strided((16, 32), 8)
    return detector


def task_of(detector: Detector) -> DetectionTask:
    """As a run on one CPU has it."""
    task = DetectionTask(detector, replace(TINY, channels_last=False), torch.float32)
    task._context = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    return task


def batch_on(canvas: tuple[int, int], num_objects: int) -> DetectionBatch:
    """Two images, with objects of many sizes in the first alone, and a region to ignore."""
    objects: Objects = [((3 * i, 2 * i, 3 * i + 9 + 7 * i, 2 * i + 20 + 5 * i), i % 3) for i in range(num_objects)]
    torch.manual_seed(num_objects)
    return batch_of([objects, [((100, 100, 200, 250), IGNORED)]], canvas)


def losses_and_gradients(task: nn.Module, inputs: Any) -> dict[str, Tensor]:
    task.zero_grad()
    losses = task(*inputs)
    torch.stack(list(losses.values())).sum().backward()
    return losses | {name.removeprefix("module."): p.grad for name, p in task.named_parameters() if p.grad is not None}


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of one process; afterwards torch compiles as it did before."""
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    with torch._dynamo.config.patch(optimize_ddp=torch._dynamo.config.optimize_ddp):
        yield
    torch.distributed.destroy_process_group()
    torch.compiler.reset()


def wrapped_for_two(task: nn.Module, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, CompileCounterWithBackend]:
    """A task as a process of two has it, and the graphs that are made of it; the other process is left out."""
    graphs = CompileCounterWithBackend(BACKEND)
    monkeypatch.setattr(task, "compile", functools.partial(task.compile, fullgraph=True, backend=graphs), raising=False)
    context = DistributedContext(rank=0, size=2, device=torch.device("cpu"))
    around = wrap(task, context, sync_batch_norm=False, parallel="distributed", compiled=True, channels_last=False)
    assert isinstance(around, DistributedDataParallel)
    return around, graphs


# DDP says once in a process that the strides of a 1x1 kernel's gradient are others, where they have no meaning.
@pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detectors_task_is_one_graph_for_all_canvases(
    name: str, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside DDP, and its targets are one more. Targets, losses and gradients are those without."""
    detector = small_detector(name)
    task, plain = task_of(detector), task_of(detector)
    wrapped, graphs = wrapped_for_two(task, monkeypatch)
    for canvas, num_objects in zip(CANVASES, (1, 9, 20), strict=True):
        batch = batch_on(canvas, num_objects)
        (inputs,), (expected_inputs,) = task.prepare([batch], step=0), plain.prepare([batch], step=0)
        for ours, same in zip(inputs[1], expected_inputs[1], strict=True):
            assert torch.equal(ours[:, : same.shape[1]], same)
        found, expected = losses_and_gradients(wrapped, inputs), losses_and_gradients(plain, expected_inputs)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            # Of a bias before a norm the exact gradient is 0: what is left is rounding alone.
            atol = 5e-6 if key.endswith(".bias") else 1e-6
            torch.testing.assert_close(found[key], value, rtol=1e-6 if value.ndim == 0 else 1e-4, atol=atol)
    assert graphs.frame_count == 2


@pytest.mark.slow
def test_a_classifiers_task_is_one_graph_for_all_sizes(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside DDP, in training: one for the first size, one for all others. Losses and gradients are those without."""
    torch.manual_seed(0)
    data = ImageFolderData(folder="none", input_size=64, train_transforms=())
    config = ClassificationConfig(
        name="tiny", network="darknet_tiny", epochs=1, batch_size=2, data=data,
        optimizer=SGDOptions(lr=0.1, weight_decay=0.0), schedule=CosineOptions(),
    )  # fmt: skip
    network = build_backbone("darknet_tiny", num_classes=5)
    task, plain = (ClassificationTask(network, config, torch.float32) for _ in range(2))
    wrapped, graphs = wrapped_for_two(task, monkeypatch)
    for size in (64, 96, 128):
        inputs = torch.randint(256, (2, 3, size, size), dtype=torch.uint8), torch.tensor([1, 4])
        found, expected = losses_and_gradients(wrapped, inputs), losses_and_gradients(plain, inputs)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
    assert graphs.frame_count == 2


@pytest.mark.parametrize(("num_objects", "num_rows"), [(0, 8), (7, 8), (8, 16), (20, 32), (300, 512)])
def test_objects_are_filled_up_to_few_sizes(num_objects: int, num_rows: int) -> None:
    """To powers of 2, and none is left out."""
    batch = batch_on((64, 64), num_objects)
    filled, there = with_common_rows(batch), batch.labels.shape[1]
    assert filled.boxes.shape == (2, num_rows, 4)
    assert filled.labels.shape == (2, num_rows)
    assert torch.equal(filled.boxes[:, :there], batch.boxes)
    assert torch.equal(filled.labels[:, :there], batch.labels)
    assert (filled.labels[:, there:] == PADDING).all()
    assert (filled.labels >= 0).sum() == num_objects


def test_no_row_at_all_is_filled_up_too() -> None:
    batch = batch_on((64, 64), 0)
    filled = with_common_rows(batch._replace(boxes=batch.boxes[:, :0], labels=batch.labels[:, :0]))
    assert (filled.labels == PADDING).all()
    assert filled.labels.shape == (2, 8)
