"""A training step and decoding on a GPU that is not there: fake tensors on cuda, which have shapes and no values.

That they run shows that devices agree and that nothing depends on a value. What fake tensors cannot do is done on fake
tensors of the CPU: autograd (on fake cuda it asks for a driver) and autocast (which is off there). Where there is a GPU
the same list runs on it.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from benchmarks.host_waits import HostWaits
from public.backbones.catalog import build_backbone
from public.backbones.classifier import ImageClassifier
from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_detector, list_detectors
from public.detectors.detector import ImageDetector
from public.geometry import anchors, points
from public.geometry.fixed_shapes import fixed_shapes
from public.losses.classification import cross_entropy
from public.optim.ema import AveragedWeights
from tests.detectors.test_fixed_shapes import leaves_of
from tests.detectors.test_interface import SMALL

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WAITS = {"centernet": (0, 0), "faster_rcnn": (1, 2), "cascade_rcnn": (1, 2)}
"""Calls of `nms`, each of which is a host wait, in the losses and in decoding; of the others 0 and 1."""
REAL = pytest.param("real cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.fixture(params=["fake cuda", REAL])
def on_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fake tensors, if there is no GPU; anchors and points that were kept are of the one kind or the other."""
    with ExitStack() as stack:
        if request.param == "fake cuda":
            stack.enter_context(faking())
        yield


@pytest.fixture(params=["fake cpu", REAL])
def device_of_backward(request: pytest.FixtureRequest) -> Iterator[str]:
    """Fake tensors of the CPU, in the shapes of a GPU, if there is no GPU."""
    with ExitStack() as stack:
        if request.param == "fake cpu":
            stack.enter_context(faking())
            stack.enter_context(fixed_shapes())
        yield request.param.split()[-1]


def faking() -> ExitStack:
    """Tensors without values, and none kept from before or for later."""
    stack = ExitStack()
    for cache in (anchors._pyramid_anchors, points._point_grid):
        cache.cache_clear()
        stack.callback(cache.cache_clear)
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", "`create_unbacked_symint` is deprecated", FutureWarning)  # torchvision's nms
    warnings.filterwarnings("ignore", "CUDA is not available", UserWarning)  # autocast, which is off there
    stack.enter_context(FakeTensorMode(shape_env=ShapeEnv()))
    return stack


def detector_on(device: str, name: str) -> tuple[ImageDetector, DetectionBatch]:
    """A small detector, and two images with three objects each; modules can only be built on a fake device."""
    with torch.device(device):
        detector = build_detector(name, 3, backbone="resnet18", **SMALL[name])
        pixels: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1), "dtype": torch.float32}
        # A GPU's default, said because the fake CPU stands for a GPU too.
        model = ImageDetector(detector, **pixels, activation_checkpointing="norms")
        images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
        boxes = torch.zeros(2, 3, 4) + torch.arange(4) * 9
        labels, sizes, numbers = torch.zeros(2, 3, dtype=torch.int64), torch.full((2, 2), 64), torch.arange(2)
        return model, DetectionBatch(images, boxes, labels, sizes, sizes, numbers, numbers)


def update(network: nn.Module, other: nn.Module) -> None:
    """Clipping, optimizer steps and averaging, from whatever gradients there are; fake modules cannot be copied."""
    average = AveragedWeights(nn.Identity(), 0.9)
    average.network = other
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4).step()
    torch.optim.AdamW(network.parameters(), lr=0.1).step()
    average.update(network)
    average.update(network)


def assert_on_gpu(value: Any) -> None:
    """Every tensor of nested tuples and dictionaries."""
    if isinstance(value, Tensor):
        assert value.device.type == "cuda"
    elif isinstance(value, dict | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            assert_on_gpu(one)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_detectors())
def test_a_detector_on_a_gpu(on_gpu: None, name: str) -> None:
    """Targets, losses and decoding in three precisions, then the update."""
    model, batch = detector_on("cuda", name)
    detector: Any = model.detector
    of_losses, of_decoding = WAITS.get(name, (0, 1))
    for parameter in detector.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        detector.targets(batch)  # the anchors of a canvas are copied to the device once
        for model.dtype in DTYPES:
            with HostWaits() as waits:
                outputs = model.outputs(batch.images)
            assert not waits.waits
            cast = leaves_of(outputs, model.dtype)[0]  # as autocast does, which is off on a device that is not there
            with HostWaits() as waits:
                targets = detector.targets(batch)
                losses = detector.loss(cast, targets, detector.normalizer(targets))
            assert_on_gpu((tuple(targets), losses))
            assert dict(waits.waits) == ({"nms": of_losses} if of_losses else {})
            with HostWaits() as waits:
                detections = detector.decode(cast, batch.sizes)
            assert_on_gpu(tuple(detections))
            assert detections.boxes.shape == (2, detector.options.max_detections, 4)
            assert dict(waits.waits) == ({"nms": of_decoding} if of_decoding else {})
        update(detector, detector_on("cuda", name)[0].detector)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_detectors())
def test_a_detectors_backward_pass(device_of_backward: str, name: str) -> None:
    """In three precisions, by autocast; every parameter has a gradient of its own type."""
    model, batch = detector_on(device_of_backward, name)
    for model.dtype in DTYPES:
        targets = model.detector.targets(batch)
        losses = model.detector.loss(model.outputs(batch.images), targets)
        torch.stack(list(losses.values())).sum().backward()
        assert all(loss.dtype == torch.float32 for loss in losses.values())
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
        model.zero_grad()


@pytest.mark.slow
@pytest.mark.parametrize("device", ["fake cuda", REAL, "cpu"])
def test_classification(device: str) -> None:
    """The same of a classifier: three precisions on the CPU, where the losses lead back."""
    kind = device.split()[-1]
    with faking() if device != "real cuda" else nullcontext(), torch.device(kind):
        network, other = build_backbone("resnet18", num_classes=5), build_backbone("resnet18", num_classes=5)
        model = ImageClassifier(network, mean=(0, 0, 0), std=(1, 1, 1))
        images, labels = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.arange(2)
        for model.dtype in DTYPES:
            with HostWaits() as waits, torch.set_grad_enabled(device != "fake cuda"):
                logits = model(images)
                assert logits.dtype == torch.float32
                loss = cross_entropy(logits, labels, label_smoothing=0.1)
                loss += cross_entropy(logits.to(model.dtype), labels)
                if loss.requires_grad:
                    loss.backward()
            assert loss.device.type == kind
            assert not waits.waits
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.grad = torch.zeros_like(parameter)
            update(network, other)
