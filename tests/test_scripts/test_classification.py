"""The test scripts: torchvision's own count on real images, a run's best checkpoint, and what does not fit."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from public.backbones.catalog import build_backbone
from public.backbones.resnet import ResNetOptions
from public.config.calls import SIZE, Call, build_all
from public.config.classification import ClassificationConfig
from public.datasets.classification import build_eval_data
from public.evaluation.classification import evaluate
from public.recipes.classification import ClassificationTask, train
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import World
from public.test_scripts import classification
from public.test_scripts.classification import WeightsOptions, build_classifier, main, of_network, options_of, run
from public.test_scripts.request import Request, read_request
from public.test_scripts.test_on_cifar100 import CIFAR100
from public.test_scripts.test_on_imagenet import IMAGENET
from tests.old_runs.make import write_old_data, write_old_run

QUIET = ["--num-workers", "0", "--device", "cpu"]


def request_of(*arguments: str) -> Request:
    """What the script reads first of its command line."""
    default = lambda network: of_network(network, IMAGENET)  # noqa: E731
    return read_request(arguments, ClassificationTask.kinds[:2], default, ClassificationConfig)


def test_mobilenet_v2_counts_as_torchvision_does(real_data: Path, world: World) -> None:
    """torchvision's mobilenet_v2 with its reference transform: 821 of 1000 top-1, 956 top-5, float32."""
    weights = real_data / "weights" / "mobilenet_v2-b0353104.pth"
    request = request_of("--network", "mobilenet_v2", "--weights", str(weights))
    data = replace(IMAGENET, folder=str(real_data / "imagenet_like"), decoder="pil")
    images = build_eval_data(data, batch_size=64, num_workers=1, world=world)
    config = replace(request.config, data=data, channels_last=True)
    classifier = build_classifier(options_of(request), request, config, images.class_names, world.device)
    metrics = evaluate(classifier, images.loader, world)
    assert (round(metrics["top1"] * 1000), round(metrics["top5"] * 1000), metrics["num_images"]) == (821, 956, 1000)


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


def trained(row: ClassificationConfig, folder: Path, world: World) -> Path:
    """A run of the row in an experiment's folder; its best.pth."""
    path = folder / "runs" / row.name
    assert train(row, path, world) == 0
    return path / "checkpoints" / "best.pth"


def top1_of(best: Path) -> str:
    """As the script prints what training gave."""
    return f"top1       {100 * load_checkpoint(best)['metrics']['best']['top1']:.2f} % "


def test_a_best_checkpoint_gives_the_number_that_training_gave(
    sample_row: ClassificationConfig, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own config repeats its evaluation; parameters, multiply-adds and the two parts of the time are printed."""
    best = trained(sample_row, tmp_path, world)
    request = request_of("--weights", str(best))
    assert request.config == sample_row
    metrics = run(options_of(request), request, world)
    rows = (best.parents[1] / "metrics.jsonl").read_text()
    assert f'"top1": {metrics["top1"]}' in rows
    printed = capsys.readouterr().out
    assert "M parameters" in printed
    assert "G MACs at 16x16" in printed
    assert "of 7), error" in printed
    assert "ms an image: load" in printed


@pytest.mark.parametrize("rank", [0, 1])
def test_times_of_one_process_of_two(
    sample_row: ClassificationConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: int,
) -> None:
    """Seven images, four and three of them in each: one batch of four, timed without warm-up by the main one alone."""
    torch.save(build_backbone("resnet18cifar", 2).state_dict(), tmp_path / "bare.pth")
    monkeypatch.setattr(
        classification, "evaluate", lambda *_: {"top1": 0.5, "top5": 1.0, "loss": 1.0, "num_images": 7.0}
    )
    request = request_of("--network", "resnet18cifar", "--weights", str(tmp_path / "bare.pth"))
    options = replace(options_of(request), network="resnet18cifar", batch_size=4, num_workers=0, data=sample_row.data)
    run(options, request, World(rank=rank, size=2, device=torch.device("cpu")))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == (
        ["network", "weights", "computed", "top1", "top5", "loss", "time"] if rank == 0 else []
    )
    if rank == 0:
        assert printed[-1].endswith("(mean of 4), batch 4")


def test_a_checkpoint_brings_its_network_options(
    sample_row: ClassificationConfig, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run with swish, SwitchNorm and DropPath is rebuilt as it was trained, from the file alone.

    Bare weights know nothing: they are evaluated with what the command line says.
    """
    own = ResNetOptions(activation="swish", norm="switch", drop_path=0.1)
    best = trained(replace(sample_row, network_options=own), tmp_path, world)
    request = request_of("--weights", str(best))
    assert request.config.network_options == own
    assert not isinstance(options_of(request), WeightsOptions), "nothing says the network a second time"
    expected = run(options_of(request), request, world)
    assert f'"top1": {expected["top1"]}' in (best.parents[1] / "metrics.jsonl").read_text()

    torch.save(load_checkpoint(best)["model"], tmp_path / "bare.pth")
    bare = request_of("--network", "resnet18cifar", "--weights", str(tmp_path / "bare.pth"))
    options: Any = replace(options_of(bare), network="resnet18cifar", batch_size=4, num_workers=0, data=sample_row.data)
    assert run(replace(options, network_options=own), bare, world) == expected
    with pytest.raises(ValueError, match=r"mean_weight"):
        run(options, bare, world)
    capsys.readouterr()


def test_a_row_that_was_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says where the checkpoint was expected and what to do."""
    write_config(tmp_path, "")
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, [str(tmp_path)])
    best = tmp_path / "runs" / "tiny" / "checkpoints" / "best.pth"
    assert capsys.readouterr().err == (f"error: there is no {best} yet: train the row first, or give --weights FILE.\n")


def test_a_checkpoint_of_other_classes(sample_row: ClassificationConfig, world: World, tmp_path: Path) -> None:
    """Two classes of other names: the same shapes, and no silent mix-up of labels."""
    request = request_of("--weights", str(trained(sample_row, tmp_path, world)))
    root = Path(sample_row.data.folder)
    for split in ("train", "val"):
        (root / split / "bird").rename(root / split / "zebra")
    with pytest.raises(ValueError, match=r"trained on 2 classes \(bird, cat\).* has 2 classes \(cat, zebra\)"):
        run(options_of(request), request, world)


def test_bare_weights_need_no_experiment(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line alone: network, weights, data; the script's protocol in proportion at another size."""
    torch.save(build_backbone("resnet18cifar", 2).state_dict(), tmp_path / "bare.pth")
    settings = ["--network", "resnet18cifar", "--weights", str(tmp_path / "bare.pth")]
    main(IMAGENET, [*settings, "--data.folder", str(image_folder), "--data.input-size", "16", *QUIET])
    printed = capsys.readouterr().out
    assert "of 7), error" in printed
    assert "at 16x16" in printed


def test_mistakes_end_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is no experiment, an unknown network, weights that say nothing, a detector's script."""
    torch.save(build_backbone("resnet18cifar", 2).state_dict(), tmp_path / "bare.pth")
    detector = write_old_run("fcos", tmp_path / "fcos")
    bare = ["--weights", str(tmp_path / "bare.pth")]
    for arguments, message in (
        ([str(tmp_path)], "is not an experiment folder: it has no config.py"),
        (["--network", "resnet5", *bare], "resnet5: there is no such one; the nearest: resnet"),
        (bare, "is not a checkpoint of one of our runs, so it does not say what it fits"),
        (["--weights", str(detector)], "the checkpoint of fcos, a DetectionConfig; this script evaluates a"),
        (["--weights", str(tmp_path / "typo.pth")], f"there is no {tmp_path / 'typo.pth'}."),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(IMAGENET, arguments)
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert "Traceback" not in error


# ---- sizes -----------------------------------------------------------------------------------------------------------


def test_the_input_size_of_images_in_memory_is_fixed() -> None:
    """CIFAR's images are used as they are; files get the usual 256/224 and a centre crop."""
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


def test_another_size_for_an_evaluation(
    sample_row: ClassificationConfig, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images and multiply-adds: four times the pixels are four times the convolutions."""
    best = trained(sample_row, tmp_path, world)
    macs = []
    for size in (16, 32):
        main(IMAGENET, ["--weights", str(best), "--data.input-size", str(size), *QUIET])
        printed = capsys.readouterr().out
        assert f"at {size}x{size}" in printed
        macs.append(float(re.findall(r"([\d.]+) G MACs", printed)[0]))
    assert macs[1] == pytest.approx(4 * macs[0], rel=0.05)


# ---- what a run was trained with is what it is evaluated with --------------------------------------------------------


def write_config(folder: Path, data: str, extra: str = "") -> None:
    """An experiment whose row, tiny, is an 18-layer network on that data: the folder is `data`."""
    (folder / "config.py").write_text(
        "from torchvision.transforms import v2\n"
        "from public.config.calls import SIZE, Call\n"
        "from public.config.classification import ClassificationConfig\n"
        "from public.config.run import RuntimeConfig\n"
        "from public.datasets.imagenet import ImageFolderData\n"
        "from public.optim.options import ConstantOptions, SGDOptions\n"
        "resize = Call(v2.Resize, size=(SIZE, SIZE))\n"
        f"{extra}"
        "CONFIGS = {'tiny': ClassificationConfig(name='tiny', network='resnet18cifar', epochs=1, batch_size=4,\n"
        "    precision='fp32', optimizer=SGDOptions(lr=0.1, weight_decay=0), schedule=ConstantOptions(),\n"
        "    runtime=RuntimeConfig(device='cpu', num_workers=0),\n"
        f"    data=ImageFolderData(folder={data!r}, input_size=16, train_transforms=(resize,), "
        "val_transforms=(resize,)))}\n"
    )


def test_data_and_precision_of_the_command_line(
    sample_row: ClassificationConfig, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand above what the checkpoint brings: the same images elsewhere, in bfloat16."""
    best = trained(sample_row, tmp_path, world)
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
    assert " in bfloat16" in capsys.readouterr().out


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
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, ["--weights", str(best), "--data.folder", "ILSVRC2012", *QUIET])
    assert "the data set has 9 classes" in capsys.readouterr().err


def test_another_kind_of_data_is_asked_for_by_name(
    sample_row: ClassificationConfig, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the former kind was given has to fit the other: CIFAR's images are 32 pixels; and there must be such."""
    best = trained(sample_row, tmp_path, world)
    for kind, message in (
        ("cifar100", "data.input_size=16 must be 32"),
        ("cifar10", "--data.dataset cifar10: there is no such one; the nearest: cifar100"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(IMAGENET, ["--weights", str(best), "--data.dataset", kind, *QUIET])
        assert capsys.readouterr().err.startswith(f"error: {message}")
