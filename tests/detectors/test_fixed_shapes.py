"""Targets, losses and gradients in shapes that depend on no value: those of a CPU, without a host wait."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import ops

from benchmarks.host_waits import HostWaits, of_step, training_step
from benchmarks.random_batches import random_batch
from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_detector
from public.detectors.detector import ImageDetector
from public.geometry.fixed_shapes import fixed_shapes
from public.geometry.labels import IGNORED
from public.optim.ema import AveragedWeights
from tests.detectors.reference import HARD, Objects, batch_of, images_of
from tests.detectors.test_interface import SMALL

MIXED: dict[str, list[Objects]] = {
    "mixed": [
        [
            ((4, 6, 40, 50), 0),
            ((4, 6, 40, 50), 2),
            ((50, 10, 94, 90), 1),
            ((0, 0, 20, 20), IGNORED),
            ((9, 9, 9, 30), 1),
        ],
        [((30, 30, 90, 60), IGNORED), ((33, 31, 60, 58), 2)],
    ],
    "no rows": [[], []],
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("retinanet", "fcos", "centernet", "faster_rcnn", "cascade_rcnn")},
    "retinanet like torchvision's": ("retinanet", {"normalize": "image", "box_loss": "giou", "negative_iou": 0.05}),
    "fcos like torchvision's": (
        "fcos",
        {"distances": "relu", "center_sampling": "square", "centerness_weighted": False},
    ),
    "centernet with suppression": ("centernet", {"iou_threshold": 0.3}),
    "faster_rcnn of few regions": ("faster_rcnn", {"class_agnostic": True, "roi_samples": 16, "soft_nms": "linear"}),
    "faster_rcnn, adaptive": ("faster_rcnn", {"sampling_ratio": 0, "aligned": False, "num_proposals": (50, 30)}),
}
WAITS: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    **{name: ({}, {"nms": 1}) for name in ("retinanet", "fcos", "centernet with suppression")},
    "centernet": ({}, {}),
    **{name: ({"nms": 1}, {"nms": 2}) for name in ("faster_rcnn", "cascade_rcnn")},
}
"""Of a training step, and of decoding."""


OPERATORS = {
    "retinanet": (1380, 1072, 2940, 0.5),
    "fcos": (1670, 1185, 2806, 0.6),
    "faster_rcnn": (1785, 966, 3657, 0.5),
}
"""Of a training step with a ResNet-50 that computes again what a run does by default, at most, those of the network
among them; torchvision's, as `benchmarks.host_waits` counts them for 8 images with torchvision 0.29, and what share of
them is claimed."""


def detector_of(variant: str) -> Any:
    name, options = VARIANTS[variant]
    torch.manual_seed(0)
    return build_detector(name, 3, backbone="mobilenet_v2", **SMALL[name] | options).eval()


def batch_for(case: str) -> DetectionBatch:
    torch.manual_seed(0)
    batch = batch_of({**HARD, **MIXED}[case], (96, 96))
    return batch._replace(boxes=batch.boxes[:, :0], labels=batch.labels[:, :0]) if case == "no rows" else batch


def leaves_of(outputs: Any, dtype: torch.dtype = torch.float32) -> tuple[Any, list[Tensor]]:
    """The outputs with gradients of their own, and these tensors."""
    leaves: list[Tensor] = []

    def of(value: Any) -> Any:
        if isinstance(value, Tensor):
            leaves.append(value.detach().to(dtype).requires_grad_())
            return leaves[-1]
        return tuple(map(of, value)) if isinstance(value, tuple) and isinstance(value[0], Tensor) else value

    return type(outputs)(*map(of, outputs)), leaves


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_targets_losses_and_gradients_are_those_of_a_cpu(variant: str) -> None:
    """Targets bit for bit; losses and gradients to a millionth, as sums take in zeros and add up in another order."""
    detector = detector_of(variant)
    for case in (*HARD, *MIXED):
        batch = batch_for(case)
        outputs = detector(images_of(batch))
        found = []
        for context in (torch.enable_grad(), fixed_shapes()):
            with context:
                ours, leaves = leaves_of(outputs)
                targets = detector.targets(batch)
                losses = detector.loss(ours, targets)
                grads = torch.autograd.grad(torch.stack(list(losses.values())).sum(), leaves, allow_unused=True)
                found.append((targets, losses, grads))
        (targets, losses, grads), (same_targets, same_losses, same_grads) = found
        for name, a, b in zip(targets._fields, targets, same_targets, strict=True):
            assert torch.equal(a, b), (case, name)
        for name, loss in losses.items():
            torch.testing.assert_close(same_losses[name], loss, rtol=1e-6, atol=1e-7)
        for a, b in zip(grads, same_grads, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", WAITS)
def test_a_training_step_waits_for_nothing_else(name: str, dtype: torch.dtype) -> None:
    """On the first step and on any: network, targets, losses, backward, clipping and optimizer."""
    detector = detector_of(name)
    # What is computed again is a GPU's default.
    model = ImageDetector(detector, mean=(0, 0, 0), std=(1, 1, 1), dtype=dtype, activation_checkpointing="norms")
    batch = batch_for("mixed")

    def losses() -> dict[str, Tensor]:
        targets = detector.targets(batch)
        return detector.loss(model.outputs(batch.images), targets, detector.normalizer(targets))

    step = training_step(detector, losses)
    with fixed_shapes(), HostWaits() as waits:
        step()
        step()
    assert dict(waits.waits) == {cause: 2 * count for cause, count in WAITS[name][0].items()}
    assert waits.num_operators > 1000
    with fixed_shapes(), torch.no_grad():
        outputs = model.outputs(batch.images)
        with HostWaits() as waits:
            detector.decode(outputs, batch.sizes)
    assert dict(waits.waits) == WAITS[name][1]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_a_training_step_has_few_operators(name: str) -> None:
    """As many for one small image as for eight large ones."""
    at_most, of_network, torchvisions, claimed = OPERATORS[name]
    small = {"roi_samples": 8, "rpn_samples": 8, "num_proposals": (8, 8)} if name == "faster_rcnn" else {}
    detector = build_detector(name, 80, backbone="resnet50", **small)
    model = ImageDetector(detector, mean=(0, 0, 0), std=(1, 1, 1), dtype=torch.float32)
    with fixed_shapes():
        waits = of_step(model, random_batch(1, 3, (64, 64), torch.device("cpu")))
    assert waits.num_operators <= at_most <= claimed * torchvisions
    assert waits.num_of_network <= of_network


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_detections_are_those_of_a_cpu(variant: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, with few candidates and with more than take part; in bf16 many scores are equal.

    With one RoI Align: a CPU's adds in another order (tests/layers/test_roi_align.py).
    """
    monkeypatch.setattr("public.detectors.faster_rcnn.regions.roi_align", ops.roi_align)
    detector = detector_of(variant)
    generator = torch.Generator().manual_seed(3)
    for parameter in detector.parameters():  # new heads are sure of nothing, and their boxes are all alike
        if parameter.ndim > 1 and parameter.std() < 0.02:
            parameter.normal_(std=0.1, generator=generator)
    batch = batch_for("mixed")._replace(
        content_sizes=torch.tensor([[96, 80], [60, 96]]), original_sizes=torch.tensor([[192, 160], [30, 48]])
    )
    outputs, leaves = leaves_of(detector(images_of(batch)), dtype)
    if not hasattr(detector, "rpn"):
        for leaf in leaves:
            leaf.copy_(torch.randn(leaf.shape, generator=generator) * 1.5)
    for threshold, top_k in ((0.02, 1000), (0.3, 20), (0.999, 20)):
        changes = {"score_threshold": threshold} | ({"top_k": top_k} if hasattr(detector.options, "top_k") else {})
        detector.options = dataclasses.replace(detector.options, **changes)
        expected = detector.decode(outputs, batch.sizes)
        with fixed_shapes():
            found = detector.decode(outputs, batch.sizes)
        for ours, same in zip(found, expected, strict=True):
            assert torch.equal(ours, same)
        assert (expected.labels >= 0).sum() > 20 or threshold > 0.02


def test_what_counts_as_a_wait() -> None:
    """By hand: what a GPU's host would wait for, and what looks alike and is none."""
    x, mask = torch.arange(6.0), torch.tensor([True, False] * 3)
    with HostWaits() as waits:
        x[mask]
        x[mask] = torch.ones(3)
        x[mask] = 1.0  # the same as masked_fill
        torch.where(mask, x, 0)
        x[torch.tensor([0, 2])]
        float(x.sum())
        x.tolist()
        mask.nonzero()
        torch.nonzero(mask, as_tuple=True)
        torch.repeat_interleave(x, torch.tensor([1, 2] * 3))
        torch.repeat_interleave(x, torch.tensor([1, 2] * 3), output_size=9)
        torch.bincount(x.long())
        torch.unique(x)
    assert dict(waits.waits) == {
        **{"index": 1, "index_put_": 1, "_local_scalar_dense": 1, "tolist": 1, "nonzero": 2, "bincount": 1},
        **{"repeat_interleave": 1, "_unique2": 1},
    }


def test_averaging_weights_waits_for_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    averaged = AveragedWeights(network, 0.9)
    with HostWaits() as waits:
        averaged.update(network)
        averaged.update(network)
    assert not waits.waits
