"""Evaluating what a classification run was trained with: its size, data and format, and what may be different."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from torchvision.transforms import v2

from public.backbones.residual_network import ResNetOptions
from public.config.calls import SIZE, Call, build_all
from public.config.classification import ClassificationConfig
from public.recipes.classification import train
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from public.test_scripts.classification import main
from public.test_scripts.test_on_cifar100 import CIFAR100
from public.test_scripts.test_on_imagenet import IMAGENET
from tests.old_runs.make import write_old_data, write_old_run

pytestmark = pytest.mark.usefixtures("no_plots")

QUIET = ["--num-workers", "0", "--device", "cpu"]


@pytest.fixture
def sample_row(config: ClassificationConfig, image_folder: Path) -> ClassificationConfig:
    """One epoch of a small network on the tiny image folder, at 16 pixels."""
    data = replace(
        IMAGENET,
        folder=str(image_folder),
        input_size=16,
        train_transforms=(Call(v2.Resize, size=(SIZE, SIZE)),),
        val_transforms=(Call(v2.Resize, size=(SIZE, SIZE)),),
    )
    row = replace(config.with_epochs(1), network="resnet18cifar", batch_size=4, data=data, precision="fp32")
    return replace(row, network_options=ResNetOptions(), runtime=replace(row.runtime, num_workers=0))


def trained(row: ClassificationConfig, folder: Path, context: DistributedContext) -> Path:
    """A run of the row in an experiment's folder; its best.pth."""
    path = folder / "runs" / row.name
    assert train(row, path, context) == 0
    return path / "checkpoints" / "best.pth"


def top1_of(best: Path) -> str:
    """As the script prints what training gave."""
    return f"top1       {100 * load_checkpoint(best)['metrics']['best']['top1']:.2f} % "


# ---- sizes -----------------------------------------------------------------------------------------------------------


def test_the_input_size_of_images_in_memory_is_fixed() -> None:
    """CIFAR's images are used as they are; files get the usual 256/224 and a center crop."""
    with pytest.raises(ValueError, match=r"data\.input_size=64"):
        replace(CIFAR100, input_size=64)
    resize, crop = build_all(IMAGENET.val_transforms, 112)
    assert (str(resize.size), str(crop.size)) == ("[128]", "(112, 112)")


@pytest.mark.parametrize("option", ["--input-size", "--input_size=64", "--canvas-size"])
def test_former_names_of_the_size(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused with the present one, before any file is looked at."""
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, ["--weights", "nowhere.pth", option, "64"])
    assert "is called --data.input-size now" in capsys.readouterr().err


@pytest.mark.slow
def test_another_size_for_an_evaluation(
    sample_row: ClassificationConfig, context: DistributedContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images and multiply-adds: four times the pixels are four times the convolutions."""
    best = trained(sample_row, tmp_path, context)
    macs = []
    for size in (16, 32):
        main(IMAGENET, ["--weights", str(best), "--data.input-size", str(size), *QUIET])
        printed = capsys.readouterr().out
        assert f"at {size}x{size}" in printed
        macs.append(float(re.findall(r"([\d.]+) G MACs", printed)[0]))
    assert macs[1] == pytest.approx(4 * macs[0], rel=0.05)


# ---- what a run was trained with is what it is evaluated with --------------------------------------------------------


@pytest.mark.slow
def test_data_and_precision_of_the_command_line(
    sample_row: ClassificationConfig, context: DistributedContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand above what the checkpoint brings: the same images elsewhere, in bfloat16."""
    best = trained(sample_row, tmp_path, context)
    elsewhere = tmp_path / "elsewhere"
    Path(sample_row.data.folder).rename(elsewhere)
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, ["--weights", str(best), *QUIET])
    assert str(sample_row.data.folder) in capsys.readouterr().err
    folder = ["--data.folder", str(elsewhere)]
    main(IMAGENET, ["--weights", str(best), *folder, *QUIET])
    printed = capsys.readouterr().out
    assert top1_of(best) in printed
    assert " in float32" in printed
    main(IMAGENET, ["--weights", str(best), *folder, "--precision", "bf16", *QUIET])
    assert " in bfloat16, where published numbers are in float32 (--precision fp32)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_of_format_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its best.pth brings network, data below DATA_ROOT and transforms with it, as one of today does."""
    write_old_data("classification", tmp_path)
    best = write_old_run("classification", tmp_path / "old").with_name("best.pth")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    main(IMAGENET, ["--weights", str(best), *QUIET])
    printed = capsys.readouterr().out
    assert "network    mobilenet_v3_small: " in printed
    assert "at 64x64" in printed
    assert "of 10), error" in printed


@pytest.mark.slow
def test_the_present_folder_counts_for_what_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint's data lie below DATA_ROOT, also where the present folder has others of the same name."""
    write_old_data("classification", tmp_path / "root")
    best = write_old_run("classification", tmp_path / "old").with_name("best.pth")
    decoy = tmp_path / "here" / "ILSVRC2012"
    for split in ("train", "val"):
        shutil.copytree(tmp_path / "root" / "ILSVRC2012" / split, decoy / split)
        shutil.rmtree(next((decoy / split).iterdir()))
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path / "here")
    main(IMAGENET, ["--weights", str(best), *QUIET])
    assert "of 10), error" in capsys.readouterr().out
    main(IMAGENET, ["--weights", str(best), "--data.folder", "ILSVRC2012", *QUIET])  # the decoy lacks a class
    assert "of 9), error" in capsys.readouterr().out


@pytest.mark.slow
def test_another_kind_of_data_is_asked_for_by_name(
    sample_row: ClassificationConfig, context: DistributedContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the former kind was given has to fit the other: CIFAR's images are 32 pixels; and there must be such."""
    best = trained(sample_row, tmp_path, context)
    for kind, message in (
        ("cifar100", "data.input_size=16 must be 32"),
        ("cifar10", "--data.dataset cifar10: there is no such one; the nearest: cifar100"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(IMAGENET, ["--weights", str(best), "--data.dataset", kind, *QUIET])
        assert capsys.readouterr().err.startswith(f"error: {message}")
