"""What every detector of the catalog keeps to: targets that can be cut along the batch, counts that add up, losses."""

from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import scatter_gather

from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_detector, list_detectors
from public.detectors.detector import Detector, ImageDetector
from tests.detectors.reference import HARD, batch_of, images_of

SMALL: dict[str, dict[str, Any]] = {
    "retinanet": {"channels": 16, "num_convs": 1},
    "fcos": {"channels": 16, "num_convs": 1},
    "centernet": {"upsample_channels": (16, 16, 16), "head_channels": 8},
    "faster_rcnn": {"channels": 16, "head_channels": 16, "pool_size": 3},
    "cascade_rcnn": {"channels": 16, "head_channels": 16, "pool_size": 3},
}
CASES = {**HARD, "no rows": [[], []]}


class Part(NamedTuple):
    """What a training step is given."""

    images: Tensor
    targets: Any


@pytest.fixture(scope="module", params=list_detectors())
def detector(request: pytest.FixtureRequest) -> Detector:
    torch.manual_seed(0)
    return build_detector(request.param, 3, backbone="mobilenet_v2", **SMALL[request.param]).eval()


def batch_for(case: str) -> DetectionBatch:
    """Without the filling row where there is no object at all."""
    torch.manual_seed(0)
    batch = batch_of(CASES[case], (96, 96))
    return batch._replace(boxes=batch.boxes[:, :0], labels=batch.labels[:, :0]) if case == "no rows" else batch


def test_the_table_is_complete() -> None:
    assert list(SMALL) == list_detectors()


@pytest.mark.parametrize("case", CASES)
def test_all_of_the_targets_begins_with_the_batch(detector: Detector, case: str) -> None:
    """A NamedTuple of tensors, which need no gradient; the counts are whole numbers, one row per image."""
    batch = batch_for(case)
    targets, again = detector.targets(batch), detector.targets(batch)
    assert issubclass(type(targets), tuple)
    assert hasattr(targets, "_fields")
    for name, values, same in zip(targets._fields, targets, again, strict=True):
        assert isinstance(values, Tensor), name
        assert values.ndim >= 1, name
        assert len(values) == 2, name
        assert not values.requires_grad, name
        assert torch.equal(values, same), name
    counts = detector.counts(targets)
    assert counts.dtype == torch.float32
    assert counts.ndim == 2
    assert len(counts) == 2
    assert torch.equal(counts, counts.round())
    assert torch.equal(detector.normalizer(targets), counts.sum(0).clamp(min=1))


@pytest.mark.parametrize("case", CASES)
def test_an_images_targets_do_not_depend_on_the_others(detector: Detector, case: str) -> None:
    """Those of one image are the rows of the batch's, to the last bit."""
    batch = batch_for(case)
    whole = detector.targets(batch)
    for i in range(2):
        alone = detector.targets(DetectionBatch(*(x[i : i + 1] for x in batch)))
        for name, ours, of_batch in zip(whole._fields, alone, whole, strict=True):
            assert torch.equal(ours[0], of_batch[i]), name


@pytest.mark.slow
def test_data_parallel_cuts_a_step_into_its_images(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """nn.DataParallel's own walk through what it is given, with the copying to GPUs skipped."""

    class Chunks:
        @staticmethod
        def apply(devices: list[int], _sizes: None, dim: int, values: Tensor) -> tuple[Tensor, ...]:
            return values.chunk(len(devices), dim)

    monkeypatch.setattr(scatter_gather, "Scatter", Chunks)
    batch = batch_for("300 objects")
    images, targets = images_of(batch), detector.targets(batch)
    parts = scatter_gather.scatter(Part(images, targets), [0, 1])
    normalizer = detector.normalizer(targets)
    assert len(parts) == 2
    sums = dict.fromkeys(detector.loss_names, torch.zeros(()))
    for i, part in enumerate(parts):
        assert isinstance(part, Part)
        assert type(part.targets) is type(targets)
        for ours, of_batch in zip(part.targets, targets, strict=True):
            assert torch.equal(ours, of_batch[i : i + 1])
        losses = detector.loss(detector(part.images), part.targets, normalizer)
        sums = {name: sums[name] + loss for name, loss in losses.items()}
    for name, loss in detector.loss(detector(images), targets).items():
        torch.testing.assert_close(sums[name], loss, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("backbone", "on_gpu"), [("resnet18", "norms"), ("mobilenet_v2", "off")])
def test_what_is_computed_again(backbone: str, on_gpu: str) -> None:
    """It costs a CPU, and depthwise convolutions, more than a twentieth of a step; whoever asks for it has it."""
    detector = build_detector("centernet", 3, backbone=backbone, **SMALL["centernet"])
    pixels: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "dtype": torch.float32}
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    by_default = ImageDetector(detector, **pixels)
    assert (by_default.computed_again(cpu), by_default.computed_again(gpu)) == ("off", on_gpu)
    asked = ImageDetector(detector, **pixels, activation_checkpointing="norms")
    assert (asked.computed_again(cpu), asked.computed_again(gpu)) == ("norms", "norms")


@pytest.mark.parametrize(("asked", "found"), [("auto", "off"), ("norms", "norms")])
def test_outputs_compute_again_what_was_asked_for(
    asked: Literal["auto", "norms"], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("public.detectors.detector.recomputing", lambda what: seen.append(what) or nullcontext())
    detector = build_detector("centernet", 3, backbone="resnet18", **SMALL["centernet"])
    pixels: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "dtype": torch.float32}
    model = ImageDetector(detector, **pixels, activation_checkpointing=asked).eval()
    model.outputs(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert seen == [found]
