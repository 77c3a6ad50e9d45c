"""Whole runs with networks of timm, of both tasks: from their weights, through a checkpoint, to the same numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("timm")

import timm
from torchvision.transforms import v2

from public.backbones.timm_network import TimmOptions
from public.backbones.trained import load_classifier
from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.detection import DetectionConfig
from public.datasets.imagenet import ImageFolderData
from public.detectors.trained import load_detector
from public.optim.options import ConstantOptions
from public.recipes import classification, detection
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from public.test_scripts import classification as classification_script
from public.test_scripts import detection as detection_script
from public.test_scripts.request import read_request
from public.test_scripts.test_on_imagenet import IMAGENET
from public.weights.trained import open_trained
from tests.test_scripts.trained import row_on, write_squares

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.mark.slow
def test_a_classifier(config: ClassificationConfig, image_folder: Path, tmp_path: Path) -> None:
    """timm's averages of other classes go in; checkpoint, classifier and test script give what the run gave."""
    theirs = timm.create_model("test_resnet", num_classes=5)
    averaged = {key: tensor * 0.9 for key, tensor in theirs.state_dict().items() if not key.endswith("tracked")}
    torch.save({"state_dict": theirs.state_dict(), "state_dict_ema": averaged}, tmp_path / "theirs.pth")
    shown = (Call(v2.Resize, size=(SIZE, SIZE)),)
    row = replace(
        config.with_epochs(1),
        network="timm:test_resnet",
        network_options=TimmOptions(drop_path=0.1),
        initial_weights=str(tmp_path / "theirs.pth"),
        batch_size=4,
        precision="fp32",
        optimizer=replace(config.optimizer, lr=1e-3),
        schedule=ConstantOptions(),
        data=ImageFolderData(folder=str(image_folder), input_size=64, train_transforms=shown, val_transforms=shown),
        runtime=replace(config.runtime, num_workers=0, device="cpu"),
    )
    context = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    assert classification.train(row, tmp_path / "run", context) == 0
    log = (tmp_path / "run" / "train.log").read_text()
    size = sum(p.numel() for p in timm.create_model("test_resnet", num_classes=2).parameters())
    assert f"timm:test_resnet, {size / 1e6:.3f} M parameters, 0.016 G MACs at 64x64" in log
    assert "tensors loaded from 'state_dict_ema'; 2 mismatched (fc.weight: float32 [5, 96] given, " in log
    best = tmp_path / "run" / "checkpoints" / "best.pth"
    assert open_trained(best).config == row
    probabilities = load_classifier(best)(sorted(image_folder.rglob("*.png"))[0])
    assert probabilities.shape == (2,)
    kinds = classification.ClassificationTask.kinds[:2]
    request = read_request(["--weights", str(best)], kinds, lambda _: pytest.fail("no config"), ClassificationConfig)
    options = replace(classification_script.options_of(request), num_workers=0)
    metrics = classification_script.run(options, request, context)
    assert metrics["loss"] == load_checkpoint(best)["metrics"]["best"]["loss"]


@pytest.mark.slow
def test_a_detector(tmp_path: Path) -> None:
    """The backbone's weights from a file of timm's; checkpoint, detector and test script give what the run gave."""
    torch.manual_seed(0)
    theirs = timm.create_model("test_byobnet", num_classes=5)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    write_squares(tmp_path / "data")
    row = row_on(tmp_path / "data").with_epochs(1)
    detector = replace(row.detector, backbone="timm:test_byobnet", frozen_stages=1)
    row = replace(row, detector=detector, backbone_weights=str(tmp_path / "theirs.pth"))
    context = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    assert detection.train(row, tmp_path / "run", context) == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert "retinanet on timm:test_byobnet, " in log
    assert "unexpected (head.fc.weight, head.fc.bias)" in log
    best = tmp_path / "run" / "checkpoints" / "best.pth"
    assert open_trained(best).config == row
    weights = load_checkpoint(best)["model"]
    assert torch.equal(weights["backbone.body.stem.conv.weight"], theirs.state_dict()["stem.conv.weight"])
    assert not torch.equal(
        weights["backbone.body.stages.1.0.conv1_1x1.conv.weight"],
        theirs.state_dict()["stages.1.0.conv1_1x1.conv.weight"],
    )
    found = load_detector(best)(np.full((50, 70, 3), 128, np.uint8))
    assert found.boxes.shape == (len(found.names), 4)
    kinds = detection.DetectionTask.kinds[:2]
    request = read_request(["--weights", str(best)], kinds, lambda _: pytest.fail("no config"), DetectionConfig)
    options = replace(detection_script.options_of(request), output=None, time_steps=0, num_workers=0)
    result = detection_script.run(options, request, context)
    assert result.metrics == {name: load_checkpoint(best)["metrics"]["best"][name] for name in result.metrics}


@pytest.mark.slow
def test_a_size_that_the_network_does_not_take(
    config: ClassificationConfig, image_folder: Path, tmp_path: Path
) -> None:
    """One sentence, before the run folder is there."""
    data = replace(IMAGENET, folder=str(image_folder), input_size=64)
    row = replace(config.with_epochs(1), network="timm:efficientformerv2_s0", network_options=TimmOptions(), data=data)
    row = replace(row, batch_size=4, runtime=replace(row.runtime, num_workers=0, device="cpu"))
    context = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    with pytest.raises(
        ValueError, match=r"^timm:efficientformerv2_s0 does not take images of 64x64, .* made for 224x224\.$"
    ):
        classification.train(row, tmp_path / "run", context)
    assert not (tmp_path / "run").exists()


def test_stages_that_it_does_not_have_are_refused_in_time(
    config: ClassificationConfig, image_folder: Path, tmp_path: Path
) -> None:
    """--fresh moves no old run aside: there is no folder yet."""
    row = replace(
        config,
        network="timm:test_resnet",
        network_options=TimmOptions(),
        batch_size=4,
        data=ImageFolderData(folder=str(image_folder), input_size=64, train_transforms=(), val_transforms=()),
        runtime=replace(config.runtime, num_workers=0, device="cpu", activation_checkpointing="stages"),
    )
    context = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="knows the stages of our own networks"):
        classification.train(row, tmp_path / "run", context)
    assert not (tmp_path / "run" / "checkpoints").exists()
