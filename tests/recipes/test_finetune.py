"""The transfer of torchvision's COCO RetinaNet to Pascal VOC: the experiment's own row, on a few small images."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.config.run import RuntimeConfig
from public.datasets.sample_layouts import write_voc
from public.optim.options import ConstantOptions
from public.recipes.detection import train
from public.runtime.checkpoint import load_checkpoint
from public.test_scripts.detect_single_image import main as detect
from public.test_scripts.detection import main as evaluate
from public.test_scripts.test_on_voc import VOC
from public.transforms.detection import RandomHorizontalFlip, ShortSideResize
from tests.conftest import ROOT
from tests.recipes.runs import ONE_PROCESS
from tests.weights.torchvision_v1 import old_names, random_detector

pytestmark = pytest.mark.usefixtures("no_plots")

EXPERIMENT = ROOT / "detection_experiments" / "resnet50_retinanet_voc2012_finetune"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like torchvision's retinanet_resnet50_fpn_coco-eeacb38b.pth, 91 classes, with random weights."""
    path = tmp_path_factory.mktemp("weights") / "retinanet.pth"
    torch.save(old_names(random_detector().state_dict()), path)
    return path


def small_row(published: Path, folder: Path) -> DetectionConfig:
    """The row `one_device` on 6 + 2 generated images of 64 pixels, in two epochs of three steps."""
    spec = importlib.util.spec_from_file_location("config_of_finetune", EXPERIMENT / "config.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row: DetectionConfig = module.CONFIGS["one_device"]
    write_voc(folder / "VOCdataset", 0, 8)
    resize = Call(ShortSideResize, short=SIZE, long_cap=Scaled(96, of=64))
    data = replace(row.data, folder=str(folder / "VOCdataset"), input_size=64, val_transforms=(resize,))
    return replace(
        row,
        initial_weights=str(published),
        epochs=2,
        batch_size=2,
        precision="fp32",
        evaluate_every=2,
        data=replace(data, train_transforms=(Call(RandomHorizontalFlip), resize)),
        schedule=ConstantOptions(),
        runtime=RuntimeConfig(device="cpu", num_workers=0, log_every=1),
    )


@pytest.mark.slow
def test_the_transfer_from_end_to_end(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All but the class layer is loaded, which the log says; what is frozen stays as it came, the rest learns."""
    row = small_row(published, tmp_path)
    run = tmp_path / "experiment" / "runs" / row.name
    assert train(row, run, ONE_PROCESS) == 0
    given: dict[str, Tensor] = torch.load(published, weights_only=True)
    log = (run / "train.log").read_text()
    of_classes = "head.classification_head.cls_logits."
    assert f"initial weights {published}: {len(given) - 2} tensors loaded; 2 skipped ({of_classes}weight" in log
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["train_loss"] < 0.9 * history[0]["train_loss"]
    assert len({"AP", "AP50", "AR_100", "AP_small"} & history[-1].keys()) == 4

    best = run / "checkpoints" / "best.pth"
    trained = old_names(load_checkpoint(best)["model"])
    assert trained.keys() == given.keys()
    changed = {key for key, tensor in given.items() if of_classes not in key and not torch.equal(trained[key], tensor)}
    assert {key for key in changed if "bn" in key or "downsample.1" in key} == set()
    assert {key for key in changed if key.startswith(("backbone.body.conv1", "backbone.body.layer1"))} == set()
    assert {f"backbone.body.layer{n}.0.conv1.weight" for n in (2, 3, 4)} <= changed
    assert len([key for key in given if "running_" in key]) == 106
    assert trained[of_classes + "bias"].shape == (9 * 10,)

    quiet = ["--num-workers", "0", "--time-steps", "0", "--device", "cpu"]
    arguments = [
        "--weights",
        str(best),
        "--metrics",
        "coco",
        "--output",
        str(tmp_path / "x"),
    ]
    evaluate(replace(VOC, val_splits=row.data.val_splits), [*arguments, *quiet])
    assert f"AP {history[-1]['AP']:.4f}" in capsys.readouterr().out
    record = (tmp_path / "x" / "record_mAP.txt").read_text()
    assert record == (run / "report" / "record_mAP.txt").read_text()
    image = next((tmp_path / "VOCdataset" / "VOC2012" / "JPEGImages").iterdir())
    detect(["--weights", str(best), "--images", str(image), "--output", str(tmp_path / "drawn")])
    assert (tmp_path / "drawn" / f"{image.stem}.jpg").is_file()
