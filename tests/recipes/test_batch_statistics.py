"""A norm with one value per channel is refused before the first step, which torch would end."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from public.backbones.catalog import build_backbone
from public.config.calls import SIZE, Call, Scaled
from public.layers.evo_norm import EvoNormB0
from public.recipes.batch_statistics import check_batch_statistics, telling_of_batch_statistics
from public.recipes.detection import DetectionTask
from public.runtime.distributed import DistributedContext
from public.transforms.detection import ShortSideResize
from tests.recipes.tiny_detection import TINY as TINY_DETECTION
from tests.recipes.tiny_experiment import TINY


def processes(number: int) -> DistributedContext:
    """The first of so many."""
    return DistributedContext(rank=0, size=number, device=torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "size", "batch_size", "num_processes", "accumulation", "layer"),
    [
        ("resnest50", 64, 1, 1, 1, "layer1.0.conv2.bn1"),  # norms what it has pooled to 1x1
        ("resnest50", 64, 2, 2, 1, "layer1.0.conv2.bn1"),
        ("resnest50", 64, 4, 1, 4, "layer1.0.conv2.bn1"),
        ("resnet18", 32, 1, 1, 1, "layer4.0.downsample.1"),  # 32 / 32 = 1
        ("resnet18", 32, 2, 1, 1, None),
        ("resnet18", 33, 1, 1, 1, None),  # ceil(33 / 32) = 2
    ],
)
def test_one_image_in_a_pass(
    network: str, size: int, batch_size: int, num_processes: int, accumulation: int, layer: str | None
) -> None:
    """The layer and the images are named where torch's own training pass fails, and only there."""
    config = replace(TINY, batch_size=batch_size, accumulation_steps=accumulation)
    module, context = build_backbone(network, num_classes=3), processes(num_processes)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    if layer is None:
        check_batch_statistics(module, config, context, (size, size))
        module.train()(torch.randn(batch_size // num_processes // accumulation, 3, size, size))
        return
    words = (
        rf"{num_processes} processes x {accumulation} accumulation steps gives 1 image.* norm {layer} \(BatchNorm2d\)"
    )
    with pytest.raises(ValueError, match=rf"^batch_size={batch_size} over {words} .*--batch-size.*"):
        check_batch_statistics(module, config, context, (size, size))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        module.train()(torch.randn(1, 3, size, size))


def norms(layer: nn.Module) -> nn.Module:
    """A network that pools to 1x1 before a norm."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), layer)


@pytest.mark.parametrize(
    ("build", "batch_size", "is_refused"),
    [
        (lambda: nn.BatchNorm2d(3), 1, True),
        (lambda: nn.BatchNorm2d(3), 2, False),
        (lambda: nn.InstanceNorm2d(3), 2, True),  # takes no other image's values
        (lambda: nn.GroupNorm(1, 3), 1, False),  # three values: one of each channel
        (lambda: nn.GroupNorm(3, 3), 1, True),
    ],
)
def test_which_norms_take_statistics(build: Callable[[], nn.Module], batch_size: int, is_refused: bool) -> None:
    """As torch has it: whatever it would end is refused, and nothing else."""
    network, config = norms(build()), replace(TINY, batch_size=batch_size)
    outcomes = []
    for attempt in (
        lambda: check_batch_statistics(network, config, processes(1), (8, 8)),
        lambda: network.train()(torch.randn(batch_size, 3, 8, 8)),
    ):
        try:
            attempt()
            outcomes.append(False)
        except ValueError:
            outcomes.append(True)
    assert outcomes == [is_refused] * 2


def test_evo_norm() -> None:
    """Its batch variance would be 0; frozen, it takes the running one."""
    layer = EvoNormB0(3)
    with pytest.raises(ValueError, match=r"the norm 1 \(EvoNormB0\) then has one value per channel"):
        check_batch_statistics(norms(layer), replace(TINY, batch_size=1), processes(1), (8, 8))
    check_batch_statistics(norms(layer), replace(TINY, batch_size=2), processes(1), (8, 8))
    layer.weight.requires_grad_(False)
    check_batch_statistics(norms(layer), replace(TINY, batch_size=1), processes(1), (8, 8))


def test_synchronized_statistics_are_over_all_processes() -> None:
    """One image in each of two: two values."""
    config = replace(TINY, batch_size=2, sync_batch_norm=True)
    check_batch_statistics(norms(nn.BatchNorm2d(3)), config, processes(2), (8, 8))


@pytest.mark.slow
@pytest.mark.parametrize(("frozen", "side", "is_refused"), [(False, 32, True), (True, 32, False), (False, 64, False)])
def test_detectors_on_small_canvases(frozen: bool, side: int, is_refused: bool) -> None:
    """The deepest level of MobileNetV2 at 32 pixels is 1x1; frozen statistics take nothing of the batch."""
    data: Any = replace(TINY_DETECTION.data, input_size=side)
    detector = replace(TINY_DETECTION.detector, frozen_batch_norm=frozen)
    config = replace(TINY_DETECTION, batch_size=1, data=data, detector=detector)
    images: Any = SimpleNamespace(annotations=SimpleNamespace(sizes=np.array([[30, 40]])))
    size = DetectionTask.smallest_size(config, images)
    assert size == (side, side)  # of 32 and 48, or 64 and 96
    network = DetectionTask.build_network(config, 3)
    if is_refused:
        with pytest.raises(ValueError, match=r"1 image\(s\) of 32x32 pixels .*BatchNorm2d"):
            check_batch_statistics(network, config, processes(1), size)
    else:
        check_batch_statistics(network, config, processes(1), size)


@pytest.mark.parametrize(
    ("sizes", "short", "expected"),
    [
        ([[64, 96]], 32, (32, 64)),  # 32 x 48, padded
        ([[64, 96]], 24, (32, 64)),  # 24 x 36
        ([[64, 96], [64, 64]], 32, (32, 32)),
        ([[64, 64], [300, 20]], 32, (32, 32)),  # 96 x 6
    ],
)
def test_the_smallest_canvas_is_of_the_images_that_there_are(
    sizes: list[list[int]], short: int, expected: tuple[int, int]
) -> None:
    resize = Call(ShortSideResize, short=SIZE, long_cap=Scaled(96, of=32))
    data: Any = replace(TINY_DETECTION.data, input_size=short, train_transforms=(resize,))
    images: Any = SimpleNamespace(annotations=SimpleNamespace(sizes=np.array(sizes)))
    assert DetectionTask.smallest_size(replace(TINY_DETECTION, data=data), images) == expected


def test_a_step_on_smaller_images_says_the_same() -> None:
    """Crops, or transforms that do not go by the size of the data."""
    config, values = replace(TINY, batch_size=1), torch.randn(1, 3, 1, 1)
    words = r"^batch_size=1 over .* too small an image in a forward pass, .*\[1, 3, 1, 1\].*--batch-size"
    with pytest.raises(ValueError, match=words), telling_of_batch_statistics(config, processes(1)):
        nn.BatchNorm2d(3)(values)
    with pytest.raises(ValueError, match="another"), telling_of_batch_statistics(config, processes(1)):
        raise ValueError("another")
