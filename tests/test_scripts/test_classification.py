"""The test scripts: torchvision's own count on real images, a run's best checkpoint, and what does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from public.backbones.catalog import build_backbone
from public.backbones.residual_network import ResNetOptions
from public.config.calls import build_all
from public.config.classification import ClassificationConfig
from public.config.options import NetworkOptions
from public.datasets.classification import build_eval_data
from public.evaluation.classification import ClassificationResult, evaluate
from public.evaluation.outcomes import Outcomes
from public.recipes.classification import ClassificationTask, train
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from public.test_scripts import classification
from public.test_scripts.classification import WeightsOptions, build_classifier, main, of_network, options_of, run
from public.test_scripts.request import Request, read_request
from public.test_scripts.test_on_cifar100 import CIFAR100
from public.test_scripts.test_on_imagenet import IMAGENET
from tests.commands import ROOT

pytestmark = pytest.mark.usefixtures("no_plots")


def request_of(*argv: str) -> Request:
    """What a command line asks for."""
    kinds = ClassificationTask.kinds[:2]
    return read_request(argv, kinds, lambda network: of_network(network, IMAGENET), ClassificationConfig)


def evaluated(*argv: str, context: DistributedContext) -> dict[str, float]:
    """The metrics of a command line without settings."""
    request = request_of(*argv)
    return run(replace(options_of(request), num_workers=0), request, context)


@pytest.mark.slow
def test_mobilenet_v2_counts_as_torchvision_does(real_data: Path, context: DistributedContext) -> None:
    """torchvision's mobilenet_v2 with its reference transform: 821 of 1000 top-1, 956 top-5, float32."""
    weights = str(real_data / "weights" / "mobilenet_v2-b0353104.pth")
    request = request_of("--network", "mobilenet_v2", "--weights", weights)
    options = options_of(request)
    assert isinstance(options, WeightsOptions)
    data = replace(IMAGENET, folder=str(real_data / "imagenet_like"), decoder="pil")
    images = build_eval_data(data, batch_size=8, num_workers=1, context=context)
    config = replace(request.config, network="mobilenet_v2", data=data, channels_last=True)
    classifier = build_classifier(options, request, config, images.class_names, context.device)
    metrics = evaluate(classifier, images.loader, context).metrics
    assert (round(metrics["top1"] * 1000), round(metrics["top5"] * 1000), metrics["num_images"]) == (821, 956, 1000)


def test_weights_of_others_compute_in_fp32_and_a_checkpoint_as_its_run_did() -> None:
    request = request_of(str(ROOT / "imagenet_experiments/resnet_imagenet"), "--weights", "torchvision:resnet50")
    assert request.config.precision == "auto"
    assert options_of(request).precision == "fp32"
    ours: Any = object()
    assert options_of(request._replace(trained=ours)).precision == "auto"


@pytest.fixture
def sample_row(config: ClassificationConfig, image_folder: Path) -> ClassificationConfig:
    """One epoch of a small network on the tiny image folder."""
    data = replace(IMAGENET, folder=str(image_folder), input_size=16, val_transforms=())
    row = replace(config.with_epochs(1), network="resnet18cifar", batch_size=4, data=data, precision="fp32")
    return replace(row, runtime=replace(row.runtime, num_workers=0))


@pytest.fixture
def best(sample_row: ClassificationConfig, context: DistributedContext, tmp_path: Path) -> Path:
    """best.pth of its run, in no experiment's folder."""
    assert train(sample_row, tmp_path / "run", context) == 0
    return tmp_path / "run" / "checkpoints" / "best.pth"


@pytest.mark.slow
def test_a_best_checkpoint_gives_the_number_that_training_gave(
    best: Path, context: DistributedContext, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file alone repeats its evaluation; parameters, multiply-adds and the two parts of the time are printed."""
    metrics = evaluated("--weights", str(best), context=context)
    assert f'"top1": {metrics["top1"]}' in (best.parents[1] / "metrics.jsonl").read_text()
    printed = capsys.readouterr().out
    report = best.parents[1] / "test" / "report.html"
    assert f"written    {report.parent}: report.html" in printed
    assert "resnet18cifar" in report.read_text()
    assert "network    resnet18cifar: " in printed
    assert "M parameters" in printed
    assert "G MACs at 16x16" in printed
    assert "of 7), error" in printed
    assert "ms per image: load" in printed


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_times_of_one_process_of_two(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    """Seven images, four and three of them in each: one batch of four, timed without warm-up by the main one alone."""
    torch.save(build_backbone("resnet18cifar", 2).state_dict(), tmp_path / "bare.pth")
    counted = {"top1": 0.5, "top5": 1.0, "loss": 1.0, "num_images": 7.0}
    nothing = Outcomes(*(np.zeros(0, dtype) for dtype in (np.int64, np.int64, np.float32, np.float32)))
    monkeypatch.setattr(classification, "evaluate", lambda *_: ClassificationResult(counted, nothing))
    request = request_of("--network", "resnet18cifar", "--weights", str(tmp_path / "bare.pth"))
    data = replace(IMAGENET, folder=str(image_folder), input_size=16, val_transforms=())
    options = replace(options_of(request), network="resnet18cifar", data=data, batch_size=4, num_workers=0)
    run(options, request, DistributedContext(rank=rank, size=2, device=torch.device("cpu")))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == (
        ["network", "weights", "computed", "top1", "top5", "loss", "time"] if rank == 0 else []
    )
    if rank == 0:
        assert printed[-1].endswith("(mean of 4), batch 4")


@pytest.mark.slow
def test_a_checkpoint_brings_its_network_and_options(
    sample_row: ClassificationConfig, context: DistributedContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run with swish and SwitchNorm is rebuilt as it was trained, from the file alone.

    Bare weights know nothing: they are evaluated with what the command line says.
    """
    swish = ResNetOptions(activation="swish", norm="switch", drop_path=0.1)
    row = replace(sample_row, network_options=swish)
    assert train(row, tmp_path / "run", context) == 0
    best = tmp_path / "run" / "checkpoints" / "best.pth"
    expected = evaluated("--weights", str(best), context=context)
    assert f'"top1": {expected["top1"]}' in (tmp_path / "run" / "metrics.jsonl").read_text()
    torch.save(load_checkpoint(best)["model"], tmp_path / "bare.pth")
    request = request_of("--network", "resnet18cifar", "--weights", str(tmp_path / "bare.pth"))
    options = replace(options_of(request), network="resnet18cifar", data=row.data, num_workers=0)
    assert run(replace(options, network_options=swish), request, context) == expected  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match=r"mean_weight"):
        run(replace(options, network_options=NetworkOptions()), request, context)  # pyright: ignore[reportCallIssue]
    capsys.readouterr()


def test_a_row_that_was_not_trained(
    sample_row: ClassificationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says where the checkpoint was expected and what to do."""
    (tmp_path / "config.py").write_text(
        "from public.test_scripts.classification import of_network\n"
        "from public.test_scripts.test_on_imagenet import IMAGENET\n"
        "CONFIGS = {'weights': of_network('resnet18', IMAGENET)}\n"
    )
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, [str(tmp_path)])
    told = capsys.readouterr().err
    assert f"{tmp_path / 'runs' / 'weights' / 'checkpoints' / 'best.pth'} yet: train the row first, or give " in told


@pytest.mark.slow
def test_the_best_checkpoint_of_a_row(
    sample_row: ClassificationConfig, context: DistributedContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What test.sh gives, a folder and perhaps a row's name, is evaluated as the row's file is when it is named."""
    folder = tmp_path / "experiment"
    path = folder / "runs" / sample_row.name
    assert train(sample_row, path, context) == 0
    (folder / "config.py").write_text(
        "from public.config.record import config_of\n"
        "from public.runtime.checkpoint import load_checkpoint\n"
        "from pathlib import Path\n"
        f"row = config_of(load_checkpoint(Path({str(path / 'checkpoints' / 'best.pth')!r})))\n"
        f"CONFIGS = {{{sample_row.name!r}: row}}\n"
    )
    expected = evaluated("--weights", str(path / "checkpoints" / "best.pth"), context=context)
    for argv in ([str(folder)], [str(folder), sample_row.name]):
        assert request_of(*argv).trained is not None
        assert evaluated(*argv, context=context) == expected
    assert f'"top1": {expected["top1"]}' in (path / "metrics.jsonl").read_text()
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, [str(folder), "other"])
    assert "other" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_of_other_classes(best: Path, image_folder: Path, context: DistributedContext) -> None:
    """Two classes of other names: the same shapes, and no silent mix-up of labels."""
    for split in ("train", "val"):
        (image_folder / split / "bird").rename(image_folder / split / "zebra")
    with pytest.raises(ValueError, match=r"val holds 1 of 2 classes that are not trained on: zebra; .*of bird, cat\."):
        evaluated("--weights", str(best), context=context)


@pytest.mark.slow
def test_bare_weights_need_no_experiment(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line alone: network, weights, data, size."""
    torch.save(build_backbone("resnet18cifar", 2).state_dict(), tmp_path / "bare.pth")
    weights = ["--network", "resnet18cifar", "--weights", str(tmp_path / "bare.pth")]
    settings = ["--data.folder", str(image_folder), "--data.input-size", "16", "--num-workers", "0", "--device", "cpu"]
    main(IMAGENET, [*weights, *settings])
    printed = capsys.readouterr().out
    assert "of 7), error" in printed
    assert "at 16x16" in printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["."], "is not an experiment folder: it has no config.py"),
        (["--network", "resnet5", "--weights", "bare.pth"], "resnet5"),
        (["--weights", "bare.pth"], "is not a checkpoint of one of our runs, so it does not say what it fits"),
        (["--weights", "typo.pth"], "there is no typo.pth"),
        (["--data", "somewhere"], "--data is called --data.folder now"),
        (["--decoder", "pil"], "--decoder is called --data.decoder now"),
        (["--input-size", "32"], "--input-size is called --data.input-size now"),
    ],
)
def test_mistakes_end_with_exit_code_2(
    argv: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each in one sentence."""
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1)}, "bare.pth")
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, argv)
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_another_size(best: Path) -> None:
    """CIFAR's images are used as they are; files get the usual 256/224 and a center crop."""
    with pytest.raises(ValueError, match=r"data\.input_size=64 must be 32: CIFAR-100"):
        replace(CIFAR100, input_size=64)
    data = replace(IMAGENET, input_size=112)
    resize, crop = build_all(data.val_transforms, data.input_size)
    assert (list(resize.size), tuple(crop.size)) == ([128], (112, 112))
