"""Checkpoints: whole or not at all, ours or refused."""

import argparse
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.serialization import config as serialization_config

from public.runtime.checkpoint import FORMAT, check_entries, load_checkpoint, read_torch_file, save_checkpoint

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
    assert "The one before it is kept, and the run continues." in record.getMessage()


def test_a_full_disk_and_no_checkpoint_before(
    tmp_path: Path, small_disk: Callable[[int], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(20_000):
        assert save_checkpoint(tmp_path / "latest.pth", {"weight": torch.zeros(8_000)}) is False
    assert caplog.messages[0].endswith(". The run continues.")


def test_an_impossible_folder_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file stands where the folder should be: False, and the run continues."""
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
    for path, message in (
        (tmp_path / "latest.pth", "no checkpoint at {}"),
        (tmp_path, "{} is a folder; expected is a"),
    ):
        with pytest.raises(FileNotFoundError, match=f"^{message.format(path)}"):
            load_checkpoint(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_cut_off_checkpoint(tmp_path: Path, share: float) -> None:
    """A file that ends early is called so, in one sentence; another, the caller's, says what to do."""
    path = tmp_path / "latest.pth"
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="cut off") as error:
        load_checkpoint(path)
    assert str(error.value) == f"{path} cannot be read as a checkpoint: it is cut off or damaged."
    with pytest.raises(ValueError, match=r": it is cut off or damaged\. Remove it\.$"):
        load_checkpoint(path, remedy="Remove it.")


def test_damaged_bytes_in_the_middle(tmp_path: Path) -> None:
    """4096 of 400,000 bytes of a tensor are not what was written, which torch alone would load."""
    path = tmp_path / "latest.pth"
    save_checkpoint(path, {"weight": torch.arange(100_000.0)})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(byte ^ 0xFF for byte in content[middle : middle + 4096])
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weight"], torch.arange(100_000.0))
    with pytest.raises(ValueError, match=r"latest\.pth cannot be read as a checkpoint: it is cut off or damaged\.$"):
        load_checkpoint(path)


@pytest.mark.slow
def test_a_damaged_byte_anywhere(tmp_path: Path) -> None:
    """It is found, or it lies where nothing is kept (between the tensors) and what is loaded is whole."""
    path = tmp_path / "latest.pth"
    save_checkpoint(path, STATE)
    content, num_found = path.read_bytes(), 0
    for place in range(0, len(content), 13):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            assert str(load_checkpoint(path)) == str({"format": FORMAT} | STATE)
        except ValueError:
            num_found += 1
    assert num_found > 50


def test_checksums_that_torch_was_told_not_to_write(tmp_path: Path) -> None:
    """Weights of others may have none: they are read as they are."""
    with serialization_config.patch({"save.compute_crc32": False}):  # pyright: ignore[reportAttributeAccessIssue]
        torch.save(STATE, tmp_path / "weights.pth")
    assert zipfile.ZipFile(tmp_path / "weights.pth").testzip() is not None
    assert read_torch_file(tmp_path / "weights.pth")["step"] == 3


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


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_and_arguments_are_read(tmp_path: Path, zipped: bool) -> None:
    """What other people's training scripts leave beside their weights: it holds values and runs nothing."""
    numbers = [np.float64(0.29), np.float32(1.5), np.float16(2), np.int64(7), np.uint8(3), np.bool_(True)]
    state = {"best_map": numbers[0], "all": numbers, "args": argparse.Namespace(lr=0.02, size=(224, 224))}
    torch.save(state, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    assert read_torch_file(tmp_path / "file.pth") == state


def test_numbers_written_by_numpy_1(tmp_path: Path) -> None:
    """Its module was called otherwise: the name stands in every file of that time."""
    torch.save({"best": np.float64(0.29)}, tmp_path / "file.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "file.pth").read_bytes()
    former = content.replace(b"numpy._core.", b"numpy.core.")
    assert former != content
    (tmp_path / "file.pth").write_bytes(former)
    assert read_torch_file(tmp_path / "file.pth") == {"best": 0.29}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (np.arange(3), r"numpy\._?core\.multiarray\._reconstruct"),
        (argparse.ArgumentParser, r"argparse\.ArgumentParser"),
        (argparse.Namespace(output=Path("runs")), r"pathlib\."),
    ],
    ids=["array", "class", "path"],
)
def test_their_neighbors_are_refused(tmp_path: Path, content: Any, name: str) -> None:
    torch.save({"content": content}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=f"it pickles {name}.* could run code"):
        read_torch_file(tmp_path / "file.pth")


def test_nothing_stays_allowed_behind_a_file(tmp_path: Path) -> None:
    """What a program loads itself is judged by what it allows itself."""
    torch.save(argparse.Namespace(), tmp_path / "file.pth")
    read_torch_file(tmp_path / "file.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "file.pth", weights_only=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": 7}, "Expected `array`, got `int` - at `$.class_names`"),
        ({"class_names": ["a", 7]}, "Expected `str`, got `int` - at `$.class_names[1]`"),
        ({"class_names": ["a", "a"]}, "more than one class is called 'a', expected each name once"),
        ({"class_names": ["a", "\udce9"]}, r"the class name '\udce9' is empty or holds control characters or halves"),
        ({"category_ids": [3]}, "its category_ids are not 2 different numbers, one for each class"),
        ({"num_images": "9"}, "Expected `int`, got `str` - at `$.num_images`"),
        ({"score_threshold": "high"}, "Expected `float | null`, got `str` - at `$.score_threshold`"),
    ],
)
def test_entries_that_no_run_writes(changes: dict[str, Any], words: str) -> None:
    """What others than the run itself read of a checkpoint is what it must be."""
    state = {"class_names": ["a", "b"], "category_ids": [3, 90], "num_images": 9, "score_threshold": 0.25, "model": {}}
    check_entries("best.pth", state, ("model",))
    with pytest.raises(ValueError, match=re.escape(f"best.pth is whole, but no run of ours wrote it: {words}")):
        check_entries("best.pth", state | changes, ("model",))


SmallDisk = Callable[[int], AbstractContextManager[None]]


def test_an_empty_checkpoint(tmp_path: Path) -> None:
    """torch alone raises an error without a text."""
    (tmp_path / "latest.pth").touch()
    with pytest.raises(ValueError, match=r"latest\.pth cannot be read as a checkpoint: it is empty\.$"):
        load_checkpoint(tmp_path / "latest.pth")


def test_safetensors_are_no_checkpoint(tmp_path: Path) -> None:
    """They are sound, and hold nothing but tensors: no damage is spoken of."""
    path = tmp_path / "net.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"^\S*net\.safetensors holds weights alone, .* what network they are of\.$"):
        load_checkpoint(path)


def write_zip(path: Path) -> None:
    """A sound zip file of something else."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def write_half_of_an_old_file(path: Path) -> None:
    """What torch.save wrote before torch 1.6, up to the middle of the tensor."""
    torch.save(torch.zeros(1000), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_text("hello world\n"), "torch.save did not write it, or its beginning is damaged"),
        (lambda path: path.write_bytes(bytes(1000)), "torch.save did not write it, or its beginning is damaged"),
        (
            lambda path: path.write_bytes(pickle.dumps(STATE)),
            "torch.save did not write it, or its beginning is damaged",
        ),
        (write_half_of_an_old_file, "it is cut off or damaged"),
        (write_zip, "it is a zip file that torch.load(..., weights_only=True) does not know how to read"),
        (lambda path: torch.save(Path(), path), "it pickles pathlib."),
        (Path.mkdir, "Is a directory"),
    ],
    ids=["text", "zeros", "pickle", "half_old", "zip", "object", "folder"],
)
def test_what_else_a_file_may_be(tmp_path: Path, write: Callable[[Path], Any], words: str) -> None:
    """Each in half a sentence, for the callers to say what they expected."""
    write(tmp_path / "file.pth")
    with pytest.raises(ValueError, match="^" + re.escape(words)) as error:
        read_torch_file(tmp_path / "file.pth")
    assert "\n" not in str(error.value)


def test_missing_entries_are_named() -> None:
    """All of them, in the order in which they are asked for."""
    state = {"format": FORMAT, "model": {}, "epoch": 1}
    check_entries(Path("latest.pth"), state, ("model", "epoch"))
    words = r"^latest\.pth is not a whole checkpoint of a run: it has no config, step\.$"
    with pytest.raises(ValueError, match=words):
        check_entries(Path("latest.pth"), state, ("config", "model", "epoch", "step"))


def test_the_warning_says_what_the_system_said(
    tmp_path: Path, small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """Not torch's position in the zip file."""
    with small_disk(20_000):
        save_checkpoint(tmp_path / "latest.pth", {"weight": torch.zeros(100_000)})
    assert "File too large" in caplog.text
