"""What --engine auto chooses by, where notes, weights or packages are not as export left them."""

import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from public.apps import engine_choice, predict_engines
from public.apps.engine_choice import Ready, note, notes_of, ready_files
from public.apps.predict_engines import load
from tests.apps.networks import save_classifier


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """Something for weights, with a file that was noted."""
    weights = tmp_path / "best.pth"
    weights.write_bytes(b"weights")
    weights.with_suffix(".pt2").write_bytes(b"file")
    note(weights, Ready(weights.with_suffix(".pt2"), 1.5))
    return weights


@pytest.mark.parametrize("files", ["[]", '{"best.pt2": {}}', '{"best.pt2": 1}', '{"best.pt2": {"speed": "fast"}}', "{"])
def test_damaged_notes_are_said(noted: Path, files: str) -> None:
    checksum = json.loads(notes_of(noted).read_text())["weights"]
    notes_of(noted).write_text(f'{{"weights": "{checksum}", "files": {files}}}')
    with pytest.raises(ValueError, match=r"best\.engines\.json cannot be read \(.*: remove it, and export again"):
        load(noted, device="cpu")


def test_what_another_export_notes_meanwhile_stays(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While files are read, which takes as long as they are large."""
    first, second = (noted.with_name(name) for name in ("first.pt2", "second.pt2"))
    for path in (first, second):
        path.write_bytes(b"file")
    read = engine_choice._checksum

    def checksum(path: Path) -> str:
        if path == first:
            note(noted, Ready(second, 1.2))
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(engine_choice, "_checksum", checksum)
        note(noted, Ready(first, 1.3))
    assert [one.path.name for one in ready_files(noted)] == ["best.pt2", "first.pt2", "second.pt2"]


def test_notes_alone_choose_nothing(noted: Path) -> None:
    assert [(one.path.name, one.speed) for one in ready_files(noted)] == [("best.pt2", 1.5)]
    noted.unlink()
    assert ready_files(noted) == []
    expected = {
        noted: "^there is no ", "": "^'' is the name of no file", ".": r"^\. is a folder; expected is a file",
        "a" * 300: "^'aaa.*' cannot be looked at: File name too long",
    }  # fmt: skip
    for weights, message in expected.items():
        for engine in ("auto", "torch.export"):
            with pytest.raises(FileNotFoundError, match=message):
                load(weights, engine=engine, device="cpu")


def test_a_network_that_is_named_is_not_the_engines_matter(tmp_path: Path) -> None:
    weights = save_classifier(tmp_path / "best.pth")
    weights.with_suffix(".pt2").write_bytes(b"file")
    note(weights, Ready(weights.with_suffix(".pt2"), 1.5))
    with pytest.raises(ValueError, match=r"which knows its network, classes and size: leave out network='resnet18'"):
        load(weights, network="resnet18", device="cpu")


def test_an_engine_of_another_distribution(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime-gpu is: its module has the name of the other. A new version of it is noticed."""
    versions = {"torch-special": "1"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"torch": ["torch-special"]})
    note(noted, Ready(noted.with_suffix(".pt2"), 1.5))
    assert len(ready_files(noted)) == 1
    versions["torch-special"] = "2"
    assert ready_files(noted) == []


@pytest.mark.slow
def test_a_file_computes_on_the_cpu_beside_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """device=auto would be the GPU, whose pictures no file takes."""
    weights = save_classifier(tmp_path / "best.pth")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(predict_engines, "ready_files", lambda _: [Ready(weights.with_suffix(".pt2"), 2.0)])
    about = SimpleNamespace(task="classification", input_size=(64, 64))
    monkeypatch.setattr(predict_engines, "read_exported", lambda *_: (about, None))
    predictor = load(weights, engine="torch.export")
    assert predictor.device == torch.device("cpu")
