"""A training step and decoding on a GPU that is not there: fake tensors on cuda, which have shapes and no values.

That they run shows that devices agree; that the host never waits for a value is counted, because fake tensors go on
where a real one would be waited for. Autograd alone is done on fake tensors of the CPU: on fake cuda its engine asks
for a driver. Copies from a GPU to the host are therefore not seen in a backward pass. Where there is a GPU the same
list runs on it.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from itertools import product
from typing import Any
from unittest import mock

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_leaves

from benchmarks.host_waits import HostWaits
from public.backbones.catalog import build_backbone
from public.backbones.classifier import ImageClassifier
from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_detector, list_detectors
from public.detectors.detector import ImageDetector
from public.geometry import anchors, points
from public.geometry.fixed_shapes import fixed_shapes
from public.layers import deform_conv
from public.layers.deform_conv import DeformConv
from public.layers.roi_align import roi_align
from public.losses.classification import LOSSES
from public.optim.ema import AveragedWeights
from public.optim.optimizers import build_optimizer
from public.optim.options import AdamWOptions, LAMBOptions, SGDOptions
from public.transforms.mixing import Draws, cutmix, mixup
from tests.detectors.test_interface import SMALL

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WAITS = {"centernet": (0, 0), "faster_rcnn": (1, 2), "cascade_rcnn": (1, 2)}
"""Calls of `nms`, each of which is a host wait, in the losses and in decoding; of the others 0 and 1."""
DECAY: dict[str, Any] = {"lr": 0.1, "weight_decay": 1e-4}
EXTRAS: dict[str, Any] = {"gradient_centralization": True, "lookahead_steps": 2}
OPTIMIZERS = {
    "sgd": SGDOptions(**DECAY),
    "sgd, nesterov and extras": SGDOptions(nesterov=True, **DECAY, **EXTRAS),
    "adamw": AdamWOptions(**DECAY),
    "adamw and extras": AdamWOptions(decay_norm_and_bias=False, **DECAY, **EXTRAS),
    "lamb": LAMBOptions(**DECAY),
    "lamb and extras": LAMBOptions(decay_norm_and_bias=False, **DECAY, **EXTRAS),
}
MIXTURES: dict[str, Any] = {
    "none": lambda images, labels: (images, labels),
    "mixup": lambda images, labels: mixup(images, labels, 0.3),
    "cutmix": lambda images, labels: cutmix(images, labels, Draws("cutmix", 0.3, 0.5, 0.5)),
}
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
    warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor", UserWarning)  # copying one
    # Autocast and the loss scale turn themselves off where there is no GPU.
    stack.enter_context(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False))
    stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", return_value=True))
    # Of torch's fused optimizers this one does not know fake tensors; it gives nothing and changes no shape.
    library = stack.enter_context(torch.library._scoped_library("aten", "IMPL", "Meta"))
    library.impl("_fused_sgd_", lambda *_, **__: None)
    # A copied tensor is otherwise one of a copied mode, which goes with no other.
    stack.enter_context(mock.patch.object(FakeTensorMode, "__deepcopy__", lambda mode, _: mode, create=True))
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


def waits_of_updates(network: nn.Module, options: Any, scaled: bool) -> dict[str, int]:
    """Of a first update and a second one, in which Lookahead is due: all that a run does with the gradients."""
    device = next(network.parameters()).device
    optimizer, average = build_optimizer(network, options), AveragedWeights(network, 0.9)
    scaler = torch.amp.GradScaler(device.type, enabled=scaled)
    scaler.scale(torch.zeros((), device=device))  # makes the scale
    with HostWaits() as waits:
        for _ in range(2):
            for parameter in network.parameters():
                parameter.grad = torch.zeros_like(parameter)
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            average.update(network)
    return dict(waits.waits)


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
    """Targets, losses and decoding in three precisions."""
    model, batch = detector_on("cuda", name)
    detector: Any = model.detector
    of_losses, of_decoding = WAITS.get(name, (0, 1))
    with torch.no_grad():
        detector.targets(batch)  # the anchors of a canvas are copied to the device once
        for model.dtype in DTYPES:
            with HostWaits() as waits:
                outputs = model.outputs(batch.images)
            assert not waits.waits
            assert {x.dtype for x in tree_leaves(outputs) if isinstance(x, Tensor)} == {model.dtype}
            with HostWaits() as waits:
                targets = detector.targets(batch)
                losses = detector.loss(outputs, targets, detector.normalizer(targets))
            assert_on_gpu((tuple(targets), losses))
            assert dict(waits.waits) == ({"nms": of_losses} if of_losses else {})
            with HostWaits() as waits:
                detections = detector.decode(outputs, batch.sizes)
            assert_on_gpu(tuple(detections))
            assert detections.boxes.shape == (2, detector.options.max_detections, 4)
            assert dict(waits.waits) == ({"nms": of_decoding} if of_decoding else {})


def test_a_gpu_that_adds_in_a_fixed_order(on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does without torchvision's kernels, whose gradients have none."""
    monkeypatch.setattr(torchvision.ops, "roi_align", lambda *_: pytest.fail("the kernel"))
    monkeypatch.setattr(deform_conv, "deform_conv2d", lambda *_, **__: pytest.fail("the kernel"))
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    with torch.device("cuda"), torch.no_grad():
        x, boxes = torch.zeros(2, 8, 16, 16), torch.zeros(5, 5)
        assert DeformConv(8, 4)(x).shape == (2, 4, 16, 16)
        assert roi_align(x, boxes, 7, 0.25, 2, aligned=True).shape == (5, 8, 7, 7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_update_on_a_gpu(on_gpu: None, kind: str) -> None:
    """Without a wait in any precision, but for LAMB in fp16: torch's loss scale asks whether to call it at all.

    Parameters are of fp32 in every precision: of fp16 the loss is scaled, and bf16's update is fp32's. What is added to
    an optimizer takes a network's parameters one like the other: one detector stands for all.
    """
    names = ["faster_rcnn"] if "extras" in kind else list_detectors()
    detectors = [detector_on("cuda", name)[0].detector for name in names]
    with torch.device("cuda"):
        networks = [*detectors, build_backbone("resnet18", num_classes=5)]
    for network, scaled in product(networks, (False,) if kind.startswith("lamb") else (False, True)):
        assert not waits_of_updates(network, OPTIMIZERS[kind], scaled)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_detectors())
def test_a_detectors_backward_pass(device_of_backward: str, name: str) -> None:
    """In three precisions, by autocast, without a host wait; every parameter has a gradient of its own type."""
    model, batch = detector_on(device_of_backward, name)
    for model.dtype in DTYPES:
        targets = model.detector.targets(batch)
        losses = model.detector.loss(model.outputs(batch.images), targets)
        with HostWaits() as waits:
            torch.stack(list(losses.values())).sum().backward()
        assert not waits.waits
        assert all(loss.dtype == torch.float32 for loss in losses.values())
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
        model.zero_grad()


@pytest.mark.slow
@pytest.mark.parametrize("device", ["fake cuda", REAL, "fake cpu"])
def test_classification(device: str) -> None:
    """Mixtures and losses in three precisions, in which the network computes; on the CPU the losses lead back."""
    kind = device.split()[-1]
    with faking() if device != "real cuda" else nullcontext(), torch.device(kind):
        network, computed_in = build_backbone("resnet18", num_classes=5), list[torch.dtype]()
        network.register_forward_hook(lambda _module, _inputs, logits: computed_in.append(logits.dtype))
        model = ImageClassifier(network, mean=(0, 0, 0), std=(1, 1, 1))
        images, labels = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.arange(2)
        for model.dtype, mixed, loss_of in product(DTYPES, MIXTURES.values(), LOSSES.values()):
            with HostWaits() as waits, torch.set_grad_enabled(device != "fake cuda"):
                inputs, *targets = mixed(images, labels)
                loss = loss_of(model(inputs), *targets, label_smoothing=0.1)
                if loss.requires_grad:
                    loss.backward()
            assert (loss.device.type, loss.dtype) == (kind, torch.float32)
            assert computed_in.pop() == model.dtype
            assert not waits.waits
