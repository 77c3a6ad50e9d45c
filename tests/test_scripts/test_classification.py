"""The test scripts: torchvision's own count on real images, a run's best checkpoint, and what does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from public.backbones.catalog import build_backbone
from public.config.classification import ClassificationConfig, ClassificationDataConfig, NetworkConfig
from public.datasets.classification import build_eval_data
from public.evaluation.classification import evaluate
from public.recipes.classification import train
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import World
from public.test_scripts import classification
from public.test_scripts.classification import TestOptions, at_size, build_classifier, main, options_of, run
from public.test_scripts.test_on_cifar100 import CIFAR100
from public.test_scripts.test_on_imagenet import IMAGENET


def mobilenet(real_data: Path) -> TestOptions:
    """The published MobileNetV2 on one photo for each ImageNet class."""
    weights = real_data / "weights" / "mobilenet_v2-b0353104.pth"
    return TestOptions(
        network="mobilenet_v2",
        weights=str(weights),
        data=str(real_data / "imagenet_like"),
        input_size=224,
        channels_last=True,
    )


def test_mobilenet_v2_counts_as_torchvision_does(real_data: Path, world: World) -> None:
    """torchvision's mobilenet_v2 with its reference transform: 821 of 1000 top-1, 956 top-5, float32."""
    options = mobilenet(real_data)
    data = replace(IMAGENET, folder=options.data, decoder="pil")
    images = build_eval_data(data, batch_size=64, num_workers=1, world=world)
    classifier = build_classifier(options, data, images.class_names, world.device)
    metrics = evaluate(classifier, images.loader, world)
    assert (round(metrics["top1"] * 1000), round(metrics["top5"] * 1000), metrics["num_images"]) == (821, 956, 1000)


@pytest.fixture
def sample_row(config: ClassificationConfig, image_folder: Path) -> ClassificationConfig:
    """One epoch of a small network on the tiny image folder."""
    data = replace(IMAGENET, folder=str(image_folder), val_transforms=())
    row = replace(config.with_epochs(1), network="resnet18cifar", batch_size=4, data=data, precision="fp32")
    return replace(row, runtime=replace(row.runtime, num_workers=0))


def test_a_best_checkpoint_gives_the_number_that_training_gave(
    sample_row: ClassificationConfig, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row's options repeat its evaluation; parameters, multiply-adds and the two parts of the time are printed."""
    folder = tmp_path / "experiment"
    assert train(sample_row, folder / "runs" / sample_row.name, world) == 0
    metrics = run(options_of(sample_row, folder), sample_row.data, world)
    rows = (folder / "runs" / sample_row.name / "metrics.jsonl").read_text()
    assert f'"top1": {metrics["top1"]}' in rows
    printed = capsys.readouterr().out
    assert "M parameters" in printed
    assert "G MACs" in printed
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
    options = replace(options_of(sample_row, tmp_path), weights=str(tmp_path / "bare.pth"))
    run(options, sample_row.data, World(rank=rank, size=2, device=torch.device("cpu")))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == (
        ["network", "weights", "computed", "top1", "top5", "loss", "time"] if rank == 0 else []
    )
    if rank == 0:
        assert printed[-1].endswith("(mean of 4), batch 4")


def test_a_checkpoint_brings_its_network_options(
    sample_row: ClassificationConfig, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run with swish and SwitchNorm is rebuilt as it was trained, from its row and from the file alone.

    Bare weights know nothing: they are evaluated with what the command line says.
    """
    options = NetworkConfig(activation="swish", norm="switch", drop_path=0.1)
    row = replace(sample_row, network_options=options)
    folder = tmp_path / "experiment"
    assert train(row, folder / "runs" / row.name, world) == 0
    expected = run(options_of(row, folder), row.data, world)
    assert f'"top1": {expected["top1"]}' in (folder / "runs" / row.name / "metrics.jsonl").read_text()
    assert options_of(row, folder).network_options == options
    plain = replace(options_of(row, folder), network_options=NetworkConfig())
    assert run(plain, row.data, world) == expected
    weights = tmp_path / "bare.pth"
    torch.save(load_checkpoint(Path(plain.weights))["model"], weights)
    assert run(replace(plain, weights=str(weights), network_options=options), row.data, world) == expected
    with pytest.raises(ValueError, match=r"mean_weight"):
        run(replace(plain, weights=str(weights)), row.data, world)
    capsys.readouterr()


def test_a_row_that_was_not_trained(sample_row: ClassificationConfig, world: World, tmp_path: Path) -> None:
    """The message says where the checkpoint was expected and what to do."""
    with pytest.raises(FileNotFoundError, match=r"there is no .*best\.pth yet: train the row first, or give --weights"):
        run(options_of(sample_row, tmp_path), sample_row.data, world)


def test_a_checkpoint_of_other_classes(sample_row: ClassificationConfig, world: World, tmp_path: Path) -> None:
    """Two classes of other names: the same shapes, and no silent mix-up of labels."""
    assert train(sample_row, tmp_path / "runs" / sample_row.name, world) == 0
    root = Path(sample_row.data.folder)
    for split in ("train", "val"):
        (root / split / "bird").rename(root / split / "zebra")
    with pytest.raises(ValueError, match=r"trained on 2 classes \(bird, cat\).* has 2 classes \(cat, zebra\)"):
        run(options_of(sample_row, tmp_path), sample_row.data, world)


def test_bare_weights_need_no_experiment(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line alone: network, weights, data."""
    torch.save(build_backbone("resnet18cifar", 2).state_dict(), tmp_path / "bare.pth")
    settings = ["--network", "resnet18cifar", "--weights", str(tmp_path / "bare.pth"), "--data", str(image_folder)]
    main(IMAGENET, 224, [*settings, "--input-size", "16", "--num-workers", "0", "--device", "cpu"])
    assert "of 7), error" in capsys.readouterr().out


def test_mistakes_end_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is no experiment, and an unknown network."""
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, 224, [str(tmp_path)])
    assert "is not an experiment folder: it has no config.py" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, 224, ["--network", "resnet5", "--weights", "x.pth", "--data", str(tmp_path)])
    assert "error: " in capsys.readouterr().err


def test_the_input_size_of_images_in_memory_is_fixed() -> None:
    """CIFAR's images are used as they are; files get the usual 256/224 and a centre crop."""
    with pytest.raises(ValueError, match="input_size=64 cannot be chosen for cifar100"):
        at_size(CIFAR100, 64)
    data: ClassificationDataConfig = at_size(IMAGENET, 112)
    assert [str(t.size) for t in data.val_transforms] == ["[128]", "(112, 112)"]  # pyright: ignore[reportFunctionMemberAccess]
