"""The files of a run, and that no full disk stops it."""

import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from public.runtime import run_folder
from public.runtime.run_folder import (
    RunFolder,
    all_written,
    going_on_when_disk_is_full,
    log_to_console,
    replace_text,
    write_or_warn,
)

logger = logging.getLogger("public.test")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """The main process's open run folder; every kind of warning is new."""
    monkeypatch.setattr(run_folder, "_unwritten", [])
    opened = RunFolder(tmp_path / "runs" / "tiny", is_main=True)
    opened.open(fresh=False)
    yield opened
    opened.close()


def read_rows(folder: RunFolder) -> list[dict[str, float]]:
    """metrics.jsonl."""
    return [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]


def test_train_log(folder: RunFolder) -> None:
    """Opened a second time it is continued; after `close` nothing more is written."""
    logger.info("first")
    folder.close()
    logger.info("unheard")
    folder.open(fresh=False)
    logger.warning("second")
    lines = (folder.path / "train.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO first", "WARNING second"]


def test_json(folder: RunFolder) -> None:
    """Written whole, readable, replaced by the next."""
    folder.write_json("config.json", {"a": 1, "b": "x" * 100})
    folder.write_json("config.json", {"a": [1, None]})
    assert json.loads((folder.path / "config.json").read_text()) == {"a": [1, None]}
    assert not list(folder.path.glob("*.tmp"))


def test_rows(folder: RunFolder) -> None:
    """One line an epoch."""
    folder.write_history([], 0)
    rows = [{"epoch": epoch, "loss": 0.5} for epoch in (1, 2)]
    for number in (1, 2):
        folder.write_rows(rows[:number])
        assert read_rows(folder) == rows[:number]


def test_a_resumed_run_drops_the_rows_after_its_checkpoint(folder: RunFolder) -> None:
    """Three epochs were written, the checkpoint knows one: the others are run again."""
    folder.write_rows([{"epoch": epoch} for epoch in (1, 2, 3)])
    folder.write_history([{"epoch": 1}], 10)
    assert read_rows(folder) == [{"epoch": 1}]


def test_tensorboard_events(folder: RunFolder) -> None:
    """What was sent can be read back; before `write_history` nothing is sent."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    folder.write_scalars("step", {"loss": 9.0}, 1)
    folder.write_history([], 0)
    folder.write_scalars("step", {"loss": 0.5, "lr": 0.25}, 7)
    folder.close()
    (path,) = folder.path.glob("events.*")
    values = {
        v.tag: (event.step, v.tensor.float_val[0])
        for event in EventFileLoader(str(path)).Load()
        for v in event.summary.value
    }
    assert values == {"step/loss": (7, 0.5), "step/lr": (7, 0.25)}


def test_fresh_keeps_the_old_folder_aside(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    """The old run is whole under a dated name, the new one is empty, and the log says where the old one is."""
    folder.latest.write_text("precious")
    folder.close()
    folder.open(fresh=True)
    (aside,) = [path for path in folder.path.parent.iterdir() if path != folder.path]
    assert (aside / "checkpoints" / "latest.pth").read_text() == "precious"
    assert aside.name.startswith(f"tiny.{time.strftime('%Y')}")
    assert not folder.latest.exists()
    assert caplog.messages[-1] == f"--fresh: the old run is kept in {aside}"
    assert str(aside) in (folder.path / "train.log").read_text()


def test_a_best_network_without_its_latest_is_kept_aside(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever removed latest.pth to save disk keeps what the run was for."""
    folder.best.write_text("precious")
    folder.close()
    folder.open(fresh=False)
    (aside,) = [path for path in folder.path.parent.iterdir() if path != folder.path]
    assert (aside / "checkpoints" / "best.pth").read_text() == "precious"
    assert not folder.best.exists()
    said = f"{folder.path} had a best.pth and no latest.pth to resume from: the old run is kept in {aside}"
    assert caplog.messages[-1] == said


def test_fresh_without_an_old_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to keep and nothing to say."""
    folder = RunFolder(tmp_path / "new", is_main=True)
    folder.open(fresh=True)
    folder.close()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert caplog.messages == []


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    """They hold the same paths, and leave the disk alone."""
    folder = RunFolder(tmp_path / "run", is_main=False)
    folder.open(fresh=True)
    folder.write_history([], 0)
    folder.write_rows([{"epoch": 1}])
    folder.write_scalars("step", {"loss": 1.0}, 1)
    folder.write_json("config.json", {})
    folder.close()
    assert not folder.path.exists()
    assert folder.latest == tmp_path / "run" / "checkpoints" / "latest.pth"


def test_a_full_disk_is_one_warning_a_kind_of_file(
    folder: RunFolder,
    small_disk: Callable[[int], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rows, JSON and log lines that no longer fit: two warnings for four failed writes, and no exception."""
    folder.write_history([{"epoch": 1}], 0)
    with small_disk(500):
        for _ in range(2):
            folder.write_json("config.json", "x" * 1000)
            folder.write_rows([{"note": "x" * 1000}])
            logger.info("y" * 1000)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.split(":")[0] for message in warnings] == [
        "could not write config.json",
        "could not write metrics.jsonl",
    ]
    assert all(message.endswith("The run continues without it.") for message in warnings)
    assert not list(folder.path.glob("*.tmp"))
    with all_written(folder.path):
        folder.write_json("config.json", {})
    with (
        small_disk(500),
        pytest.raises(ValueError, match=r"^not everything could be written to .* \(why: see above\): config\.json\.$"),
        all_written(folder.path),
    ):
        folder.write_json("config.json", "x" * 1000)


def test_a_full_disk_keeps_the_old_json(
    folder: RunFolder, small_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    """A file is replaced whole or not at all."""
    folder.write_json("config.json", {"a": 1})
    with small_disk(100):
        folder.write_json("config.json", "x" * 1000)
    assert json.loads((folder.path / "config.json").read_text()) == {"a": 1}


def test_replace_text(tmp_path: Path) -> None:
    """A failure leaves no temporary file: here the folder does not exist."""
    with pytest.raises(FileNotFoundError):
        replace_text(tmp_path / "no" / "file", "text")
    replace_text(tmp_path / "file", "Grüße\n")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "Grüße\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_failed_writes_are_passed_over() -> None:
    """A defect of ours is not taken for a full disk."""
    with pytest.raises(ZeroDivisionError), going_on_when_disk_is_full("anything"):
        raise ZeroDivisionError


@pytest.mark.parametrize(("is_main", "shown"), [(True, "note\nalarm\n"), (False, "alarm\n")])
def test_console(is_main: bool, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain lines on stderr, each once however often it was set up; the other processes only warn."""
    log_to_console(is_main)
    log_to_console(is_main)
    logger.debug("whisper")
    logger.info("note")
    logger.warning("alarm")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", shown)


def test_what_is_said_before_the_folder_is_open(tmp_path: Path) -> None:
    """Such as what of the data is left out: first in train.log, each line once."""
    log_to_console(True)
    folder = RunFolder(tmp_path / "run", is_main=True)
    logger.info("2 boxes are left out")
    folder.open(fresh=False)
    logger.info("epoch 1")
    folder.close()
    logger.info("afterwards")
    lines = (tmp_path / "run" / "train.log").read_text().splitlines()
    assert [line.split(" ", 3)[3] for line in lines] == ["2 boxes are left out", "epoch 1"]


def test_console_lines_carry_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Redirected to a file, a log is text."""
    assert not sys.stderr.isatty()
    log_to_console(True)
    logger.info("epoch 1/2  step 3/4")
    assert capsys.readouterr().err == "epoch 1/2  step 3/4\n"


SmallDisk = Callable[[int], AbstractContextManager[None]]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    """Temporary files carry the process's number: nobody else would ever replace them."""
    folder = RunFolder(tmp_path / "run", is_main=True)
    for _ in range(2):
        folder.open(fresh=False)
        folder.close()
        (folder.latest.parent / "latest.pth.123.tmp").touch()
    folder.open(fresh=False)
    folder.close()
    assert os.listdir(folder.latest.parent) == []


def test_fresh_twice_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both old folders are kept."""
    monkeypatch.setattr("public.runtime.run_folder.time.strftime", lambda form: "20200101-000000")
    folder = RunFolder(tmp_path / "run", is_main=True)
    for _ in range(4):
        folder.open(fresh=True)
        folder.close()
    assert len(list(tmp_path.iterdir())) == 4


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    """Reports name files; a byte of another encoding is shown by its number."""
    write_or_warn(tmp_path / "outcomes.csv", os.fsdecode(b"caf\xe9.jpg") + "écureuil")
    assert (tmp_path / "outcomes.csv").read_bytes() == b"caf\\udce9.jpg" + "écureuil".encode()


def test_no_half_row_stays_behind(tmp_path: Path, small_disk: SmallDisk) -> None:
    """Rows that do not fit leave the file as it was; with room again, all are there."""
    folder = RunFolder(tmp_path / "run", is_main=True)
    folder.open(fresh=False)
    folder.write_history([{"epoch": 1}], 0)
    rows = [{"epoch": 1}, {"note": "x" * 1000}]
    with small_disk(500):
        folder.write_rows(rows)
    assert read_rows(folder) == rows[:1]
    folder.write_rows([*rows, {"epoch": 3}])
    folder.close()
    assert read_rows(folder) == [*rows, {"epoch": 3}]


def test_a_second_run_is_refused(folder: RunFolder) -> None:
    """With --fresh too, which would move the first one's files away; it may begin once the first one has ended."""
    (folder.latest.parent / "latest.pth.1.tmp").touch()  # what the first one is writing
    second = RunFolder(folder.path, is_main=True)
    here = rf"pid {os.getpid()} on {re.escape(socket.gethostname())}"
    for fresh in (False, True):
        with pytest.raises(ValueError, match=rf"^another run \({here}\) uses the run folder {folder.path}: .*--name"):
            second.open(fresh)
    assert os.listdir(folder.path.parent) == ["tiny"]
    assert os.listdir(folder.latest.parent) == ["latest.pth.1.tmp"]
    folder.close()
    second.open(fresh=True)
    second.close()


def test_a_data_worker_does_not_hold_the_folder(folder: RunFolder) -> None:
    """It lives on for seconds when its training process is killed; and nothing that it does lets the folder go."""
    (read, write), (is_there, begun) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begun, b"x")
        os.read(read, 1)  # until the test has seen what it wants
        os._exit(0)
    os.read(is_there, 1)
    second = RunFolder(folder.path, is_main=True)
    with pytest.raises(ValueError, match="another run"):
        second.open(fresh=False)
    folder.close()
    second.open(fresh=False)
    second.close()
    os.write(write, b"x")
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(("restarted", "num_aside"), [(True, 1), (False, 2)])
def test_a_restarting_launcher_starts_afresh_once(tmp_path: Path, restarted: bool, num_aside: int) -> None:
    """torchrun gives --fresh again after each failure; what a launch has done itself is no old run."""
    folder = RunFolder(tmp_path / "run", is_main=True)
    for fresh, again in ((False, False), (True, False), (True, restarted)):
        folder.open(fresh, again)
        folder.latest.touch()
        folder.close()
    assert len(list(tmp_path.iterdir())) == 1 + num_aside


def test_a_restart_before_anything_was_moved_aside_is_as_fresh(tmp_path: Path) -> None:
    """The first start died before it opened the folder, which another launch has made."""
    folder = RunFolder(tmp_path / "run", is_main=True)
    folder.open(fresh=False)
    folder.close()
    (folder.path / "lock").write_text('{"pid": 1, "host": "elsewhere", "launcher": 1}')
    folder.open(fresh=True, restarted=True)
    folder.close()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_plot_ends_no_run(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it ends in is a warning."""
    with run_folder.going_on_without_plot("curves.png"):
        raise ValueError("zip() argument 2 is longer")
    words = "could not draw curves.png (ValueError: zip() argument 2 is longer). The run continues without it."
    assert caplog.messages == [words]
