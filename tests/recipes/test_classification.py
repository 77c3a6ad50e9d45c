"""Whole runs: resuming, several processes, bad settings. The reference is always a run without the disturbance."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import exact_resume
from public.config.classification import ClassificationConfig
from public.config.command_line import parse_config
from public.optim import train_state
from public.runtime.checkpoint import load_checkpoint
from tests import warm_python
from tests.recipes import runs, tiny_experiment
from tests.recipes.runs import LAUNCHES
from tests.recipes.tiny_experiment import TINY, TinyNetwork

pytestmark = pytest.mark.usefixtures("no_plots")

NUM_TRAIN, NUM_VAL, CLASSES = 44, 13, ("blue", "green", "red")


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images of one color a class; neither split divides by the batch size or by two."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        for number in range(count):
            label = number % len(CLASSES)
            pixels = rng.integers(0, 128, (20, 24, 3), dtype=np.uint8)
            pixels[:, :, 2 - label] += 100
            folder = root / split / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return root


@pytest.fixture
def config(tiny_data: Path) -> ClassificationConfig:
    """The tiny row on the tiny data."""
    return replace(TINY, data=replace(TINY.data, folder=str(tiny_data)))


def train(config: ClassificationConfig, path: Path, **options: Any) -> dict[str, Any]:
    """Runs to the end in this process; gives latest.pth."""
    assert tiny_experiment.train(config, path, **options) == 0
    return load_checkpoint(path / "checkpoints" / "latest.pth")


def assert_same_result(ours: dict[str, Any], reference: dict[str, Any]) -> None:
    """Both runs ended with the same bits: six parameters, each with its momentum and its average."""
    runs.assert_same_result(ours, reference, num_tensors=6 * 3)


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the next run receive SIGTERM at its n-th step boundary (or evaluated batch)."""
    return runs.stop_after_polls(monkeypatch)


@pytest.mark.slow
@pytest.mark.plots
def test_the_run_folder_holds_what_was_promised(config: ClassificationConfig, tmp_path: Path) -> None:
    """Every file is there, and metrics.jsonl has one complete row an epoch."""
    checkpoint = train(config, tmp_path / "run")
    names = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert {"config.json", "environment.json", "train.log", "metrics.jsonl", "curves.png"} <= names
    assert {"checkpoints/latest.pth", "checkpoints/best.pth"} <= names
    assert any("tfevents" in name for name in names)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == checkpoint["metrics"]["history"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"lr", "train_loss", "top1", "top5", "loss", "images_per_second"} <= rows[0].keys()
    assert checkpoint["class_names"] == list(CLASSES)
    assert checkpoint["task"] == "experiment:tiny_experiment.TinyTask"
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == checkpoint["config"]


@pytest.mark.slow
def test_another_version_is_told_and_kept(
    config: ClassificationConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: a run that goes on once more has it beside the present one. A record that is no record is made anew."""
    train(config, tmp_path / "run")
    path = tmp_path / "run" / "environment.json"
    new = json.loads(path.read_text())
    old = new | {"packages": new["packages"] | {"torch": "1.0"}, "commit": "abc"}
    path.write_text(json.dumps(old))
    for _ in range(2):
        train(config, tmp_path / "run")
        assert json.loads(path.read_text()) == new | {"before": [old]}
    assert caplog.text.count(f"{path} says that the run computed with others: torch 1.0 -> ") == 1
    path.write_text("[]")
    train(config, tmp_path / "run")
    assert json.loads(path.read_text()) == new


@pytest.mark.slow
def test_a_result_that_is_not_on_the_disk_is_no_success(
    config: ClassificationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full from the second epoch on: the run ends with 1, names the file, and resumes from the first."""
    real = train_state.save_checkpoint
    monkeypatch.setattr(train_state, "save_checkpoint", lambda path, state: state["epoch"] < 2 and real(path, state))
    assert tiny_experiment.train(config, tmp_path / "run") == 1
    log = (tmp_path / "run" / "train.log").read_text()
    assert f"but {tmp_path / 'run' / 'checkpoints' / 'latest.pth'} could not be written (why: see above)" in log
    assert " done: best" not in log
    monkeypatch.undo()
    assert_same_result(train(config, tmp_path / "run"), train(config, tmp_path / "reference"))


@pytest.mark.slow
@pytest.mark.parametrize(("polls", "words"), [(1, "starts over"), (9, "goes back to the checkpoint before it")])
def test_a_stop_that_could_not_be_saved_says_so(
    config: ClassificationConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: Callable[[int], None],
    polls: int,
    words: str,
) -> None:
    """SIGTERM on a full disk, in the first epoch and in the second, of whose first the checkpoint is there."""
    real = train_state.save_checkpoint
    monkeypatch.setattr(
        train_state,
        "save_checkpoint",
        lambda path, state: (state["epoch"], state["step"]) == (1, 0) and real(path, state),
    )
    stop_after(polls)
    assert tiny_experiment.train(config, tmp_path / "run") == 143
    assert f"is not saved: a run that resumes {words}." in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("written", [0, 1])
def test_best_is_what_best_pth_holds(
    config: ClassificationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Every epoch is the best so far; best.pth can be written once, or never: the log and latest.pth say no more."""
    real = train_state.save_checkpoint
    left = iter([True] * written)

    def save_checkpoint(path: Path, state: dict[str, Any]) -> bool:
        return real(path, state) if path.name == "latest.pth" or next(left, False) else False

    monkeypatch.setattr(train_state, "save_checkpoint", save_checkpoint)
    monkeypatch.setattr(train_state.TrainState, "is_better", lambda *_: True)
    assert tiny_experiment.train(config, tmp_path / "run") == (0 if written else 1)
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "latest.pth")
    first, *others = checkpoint["metrics"]["history"]
    assert len(others) >= 1
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("(best)") == written
    if written:
        assert checkpoint["metrics"]["best"] == first
        assert load_checkpoint(tmp_path / "run" / "checkpoints" / "best.pth")["metrics"]["best"] == first
    else:
        assert checkpoint["metrics"]["best"] is None
        assert "best.pth could not be written (why: see above)" in log


@pytest.mark.slow
@pytest.mark.parametrize("num_polls", [1, 4, 5, 7, 9])
def test_a_stopped_run_resumes_bit_for_bit(
    config: ClassificationConfig, tmp_path: Path, stop_after: Callable[[int], None], num_polls: int
) -> None:
    """SIGTERM within an epoch, at its last step (5), during an evaluation (7): exit code 143, then the same bits.

    An epoch has 44 // 8 = 5 steps and 13 // 8 = 1 poll of evaluation. The second part reads with other workers.
    """
    reference = train(config, tmp_path / "reference")
    stop_after(num_polls)
    assert tiny_experiment.train(config, tmp_path / "run") == 143
    workers = replace(config, runtime=replace(config.runtime, num_workers=2))
    assert_same_result(train(workers, tmp_path / "run"), reference)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]


@pytest.mark.slow
def test_a_finished_run_is_left_alone(config: ClassificationConfig, tmp_path: Path) -> None:
    """The same command once more trains nothing; --fresh starts over and keeps the old folder."""
    first = train(config, tmp_path / "run")
    assert_same_result(train(config, tmp_path / "run"), first)
    assert_same_result(train(config, tmp_path / "run", fresh=True), first)
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("run.")]) == 1


@pytest.mark.slow
def test_another_config_is_refused_with_the_differing_fields(config: ClassificationConfig, tmp_path: Path) -> None:
    """What changes no result may differ (runtime); all else is named, old and new."""
    one_epoch = config.with_epochs(1)
    train(one_epoch, tmp_path / "run")
    train(replace(one_epoch, runtime=replace(config.runtime, log_every=7)), tmp_path / "run")
    other = replace(one_epoch, seed=3, optimizer=replace(config.optimizer, lr=0.2))
    with pytest.raises(ValueError, match=r"optimizer\.lr: 0\.1 -> 0\.2; seed: 0 -> 3.*--fresh"):
        tiny_experiment.train(other, tmp_path / "run")


def test_a_non_finite_loss_keeps_the_last_checkpoint(config: ClassificationConfig, tmp_path: Path) -> None:
    """A learning rate of 1e30 blows up in the second step: the message names step and loss."""
    wild = replace(
        config, optimizer=replace(config.optimizer, lr=1e30), schedule=replace(config.schedule, warmup_epochs=0)
    )
    with pytest.raises(
        FloatingPointError, match=r"not finite at step \d+ .*cross_entropy=(nan|inf).*No checkpoint was written yet"
    ):
        tiny_experiment.train(wild, tmp_path / "run")


@pytest.mark.slow
def test_an_unreadable_image_stops_with_its_path_and_loses_nothing(
    config: ClassificationConfig, tiny_data: Path, tmp_path: Path
) -> None:
    """The steps before it are in the checkpoint; with the image replaced the run ends as if nothing had been."""
    reference = train(config, tmp_path / "reference")
    root = tmp_path / "data"
    shutil.copytree(tiny_data, root)
    image = root / "train" / "green" / "007.png"
    content = image.read_bytes()
    image.write_bytes(content[:100])
    damaged = replace(config, data=replace(config.data, folder=str(root)))
    with pytest.raises(ValueError, match=r"green/007\.png cannot be decoded"):
        tiny_experiment.train(damaged, tmp_path / "run")
    image.write_bytes(content)
    assert_same_result(train(damaged, tmp_path / "run"), reference)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["2 mismatched (fc.weight: ", "2 missing (fc.weight, fc.bias)"])
def test_weights_of_another_number_of_classes_are_taken_but_for_the_classifier(
    config: ClassificationConfig, words: str, tmp_path: Path
) -> None:
    """initial_weights from a run with other classes, or without a classifier: everything but fc is loaded."""
    weights = TinyNetwork(7, dropout=0.2).state_dict()
    if "missing" in words:
        weights = {key: tensor for key, tensor in weights.items() if not key.startswith("fc.")}
    torch.save(weights, tmp_path / "seven.pth")
    train(replace(config.with_epochs(1), initial_weights=str(tmp_path / "seven.pth")), tmp_path / "run")
    log = (tmp_path / "run" / "train.log").read_text()
    assert f"4 tensors loaded; {words}" in log


@pytest.mark.slow
def test_another_input_size_is_what_the_network_sees(
    config: ClassificationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--data.input-size alone: training, evaluation and the multiply-adds of the log follow; nothing else is given."""
    sizes: list[tuple[bool, int]] = []
    real = TinyNetwork.forward

    def forward(self: TinyNetwork, images: torch.Tensor) -> torch.Tensor:
        sizes.extend([(self.training, images.shape[-1])] if images.device.type == "cpu" else [])
        return real(self, images)

    monkeypatch.setattr(TinyNetwork, "forward", forward)
    for size in (16, 48):
        arguments = ["--data.input-size", str(size), "--epochs", "1", "--schedule.warmup-epochs", "0"]
        row, _ = parse_config({"tiny": config}, arguments, tiny_experiment.TinyTask.kinds)
        sizes.clear()
        train(row, tmp_path / str(size))
        assert set(sizes) == {(True, size), (False, size)}
        assert f"G MACs at {size}x{size}" in (tmp_path / str(size) / "train.log").read_text()


@pytest.mark.slow
def test_a_task_of_the_experiments_own_is_recorded_by_its_file(tiny_data: Path, tmp_path: Path) -> None:
    """As a person runs it, where train.py is called __main__: the class is that of train.py in the folder."""
    options = ["--epochs", "1", "--schedule.warmup-epochs", "0", "--batch-size", "4"]
    run_program(tmp_path / "run", tiny_data, ["train.py", *options])
    folder = tmp_path / "run" / "runs" / "tiny"
    checkpoint = load_checkpoint(folder / "checkpoints" / "latest.pth")
    assert checkpoint["task"] == "experiment:train.TinyTask"
    assert "the learning rate follows the batch size linearly: 0.05 at 4 images for 0.1 at 8" in (
        folder / "train.log"
    ).read_text(encoding="utf-8")


# ---- several processes ----------------------------------------------------------------------------------------------


def run_program(
    folder: Path, data: Path, args: list[str], expected: int = 0, python: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs the copied experiment as a person would."""
    return runs.run_program("tiny_experiment.py", folder, data, args, expected, python)


PLAIN = ["--network", "tiny_plain", "--name", "run", "--ema-decay", "None"]


@pytest.fixture(scope="module")
def one_process_history(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of the plain network (no dropout, no batch norm) trained in one process."""
    folder = tmp_path_factory.mktemp("one")
    run_program(folder, tiny_data, ["train.py", *PLAIN])
    return load_checkpoint(folder / "runs" / "run" / "checkpoints" / "latest.pth")["metrics"]["history"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHES)
def test_two_processes_train_as_one(
    launcher: str, tiny_data: Path, tmp_path: Path, one_process_history: list[dict[str, Any]]
) -> None:
    """Every way to start two gloo processes gives one process's loss curve, and its evaluation to the last image."""
    run_program(tmp_path / "two", tiny_data, [*LAUNCHES[launcher], *PLAIN])
    rows = load_checkpoint(tmp_path / "two" / "runs" / "run" / "checkpoints" / "latest.pth")["metrics"]["history"]
    for row, expected in zip(rows, one_process_history, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert (row["top1"], row["top5"]) == (expected["top1"], expected["top5"])
    assert json.loads((tmp_path / "two" / "runs" / "run" / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group_stops_all_processes_at_one_step(
    number: signal.Signals, exit_code: int, tiny_data: Path, tmp_path: Path
) -> None:
    """Launcher, two training processes and their data workers all get it, as from Ctrl-C or a batch system."""
    shutil.copy(Path(__file__).with_name("tiny_experiment.py"), tmp_path / "train.py")
    environment = os.environ | {"TINY_DATA": str(tiny_data), "OMP_NUM_THREADS": "1"}
    settings = ["--runtime.processes", "2", "--runtime.num-workers", "1", "--epochs", "1000"]
    command = [warm_python.executable(), "train.py", *settings]
    run = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert run.stderr is not None
        assert any("epoch 2/1000" in line for line in run.stderr)
        os.killpg(run.pid, number)
        errors = run.communicate(timeout=60)[1]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == exit_code
    assert f"stopped by {number.name} in epoch" in errors
    assert "Traceback" not in errors
    assert len(load_checkpoint(tmp_path / "runs" / "tiny" / "checkpoints" / "latest.pth")["rng"]) == 2


@pytest.mark.slow
def test_a_mistake_is_one_sentence_and_exit_code_2(tiny_data: Path, tmp_path: Path) -> None:
    """A missing data folder, seen from the shell, with Python itself: no traceback."""
    done = run_program(tmp_path / "run", tmp_path / "nowhere", ["train.py"], expected=2, python=sys.executable)
    assert "Traceback" not in done.stderr
    assert f"error: {tmp_path / 'nowhere' / 'train'} is missing; expected train/<class>/<image files>" in done.stderr


@pytest.mark.slow
def test_a_run_killed_outright_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at two random steps of a real experiment, each start with other workers (the script kills ten times)."""
    monkeypatch.setattr(sys, "executable", warm_python.executable())
    options = exact_resume.Options(kills=2, epochs=2, images_per_class=8)
    kills, differing = exact_resume.check(tmp_path, options)
    assert len(kills) == 2
    assert differing == []


@pytest.mark.parametrize(("frozen_before", "freezes"), [(0, 1), (9, 0)])
def test_what_the_imports_left_is_walked_by_no_later_collection(
    monkeypatch: pytest.MonkeyPatch, frozen_before: int, freezes: int
) -> None:
    """A fifth of the time of `train.py --help`; once a process, so that nothing else is kept."""
    called: list[bool] = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: frozen_before)
    monkeypatch.setattr(gc, "freeze", lambda: called.append(True))
    with pytest.raises(SystemExit):
        tiny_experiment.main({"tiny": TINY}, __file__, ["--help"])
    assert len(called) == freezes
