"""Runs that commit 20741d7 began: the same rows, as they are written today, resume where those were stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from public.backbones.build import build_from_options as build_network
from public.backbones.mobilenet_v3 import MobileNetV3Options
from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.detection import DetectionConfig
from public.config.record import config_of
from public.config.run import RuntimeConfig
from public.datasets.coco import CocoData
from public.datasets.imagenet import ImageFolderData
from public.datasets.voc import VocData
from public.detectors.catalog import build_from_options
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.optim.options import AdamWOptions, ConstantOptions, CosineOptions, MultistepOptions, SGDOptions
from public.recipes import classification, detection
from public.runtime.checkpoint import load_checkpoint, save_checkpoint
from public.transforms.detection import RandomHorizontalFlip, RandomSquareResize, ShortSideResize, SquareResize
from public.transforms.image import RandomResizedCrop
from public.weights.loading import load_weights
from tests.old_runs.make import OLD_RUNS, old_checkpoint, write_old_data, write_old_run
from tests.recipes.runs import ONE_PROCESS

pytestmark = pytest.mark.usefixtures("no_plots")

RUNTIME = RuntimeConfig(device="cpu", num_workers=0, log_every=1)
CLASSIFICATION = ClassificationConfig(
    name="old_classification",
    network="mobilenet_v3_small",
    epochs=2,
    batch_size=10,
    ema_decay=0.9,
    precision="fp32",
    network_options=MobileNetV3Options(),
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=64,
        train_transforms=(Call(RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip)),
        val_transforms=(Call(v2.Resize, size=(SIZE, SIZE)),),
    ),
    optimizer=SGDOptions(lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=CosineOptions(warmup_epochs=1),
    runtime=RUNTIME,
)
FCOS = DetectionConfig(
    name="old_fcos",
    epochs=2,
    batch_size=4,
    clip_grad_norm=1.0,
    precision="fp32",
    best_metric="AP50",
    detector=FCOSOptions(
        backbone="mobilenet_v3_small", frozen_batch_norm=True, levels=("p4", "p5"), channels=8, num_convs=1
    ),
    data=CocoData(
        folder="COCO2017",
        input_size=64,
        train_splits=("train2017",),
        val_splits=("val2017",),
        train_transforms=(
            Call(RandomHorizontalFlip),
            Call(RandomSquareResize, sizes=(SIZE, Scaled(96, of=64))),
        ),
        val_transforms=(Call(SquareResize, size=SIZE),),
    ),
    optimizer=AdamWOptions(lr=1e-3, weight_decay=0.01),
    schedule=ConstantOptions(),
    runtime=RUNTIME,
)
RESIZE = Call(ShortSideResize, short=SIZE, long_cap=Scaled(107, of=64))
FASTER_RCNN = DetectionConfig(
    name="old_faster_rcnn",
    epochs=2,
    batch_size=4,
    ema_decay=0.9,
    precision="fp32",
    best_metric="mAP50",
    detector=FasterRCNNOptions(
        backbone="mobilenet_v3_small",
        frozen_stages=1,
        levels=("p3", "p4", "p5", "p6"),
        channels=8,
        head_channels=8,
        pool_size=3,
        num_proposals=(64, 32),
    ),
    data=VocData(
        folder="VOCdataset",
        input_size=64,
        train_splits=("VOC2007/trainval", "VOC2012/trainval"),
        val_splits=("VOC2007/test",),
        train_transforms=(Call(RandomHorizontalFlip), RESIZE),
        val_transforms=(RESIZE,),
        group_by_aspect=0,
    ),
    optimizer=SGDOptions(lr=0.02, momentum=0.9, weight_decay=1e-4, decay_norm_and_bias=False),
    schedule=MultistepOptions(milestones=(1,), gamma=0.1),
    runtime=RUNTIME,
)
ROWS: dict[str, ClassificationConfig | DetectionConfig] = {
    "classification": CLASSIFICATION,
    "fcos": FCOS,
    "faster_rcnn": FASTER_RCNN,
}
GIVEN_BY_20741D7: dict[str, dict[str, float]] = {
    "classification": {"lr": 0.05, "train_loss": 2.2970880270004272, "top1": 0.1, "loss": 2.302585220336914},
    "fcos": {
        "train_classification": 3.717965245246887,
        "train_box": 0.7971935570240021,
        "train_centerness": 0.6931455731391907,
    },
    "faster_rcnn": {
        "lr": 0.002,
        "train_objectness": 0.9246778885523478,
        "train_proposal": 1.6122452815373738,
        "train_classification": 2.6320413748423257,
        "train_box": 0.28591002027193707,
    },
}
"""Of the second epoch, by that commit itself, resuming from the very files that `write_old_run` writes."""


def train(row: ClassificationConfig | DetectionConfig, path: Path) -> int:
    """Runs to the end in this process; gives the exit code."""
    if isinstance(row, ClassificationConfig):
        return classification.train(row, path, ONE_PROCESS)
    return detection.train(row, path, ONE_PROCESS)


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the rows find their data."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", OLD_RUNS)
def test_a_run_begun_then_goes_on_as_it_would_have(name: str, data_root: Path, tmp_path: Path) -> None:
    """From the second step of its second epoch on: the log says so, and the numbers are those of the old program."""
    write_old_data(name, data_root)
    latest = write_old_run(name, tmp_path / "run")
    assert train(ROWS[name], tmp_path / "run") == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert f"resuming from {latest}: 1 epochs and 1 steps are done" in log
    checkpoint = load_checkpoint(latest)
    assert checkpoint["epoch"] == 2
    first, second = checkpoint["metrics"]["history"]
    assert first == old_checkpoint(name)["metrics"]["history"][0]
    expected = GIVEN_BY_20741D7[name]
    assert {key: second[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    assert config_of(checkpoint) == ROWS[name], "what is written now is of the present format"


@pytest.mark.slow
@pytest.mark.parametrize("name", OLD_RUNS)
def test_the_config_of_its_checkpoint_goes_on(name: str, data_root: Path, tmp_path: Path) -> None:
    """The file alone says what was trained: its config is the row of today, but for where it ran."""
    write_old_data(name, data_root)
    latest = write_old_run(name, tmp_path / "run")
    config = replace(config_of(old_checkpoint(name)), runtime=RUNTIME)
    assert config == ROWS[name]
    assert train(replace(config, runtime=replace(RUNTIME, log_every=5)), tmp_path / "run") == 0
    checkpoint = load_checkpoint(latest)
    assert (checkpoint["epoch"], len(checkpoint["metrics"]["history"])) == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", OLD_RUNS)
def test_another_row_is_refused_as_for_a_run_of_today(name: str, data_root: Path, tmp_path: Path) -> None:
    """In one sentence that names both settings in the present spelling, and says what to do; nothing is changed."""
    write_old_data(name, data_root)
    latest = write_old_run(name, tmp_path / "run")
    before = latest.read_bytes()
    row = ROWS[name]
    other = replace(row, optimizer=replace(row.optimizer, weight_decay=0.5))
    with pytest.raises(
        ValueError, match=r"latest\.pth cannot be resumed, .*optimizer\.weight_decay: [\d.e-]+ -> 0\.5\. .*--fresh"
    ) as caught:
        train(other, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert latest.read_bytes() == before


@pytest.mark.slow
def test_torchvisions_crop_is_taken_for_ours(data_root: Path, tmp_path: Path) -> None:
    """Both showed the same text, and cut out the same to the last bit: the message says which of the two to write."""
    write_old_data("classification", data_root)
    write_old_run("classification", tmp_path / "run")
    transforms = (Call(v2.RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip))
    other = replace(CLASSIFICATION, data=replace(CLASSIFICATION.data, train_transforms=transforms))
    ours, theirs = r"public\.transforms\.image\.RandomResizedCrop", r"torchvision\.transforms\.v2\.RandomResizedCrop"
    with pytest.raises(ValueError, match=rf"data\.train_transforms: \({ours}\(.* -> \({theirs}\(.*same settings"):
        train(other, tmp_path / "run")


@pytest.mark.slow
def test_a_transform_that_is_gone_is_named(data_root: Path, tmp_path: Path) -> None:
    """A run with one of its user's own, which no record of then can bring back: refused with --fresh as the way on."""
    write_old_data("fcos", data_root)
    latest = write_old_run("fcos", tmp_path / "run")
    checkpoint: dict[str, Any] = load_checkpoint(latest)
    checkpoint["config"]["data"]["train_transforms"].insert(0, "Mosaic(tiles=4)")
    assert save_checkpoint(latest, checkpoint)
    with pytest.raises(ValueError, match=r"cannot be resumed, .*data\.train_transforms: .*Mosaic.*--fresh"):
        train(FCOS, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", OLD_RUNS)
def test_its_weights_are_weights(name: str, tmp_path: Path) -> None:
    """`initial_weights` of another run: every tensor fits, the averaged ones where there are such."""
    row = ROWS[name]
    network = (
        build_network(row.network, 10, row.network_options)
        if isinstance(row, ClassificationConfig)
        else build_from_options(10, row.detector)
    )
    load_weights(network, str(write_old_run(name, tmp_path / "run").with_name("best.pth")))
    checkpoint = old_checkpoint(name)
    expected = checkpoint["ema"] or checkpoint["model"]
    own = network.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[key], expected[key]) for key in own)
