"""A checkpoint of ours becomes a detector: its options, canvas, weights and classes, and nothing that does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from public.config.classification import ClassificationConfig
from public.config.record import to_record
from public.datasets.batches import ImageSizes
from public.detectors.catalog import build_from_options
from public.detectors.detector import Detections
from public.detectors.trained import TrainedDetector, assemble_detector, load_detector
from public.geometry.labels import PADDING
from public.runtime.checkpoint import save_checkpoint
from public.transforms.detection import FILL, DetectionTransform, ShortSideResize, SquareResize
from tests.old_runs.make import old_checkpoint, write_old_run
from tests.recipes.tiny_detection import TINY

NAMES, IDS = ["cat", "dog", "owl"], [3, 7, 90]


class Network(nn.Module):
    """Notes what it is given and finds the same in every image, two rows of which only fill up."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.given: list[tuple[torch.Tensor, ImageSizes]] = []

    def forward(self, images: torch.Tensor, sizes: ImageSizes) -> Detections:
        """The network's own end: [1, 5] rows."""
        assert torch.is_inference_mode_enabled()
        assert not self.training
        self.given.append((images, sizes))
        boxes = torch.arange(20.0).view(1, 5, 4)
        scores = torch.tensor([[0.9, 0.5, 0.25, 0.0, 0.0]])
        return Detections(boxes, scores, torch.tensor([[2, 0, 2, PADDING, PADDING]]))


def finder(*transforms: DetectionTransform, category_ids: list[int] | None = None) -> tuple[TrainedDetector, Network]:
    """What is to be tested, around a network without one."""
    network: Any = Network().train()
    return TrainedDetector(network, transforms, NAMES, category_ids), network


# ---- from an image to the network and back ---------------------------------------------------------------------------


def test_what_is_found() -> None:
    """Rows that only fill up are skipped, also at threshold 0; a score equal to the threshold counts."""
    detect, _ = finder(SquareResize(size=64))
    image = np.zeros((30, 40, 3), np.uint8)
    found = detect(image)
    assert found.names == ["owl", "cat", "owl"]
    assert found.labels.tolist() == [2, 0, 2]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.25])
    assert found.boxes.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert [field.dtype for field in found[:3]] == [np.float32, np.float32, np.int64]
    assert [len(detect(image, threshold).names) for threshold in (0.25, 0.26, 0.5, 0.9, 1.0)] == [3, 2, 2, 1, 0]


def test_the_canvas() -> None:
    """30 x 40 on a square of 64: 48 x 64 pixels of picture, the rest is filled."""
    detect, network = finder(SquareResize(size=64))
    detect(np.full((30, 40, 3), 200, np.uint8))
    ((images, sizes),) = network.given
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (1, 3, 64, 64))
    assert (images[:, :, :48] == 200).all()
    assert (images[:, :, 48:] == torch.tensor(FILL)[:, None, None]).all()
    assert sizes.content.tolist() == [[48, 64]]
    assert sizes.original.tolist() == [[30, 40]]


def test_a_canvas_of_whole_32s() -> None:
    """50 x 100, short side 40: 40 x 80, on 64 x 96; red stays the first channel."""
    detect, network = finder(ShortSideResize(short=40, long_cap=100))
    detect(np.full((50, 100, 3), (10, 20, 30), np.uint8))
    ((images, sizes),) = network.given
    assert tuple(images.shape) == (1, 3, 64, 96)
    assert images[0, :, 39, 79].tolist() == [10, 20, 30]
    assert images[0, :, 40, 0].tolist() == images[0, :, 0, 80].tolist() == list(FILL)
    assert sizes.content.tolist() == [[40, 80]]


def test_category_ids() -> None:
    """The data set's own; counted from 1 where there are none."""
    assert finder(SquareResize(size=8))[0].category_ids == [1, 2, 3]
    assert finder(SquareResize(size=8), category_ids=IDS)[0].category_ids == IDS


# ---- from a checkpoint -----------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint() -> dict[str, Any]:
    """The tiny FCOS, untrained, with averaged weights that are not the trained ones."""
    torch.manual_seed(0)
    model, ema = (build_from_options(3, TINY.detector).state_dict() for _ in range(2))
    return {"config": to_record(TINY), "class_names": NAMES, "category_ids": IDS, "model": model, "ema": ema}


def saved(folder: Path, checkpoint: dict[str, Any]) -> Path:
    """The file."""
    assert save_checkpoint(folder / "best.pth", checkpoint)
    return folder / "best.pth"


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [True, False])
def test_a_checkpoint_knows_all(tmp_path: Path, checkpoint: dict[str, Any], averaged: bool) -> None:
    """Network, options (tuples again), canvas, classes; the averaged weights where there are such."""
    expected = checkpoint["ema" if averaged else "model"]
    if not averaged:
        checkpoint["ema"] = None
    detect = load_detector(str(saved(tmp_path, checkpoint)), device="cpu")
    detector: Any = detect.image_detector.detector
    assert type(detector).__name__ == "FCOS"
    own = detector.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[key], expected[key]) for key in own)
    assert detect.transforms == (SquareResize(size=64),)
    assert (detect.class_names, detect.category_ids) == (NAMES, IDS)
    assert detect.device == torch.device("cpu")
    assert detect.image_detector.dtype == torch.float32
    assert not detect.image_detector.training


@pytest.mark.slow
def test_pixel_statistics_layout_and_precision(tmp_path: Path, checkpoint: dict[str, Any]) -> None:
    """Those of the run; a white pixel with mean 0.5 and std 0.25 is (1 - 0.5) / 0.25 = 2."""
    checkpoint["config"]["data"] |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    checkpoint["config"]["channels_last"] = True
    detect = load_detector(saved(tmp_path, checkpoint), device="cpu", precision="bf16")
    white = detect.image_detector.normalize(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8))
    torch.testing.assert_close(white.float(), torch.full((1, 3, 4, 4), 2.0))
    assert detect.image_detector.dtype == torch.bfloat16
    kernels = [p for p in detect.image_detector.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    found = detect(np.zeros((30, 40, 3), np.uint8))
    assert found.boxes.dtype == np.float32


def assembled(checkpoint: dict[str, Any], device: torch.device, **changes: Any) -> TrainedDetector:
    """The tiny FCOS with some options changed, and the checkpoint's weights."""
    config = replace(TINY, detector=replace(TINY.detector, **changes))
    detector = build_from_options(3, config.detector)
    return assemble_detector(detector, config, checkpoint, NAMES, IDS, device=device, precision="fp32")


@pytest.mark.slow
def test_how_detections_are_chosen(checkpoint: dict[str, Any]) -> None:
    """Options of the config, which need not be those of the training."""
    detect = assembled(checkpoint, torch.device("cpu"), max_detections=7)
    batch = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    sizes = ImageSizes(torch.tensor([[64, 64]]), torch.tensor([[64, 64]]))
    with torch.inference_mode():
        assert detect.image_detector(batch, sizes).boxes.shape[1] <= 7


@pytest.mark.slow
def test_settings_that_a_record_lacks(tmp_path: Path, checkpoint: dict[str, Any]) -> None:
    """A setting that came later has its default; one that there is not is named."""
    del checkpoint["config"]["detector"]["center_sampling"]
    load_detector(saved(tmp_path, checkpoint), device="cpu")
    checkpoint["config"]["detector"]["anchor_size"] = 32
    with pytest.raises(ValueError, match=r"best\.pth: FCOSOptions has no setting 'anchor_size' here"):
        load_detector(saved(tmp_path, checkpoint), device="cpu")


@pytest.mark.slow
def test_the_device_of_this_process(checkpoint: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is given, however many there are: not one that is chosen anew."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device = torch.device("meta")
    detect = assembled(checkpoint, device)
    assert {tensor.device for tensor in detect.image_detector.state_dict().values()} == {device}


@pytest.mark.slow
def test_weights_that_do_not_fit(tmp_path: Path, checkpoint: dict[str, Any]) -> None:
    """Another number of classes, another network, an unknown one, unreadable transforms: refused with what differs."""
    path = saved(tmp_path, checkpoint | {"class_names": ["cat", "dog"], "category_ids": [3, 7]})
    with pytest.raises(ValueError, match=r"cls_logits.*\[3, .*given.*\[2, .*expected"):
        load_detector(path)
    config = checkpoint["config"]
    detector = config["detector"] | {"type": "public.detectors.fcos.options.FCOSSOptions"}
    path = saved(tmp_path, checkpoint | {"config": config | {"detector": detector}})
    with pytest.raises(
        ValueError, match=r"best\.pth: public\.detectors\.fcos\.options\.FCOSSOptions is nothing that a c"
    ):
        load_detector(path)
    resizes = {
        "public.transforms.detection.SquareResizer": r"best\.pth: .*SquareResizer is nothing that a config can hold",
        "public.transforms.detection.RandomSquareResize": r"data\.val_transforms holds RandomSquareResize.*may draw",
    }
    for name, message in resizes.items():
        keywords = {"sizes": [64]} if "Random" in name else {"size": 64}
        data = config["data"] | {"val_transforms": [{"call": name, "keywords": keywords}]}
        path = saved(tmp_path, checkpoint | {"config": config | {"data": data}})
        with pytest.raises(ValueError, match=message):
            load_detector(path)
    data = config["data"] | {"val_transforms": []}
    path = saved(tmp_path, checkpoint | {"config": config | {"data": data}})
    with pytest.raises(ValueError, match=r"data\.val_transforms=\[\] must hold one resize"):
        load_detector(path)


def test_what_is_no_detectors_checkpoint(tmp_path: Path, config: ClassificationConfig) -> None:
    """No file, a classifier's, bare weights."""
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*best\.pth"):
        load_detector(tmp_path / "best.pth")
    path = saved(tmp_path, {"config": to_record(config), "class_names": ["a", "b"], "model": {}})
    with pytest.raises(ValueError, match=r"is the checkpoint of a resnet18cifar classifier; expected a detector's"):
        load_detector(path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="it may be bare weights"):
        load_detector(path)


@pytest.mark.slow
def test_a_missing_gpu(tmp_path: Path, checkpoint: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """device="cuda" on a machine without one: not quietly the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device='cuda' needs an NVIDIA GPU"):
        load_detector(saved(tmp_path, checkpoint), device="cuda")


@pytest.mark.slow
def test_a_checkpoint_of_format_1(tmp_path: Path) -> None:
    """Written before configs were made of options: its network, canvas, classes and averaged weights."""
    detect = load_detector(write_old_run("fcos", tmp_path / "run"), device="cpu")
    checkpoint, detector = old_checkpoint("fcos"), detect.image_detector.detector
    expected = checkpoint["ema"] or checkpoint["model"]
    own = detector.state_dict()
    assert type(detector).__name__ == "FCOS"
    assert all(torch.equal(own[key], expected[key]) for key in own)
    assert (detect.class_names, detect.category_ids) == (checkpoint["class_names"], checkpoint["category_ids"])
    found = detect(np.zeros((50, 70, 3), np.uint8))
    assert np.isfinite(found.boxes).all()
    assert set(found.names) <= set(checkpoint["class_names"])
