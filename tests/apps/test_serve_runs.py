"""The tab Runs: states, curves, settings and files of run folders, and nothing outside of them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason='the page is not installed: pip install -e ".[serve]"')
from starlette.testclient import TestClient

from public.apps.serve import application
from public.apps.serve_runs import RUN, SUMMARY, Runs
from public.config.classification import ClassificationConfig
from public.config.record import to_record
from public.runtime.folder_lock import FolderLock, is_held
from tests.apps.test_serve import HERE


def write_run(folder: Path, config: ClassificationConfig, rows: list[dict[str, Any]]) -> Path:
    """A run folder as training leaves it."""
    (folder / "report").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "config.json").write_text(json.dumps(to_record(config)))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "train.log").write_text("a\nb\n")
    (folder / "checkpoints" / "best.pth").write_bytes(b"secret")
    (folder / "report" / "report.html").write_text("<p>report</p>")
    for epoch in (1, 2):
        (folder / "report" / f"epoch_00{epoch}.jpg").write_bytes(b"jpeg")
    return folder


ROWS = [{"epoch": 9, "top1": 0.5, "lr": 0.1, "loss": float("nan")}, {"epoch": 10, "lr": 0.05, "AP_large": -1.0}]


@pytest.fixture
def root(tmp_path: Path, config: ClassificationConfig) -> Path:
    """a/runs/first, with half of its 20 epochs; b/second, with all of its 10."""
    root = tmp_path / "all"
    write_run(root / "a" / "runs" / "first", replace(config.with_epochs(20), name="first"), ROWS)
    write_run(root / "b" / "second", replace(config, seed=7, name="second"), ROWS)
    (root / "b" / "no run").mkdir()
    return root


def client_of(*roots: Path) -> TestClient:
    """Asks a server of these roots."""
    return TestClient(application(Runs(roots).endpoints(), ["127.0.0.1"]), base_url=HERE)


def test_runs_and_their_states(root: Path) -> None:
    """Finished by its epochs, stopped before them, running while a process holds the folder."""
    client = client_of(root)
    first, second = client.get("/api/runs").json()
    assert set(first) == set(SUMMARY)
    assert (first["run"], first["state"], first["epoch"], first["epochs"]) == ("a/runs/first", "stopped", 10, 20)
    assert (second["run"], second["state"], second["epoch"], second["epochs"]) == ("b/second", "finished", 10, 10)
    assert first["metrics"] == {"top1": 0.5, "lr": 0.05, "loss": None}, "the last of each; -1 does not exist"
    assert (first["network"], first["best_metric"]) == ("resnet18cifar", "top1")
    lock = FolderLock(root / "b" / "second")
    assert [one["state"] for one in client.get("/api/runs").json()] == ["stopped", "running"]
    lock.release()
    assert client.get("/api/runs").json()[1]["state"] == "finished", "its file still names this process"


def test_a_folder_is_held_by_a_live_process_alone(tmp_path: Path) -> None:
    """Not by nobody, one that has ended, or whatever else has its number; looking keeps no run out."""
    assert not is_held(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for content in ("", "{}", "[]", json.dumps({"pid": ended.pid, "host": os.uname().nodename}), '{"pid": "x"}'):
        (tmp_path / "lock").write_text(content)
        assert not is_held(tmp_path)
    lock = FolderLock(tmp_path)
    assert is_held(tmp_path)
    (tmp_path / "lock").write_text('{"pid": 1, "host": "another"}')
    assert is_held(tmp_path), "a lock that another machine holds"
    lock.release()
    assert not is_held(tmp_path)
    FolderLock(tmp_path).release()


def test_one_run(root: Path) -> None:
    """Its rows with null for what JSON does not have, reports, pictures with their epochs, the end of its log."""
    client = client_of(root)
    run = client.get("/api/run", params={"run": "b/second"}).json()
    assert set(run) == set(SUMMARY | RUN)
    assert run["rows"] == [{"epoch": 9, "top1": 0.5, "lr": 0.1, "loss": None}, {"epoch": 10, "lr": 0.05}]
    assert run["reports"] == ["report/report.html"]
    assert run["pictures"] == [{"path": f"report/epoch_00{n}.jpg", "epoch": n} for n in (1, 2)]
    assert run["log"] == ["a", "b"]
    answer = client.get("/api/run", params={"run": "b/secnd"})
    assert (answer.status_code, answer.json()["error"]) == (404, "there is no run 'b/secnd'; the nearest: b/second.")


def test_settings_that_differ(root: Path) -> None:
    """By name, as messages show them; one that an older version did not record had its default."""
    path = root / "b" / "second" / "config.json"
    record = json.loads(path.read_text())
    del record["clip_grad_norm"], record["data"]["max_pixels"]
    path.write_text(json.dumps(record))
    rows = client_of(root).get("/api/differences", params={"first": "a/runs/first", "second": "b/second"}).json()
    assert {"setting": "seed", "first": "0", "second": "7"} in rows
    assert {"setting": "schedule.warmup_epochs", "first": "2.0", "second": "1"} in rows
    assert {row["setting"].partition(".")[0] for row in rows} == {"epochs", "name", "schedule", "seed"}


def test_files_of_runs_alone(root: Path, tmp_path: Path, config: ClassificationConfig) -> None:
    """Results, as they are, pages without scripts; no checkpoints, and nothing outside, wherever a link leads."""
    client = client_of(root)
    folder = root / "b" / "second"
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "inside.log").symlink_to(folder / "train.log")
    (root / "elsewhere").symlink_to(write_run(tmp_path / "away" / "outside", config, []).parent)

    def status(path: str, run: str = "b/second") -> int:
        return client.get("/api/file", params={"run": run, "path": path}).status_code

    answer = client.get("/api/file", params={"run": "b/second", "path": "report/report.html"})
    assert (answer.text, answer.headers["content-type"]) == ("<p>report</p>", "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].endswith("; sandbox")
    assert [status(path) for path in ("train.log", "inside.log", "config.json")] == [200] * 3
    strange = (
        "checkpoints/best.pth",
        "link.txt",
        "../../a/runs/first/train.log",
        "/etc/hostname.txt",
        "",
        ".",
        "a\0.txt",
    )
    assert [status(path) for path in (*strange, "x" * 5000 + ".txt", "report")] == [404] * 9
    assert [status("train.log", run) for run in ("../outside", "elsewhere/outside", "/", "")] == [404] * 4


def test_damaged_folders_are_shown(root: Path) -> None:
    """Whatever lies in a run folder, the others are listed, and what is wrong is one sentence where it is asked for."""
    folder = root / "b" / "second"
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "top1": 0.25}\n[1]\n{"epoch": 2, "to')
    client = client_of(root)
    for content in (
        "",
        "[]",
        '{"format": 99}',
        '{"type": "os.system", "format": 3}',
        '{"format": 3, "data": {"call": 1}}',
    ):
        (folder / "config.json").write_text(content)
        second = client.get("/api/runs").json()[1]
        assert (second["epoch"], second["epochs"], second["metrics"]) == (1, None, {"top1": 0.25})
    (folder / "config.json").write_text('{"format": 99}')
    answer = client.get("/api/differences", params={"first": "a/runs/first", "second": "b/second"})
    assert answer.status_code == 400
    assert "written by a newer version" in answer.json()["error"]
    (folder / "train.log").write_text("2026 INFO done: best top1")
    assert client.get("/api/runs").json()[1]["state"] == "finished", "by its log, where the config tells nothing"


def test_roots(root: Path, tmp_path: Path) -> None:
    """Several, one that is a run itself, none at all, and one that is not there."""
    names = [one["run"] for one in client_of(root / "a", root / "b").get("/api/runs").json()]
    assert names == ["a/runs/first", "b/second"]
    assert [one["run"] for one in client_of(root / "b" / "second").get("/api/runs").json()] == ["second"]
    assert client_of().get("/api/runs").json() == []
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        Runs([tmp_path / "nowhere"])
