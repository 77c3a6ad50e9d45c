"""What an experiment brings of its own, and the command with which a run ends: typed as a person types them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from public.backbones.classifier import ImageClassifier
from public.backbones.trained import load_classifier
from public.config.command_line import parse_config
from public.config.experiment import Experiment, load_configs
from public.config.record import config_of
from public.datasets.sample_layouts import write_imagenet
from public.recipes import start
from public.recipes.classification import ClassificationTask
from public.recipes.detection import DetectionTask, train
from public.runtime.checkpoint import load_checkpoint
from public.test_scripts.classification import main
from public.test_scripts.detection import main as detection_main
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_imagenet import IMAGENET
from tests import warm_python
from tests.conftest import ROOT
from tests.datasets.written import voc_object, write_voc
from tests.recipes.runs import ONE_PROCESS
from tests.test_scripts.trained import TRAIN, TrainedRun, run_script

pytestmark = pytest.mark.usefixtures("no_plots")

EXAMPLE = ROOT / "imagenet_experiments" / "own_loss_sample_train_example"
SMALL = ["--epochs", "1", "--schedule.warmup-epochs", "0", "--batch-size", "10", "--data.input-size", "32"]
SMALL += ["--runtime.num-workers", "0", "--runtime.device", "cpu", "--runtime.log-every", "1", "--precision", "fp32"]
QUIET = ["--num-workers", "0", "--device", "cpu"]


def shell(command: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A line of a shell, typed in a folder."""
    names = {"PYTHON": warm_python.executable(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "DATA_ROOT"} | names | variables
    return subprocess.run(
        command, cwd=folder, env=environment, shell=True, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, its name with a blank, trained for an epoch on 20 images in a data/ below it."""
    folder = tmp_path_factory.mktemp("own") / "my loss"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    write_imagenet(folder / "data" / "ILSVRC2012", 0, 2, 1)
    trained = shell(f"$PYTHON train.py --name mine {shlex.join(SMALL)}", folder, DATA_ROOT="data")
    assert trained.returncode == 0, trained.stderr[-3000:]
    return folder


def best_of(folder: Path) -> Path:
    """Of the run `mine`."""
    return folder / "runs" / "mine" / "checkpoints" / "best.pth"


def last_command(run: Path) -> str:
    """The one that the run's last line of log gives."""
    last = (run / "train.log").read_text().splitlines()[-1]
    assert "done: best " in last
    return last.partition("To evaluate: ")[2]


def metric_of(best: Path, name: str) -> float:
    """What training gave."""
    return load_checkpoint(best)["metrics"]["best"][name]


# ---- a task and a transform ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loss_of_ones_own_trains(example: Path) -> None:
    """The checkpoint names the task and the transform; the log has the loss, and the size is the command line's."""
    checkpoint = load_checkpoint(best_of(example))
    assert checkpoint["task"] == "experiment:loss.FocalTask"
    calls = [call["call"] for call in checkpoint["config"]["data"]["train_transforms"]]
    assert "experiment:transforms.RandomInvert" in calls
    log = (example / "runs" / "mine" / "train.log").read_text()
    assert "step 1/2  focal " in log
    assert "G MACs at 32x32" in log


@pytest.mark.slow
def test_the_command_lines_size_is_that_of_every_image(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are trained on and those that are evaluated, not only those that are counted."""
    monkeypatch.setenv("DATA_ROOT", str(example / "data"))
    config, _ = parse_config(load_configs(example), [*SMALL, "--name", "sizes"], ClassificationTask.kinds)
    task = Experiment(example).find("experiment:loss.FocalTask")
    sizes: dict[bool, set[tuple[int, ...]]] = {True: set(), False: set()}
    real_forward = ImageClassifier.forward

    def forward(self: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
        sizes[self.training].add(tuple(images.shape[2:]))
        return real_forward(self, images)

    monkeypatch.setattr(ImageClassifier, "forward", forward)
    assert start.train(config, tmp_path / "run", ONE_PROCESS, task, folder=example) == 0
    assert sizes == {True: {(32, 32)}, False: {(32, 32)}}


@pytest.mark.slow
def test_its_test_script_evaluates_it(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With Python itself: with the number that training gave, at the size it was trained at; and at another."""
    expected = f"top1       {100 * metric_of(best_of(example), 'top1'):.2f} % "
    command = f"./test.sh --weights runs/mine/checkpoints/best.pth {shlex.join(QUIET)}"
    done = shell(command, example, DATA_ROOT="data", PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    (small,) = re.findall(r"([\d.]+) G MACs at 32x32", done.stdout)
    monkeypatch.setenv("DATA_ROOT", str(example / "data"))
    main(IMAGENET, [str(example), "--weights", str(best_of(example)), "--data.input-size", "64", *QUIET])
    (large,) = re.findall(r"([\d.]+) G MACs at 64x64", capsys.readouterr().out)
    assert float(large) == pytest.approx(4 * float(small), rel=0.05)


@pytest.mark.slow
def test_without_its_folder_it_is_refused_by_name(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the script and by the call from Python: nothing that a file names is imported."""
    best, module = best_of(example), "$PYTHON -m public.test_scripts.test_on_imagenet"
    command = f"{module} --weights {shlex.quote(str(best))} {shlex.join(QUIET)}"
    done = shell(command, example.parent, DATA_ROOT=str(example / "data"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "transforms.RandomInvert is a class of the experiment's own folder" in done.stderr
    assert "--experiment FOLDER" in done.stderr
    monkeypatch.setenv("DATA_ROOT", str(example / "data"))
    main(IMAGENET, ["--weights", str(best), "--experiment", str(example), *QUIET])
    assert f"top1       {100 * metric_of(best, 'top1'):.2f} % " in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"transforms\.RandomInvert is a class of the experiment's own folder"):
        load_classifier(best, device="cpu")


@pytest.mark.slow
def test_a_task_of_ones_own_alone(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a transform of its own it is the task that is refused by name, its network being anybody's guess."""
    folder = tmp_path / "experiment"
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    text = (folder / "config.py").read_text()
    (folder / "config.py").write_text(text.replace("Call(RandomInvert, probability=0.1),", ""))
    trained = shell(f"$PYTHON train.py --name mine {shlex.join(SMALL)}", folder, DATA_ROOT="data")
    assert trained.returncode == 0, trained.stderr[-3000:]
    best = best_of(folder)
    config = config_of(load_checkpoint(best))
    assert config.data.input_size == 32
    with pytest.raises(ValueError, match=r"best\.pth was trained by experiment:loss\.FocalTask, a task of its exp"):
        load_classifier(best, device="cpu")
    with pytest.raises(ValueError, match=r"best\.pth was trained by experiment:loss\.FocalTask, a task of its exp"):
        load_classifier(best, device="cpu", experiment=folder)
    monkeypatch.setenv("DATA_ROOT", str(folder / "data"))
    with pytest.raises(SystemExit, match="2"):
        main(IMAGENET, ["--weights", str(best), *QUIET])
    assert (
        "was trained by experiment:loss.FocalTask, a task of its experiment's own: run that" in capsys.readouterr().err
    )
    main(IMAGENET, ["--weights", str(best), "--experiment", str(folder), *QUIET])
    assert f"top1       {100 * metric_of(best, 'top1'):.2f} % " in capsys.readouterr().out


# ---- the command with which a run ends -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_last_line_of_a_classification(example: Path, tmp_path: Path) -> None:
    """Of a run under another --name, in a folder with a blank, with a relative DATA_ROOT: works from anywhere."""
    command = last_command(example / "runs" / "mine")
    done = shell(f"{command} {shlex.join(QUIET)}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"top1       {100 * metric_of(best_of(example), 'top1'):.2f} % " in done.stdout


@pytest.mark.slow
def test_the_last_line_of_another_network_than_the_rows(example: Path, tmp_path: Path) -> None:
    """--network, data given by its whole path: the command needs no more than the last line has."""
    folder = tmp_path / "experiment"
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("runs", "__pycache__", "data"))
    data = ["--data.folder", str(example / "data" / "ILSVRC2012"), "--network", "mobilenet_v3_small"]
    trained = shell(f"$PYTHON train.py --name mine {shlex.join([*SMALL, *data])}", folder)
    assert trained.returncode == 0, trained.stderr[-3000:]
    done = shell(last_command(folder / "runs" / "mine"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "network    mobilenet_v3_small: " in done.stdout
    assert f"top1       {100 * metric_of(best_of(folder), 'top1'):.2f} % " in done.stdout


@pytest.mark.slow
def test_the_last_line_of_a_detection(trained_run: TrainedRun, tmp_path: Path) -> None:
    """Another detector and backbone than the row's."""
    folder = tmp_path / "experiment"
    folder.mkdir()
    shutil.copy(trained_run.folder / "config.py", folder)
    (folder / "train.py").write_text(TRAIN)
    shutil.copy(ROOT / "detection_experiments" / "resnet50_faster_rcnn_coco" / "test.sh", folder)
    changes = ["--network", "fcos", "--detector.backbone", "mobilenet_v3_small", "--name", "mine", "--epochs", "1"]
    trained = run_script(folder / "train.py", *changes)
    assert trained.returncode == 0, trained.stderr[-3000:]
    done = shell(f"{last_command(folder / 'runs' / 'mine')} --time-steps 0", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "detector   fcos on mobilenet_v3_small: " in done.stdout
    assert f"AP50 {metric_of(best_of(folder), 'AP50'):.4f}" in done.stdout
    assert (folder / "runs" / "mine" / "test" / "predictions.json").is_file()


@pytest.mark.slow
def test_classes_and_splits_of_the_command_line(
    trained_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another format than the row's, its classes named there alone: best.pth brings them with it, in their order."""
    objects = {f"{n:06d}": voc_object(name, 3, 3, 30, 25) for n, name in enumerate(("tea", "cup", "tea", "cup"))}
    for split in ("Own/train", "Own/held"):
        write_voc(tmp_path / "own", objects, split)
    changes = ["--data.dataset", "voc", "--data.folder", str(tmp_path / "own"), "--data.metrics", "coco"]
    changes += ["--data.train-splits", "Own/train", "--data.val-splits", "Own/held", "--data.classes", "tea", "cup"]
    config, _ = parse_config(load_configs(trained_run.folder), [*changes, "--epochs", "1"], DetectionTask.kinds)
    assert train(config, tmp_path / "run", ONE_PROCESS) == 0
    best = tmp_path / "run" / "checkpoints" / "best.pth"
    assert load_checkpoint(best)["class_names"] == ["tea", "cup"]
    capsys.readouterr()
    detection_main(COCO, ["--weights", str(best), "--time-steps", "0", *QUIET])
    assert f"AP50 {metric_of(best, 'AP50'):.4f}" in capsys.readouterr().out
    detection_main(COCO, ["--weights", str(best), "--metrics", "voc", "--time-steps", "0", *QUIET])
    assert "mAP50_11point" in capsys.readouterr().out
    detection_main(COCO, ["--weights", str(best), "--data.classes", "cup", "tea", "--time-steps", "0", *QUIET])
    assert f"AP50 {metric_of(best, 'AP50'):.4f}" in capsys.readouterr().out, "matched by name"


def test_how_to_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: paths of a shell, and a DATA_ROOT made absolute; without one nothing is said of it."""
    weights = tmp_path / "a b" / "best.pth"
    monkeypatch.delenv("DATA_ROOT", raising=False)
    assert start.how_to_test(tmp_path, weights) == f"{tmp_path}/test.sh --weights '{weights}'"
    monkeypatch.setenv("DATA_ROOT", "my data")
    root = Path("my data").resolve()
    assert start.how_to_test(tmp_path, weights) == f"DATA_ROOT='{root}' {tmp_path}/test.sh --weights '{weights}'"
