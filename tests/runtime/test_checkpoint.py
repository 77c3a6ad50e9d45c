"""Checkpoints: whole or not at all, ours or refused."""

import logging
import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from public.runtime.checkpoint import load_checkpoint, save_checkpoint

STATE = {"model": {"weight": torch.arange(6.0).view(2, 3)}, "step": 3, "row": {"top1": 0.5, "names": ["a", None]}}


def test_round_trip(tmp_path: Path) -> None:
    """Folders are made, values come back with their types, and nothing but the file is left."""
    path = tmp_path / "run" / "checkpoints" / "latest.pth"
    assert save_checkpoint(path, STATE)
    state = load_checkpoint(path)
    torch.testing.assert_close(state["model"]["weight"], torch.tensor([[0.0, 1, 2], [3, 4, 5]]), rtol=0, atol=0)
    assert (state["step"], state["row"]) == (3, {"top1": 0.5, "names": ["a", None]})
    assert os.listdir(path.parent) == ["latest.pth"]


def test_a_second_checkpoint_replaces_the_first(tmp_path: Path) -> None:
    """The file holds the newer one."""
    for step in (1, 2):
        assert save_checkpoint(tmp_path / "latest.pth", {"step": step})
    assert load_checkpoint(tmp_path / "latest.pth")["step"] == 2


@pytest.mark.parametrize("num_numbers", [8_000, 1_000_000])
def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path,
    num_numbers: int,
    small_disk: Callable[[int], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither 32 kB nor 4 MB fit on a disk of 20 kB: False, one warning, the old file whole, no temporary file."""
    path = tmp_path / "latest.pth"
    save_checkpoint(path, {"step": 1})
    with small_disk(20_000):
        assert save_checkpoint(path, {"step": 2, "weight": torch.zeros(num_numbers)}) is False
    assert load_checkpoint(path)["step"] == 1
    assert os.listdir(tmp_path) == ["latest.pth"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"could not write {path}: ")
    assert "The one before it is kept, and the run goes on." in record.getMessage()


def test_an_impossible_folder_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file stands where the folder should be: False, and the run goes on."""
    (tmp_path / "checkpoints").write_text("not a folder")
    assert save_checkpoint(tmp_path / "checkpoints" / "latest.pth", STATE) is False
    assert "could not write" in caplog.text


def test_a_process_that_dies_before_the_rename_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended between writing and renaming, a run finds its last checkpoint whole."""

    def die(source: Path, target: Path) -> None:
        assert torch.load(source, weights_only=True)["step"] == 2, "written whole before it is renamed"
        raise KeyboardInterrupt

    save_checkpoint(tmp_path / "latest.pth", {"step": 1})
    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "latest.pth", {"step": 2})
    assert load_checkpoint(tmp_path / "latest.pth")["step"] == 1


def test_the_file_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync of the file, then the rename, then fsync of the folder."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    assert save_checkpoint(tmp_path / "latest.pth", STATE)
    assert calls == ["fsync", "rename", "fsync"]


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    """FileNotFoundError with the path, for a folder of that name too."""
    for path in (tmp_path / "latest.pth", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"^no checkpoint at {path}"):
            load_checkpoint(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_cut_off_checkpoint_is_one_sentence(tmp_path: Path, share: float) -> None:
    """A file that ends early is named as unreadable."""
    path = tmp_path / "latest.pth"
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"^{path} cannot be read as a checkpoint: .+") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{"fc.weight": torch.zeros(2)}, {"format": "other/1"}, [1, 2]])
def test_a_foreign_file_is_refused(tmp_path: Path, content: Any) -> None:
    """What torch reads and we did not write is told apart from a damaged file."""
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"is not a checkpoint of this project .* it may be bare weights"):
        load_checkpoint(tmp_path / "weights.pth")


class Attack:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A malicious checkpoint, or a plain pickle, is refused before it does anything."""
    torch.save({"format": "public.checkpoint/1", "model": Attack(tmp_path / "hacked")}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Attack(tmp_path / "hacked")))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "hacked").exists()


SmallDisk = Callable[[int], AbstractContextManager[None]]


def test_an_empty_checkpoint(tmp_path: Path) -> None:
    """An error without a text of its own is named by its kind."""
    (tmp_path / "latest.pth").touch()
    with pytest.raises(ValueError, match=r"latest\.pth cannot be read as a checkpoint: EOFError"):
        load_checkpoint(tmp_path / "latest.pth")


def test_the_warning_says_what_the_system_said(
    tmp_path: Path, small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """Not torch's position in the zip file."""
    with small_disk(20_000):
        save_checkpoint(tmp_path / "latest.pth", {"weight": torch.zeros(100_000)})
    assert "File too large" in caplog.text
