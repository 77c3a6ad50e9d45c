"""One process's place among many, and starting them."""

import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage]

from public.runtime import distributed
from public.runtime.distributed import (
    LONGEST_WAIT,
    DistributedContext,
    agree_on_attempt,
    join_process_group,
    processes_to_start,
    start_processes,
    under_launcher,
)

LAUNCHER = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the second of two processes."""
    for name, value in LAUNCHER.items():
        monkeypatch.setenv(name, value)


def test_a_world_of_one_changes_nothing(context: DistributedContext) -> None:
    """Sums, gathers, broadcasts and barriers over one process."""
    assert context.is_main
    assert context.sum(torch.tensor([1.5, 2.0])).tolist() == [1.5, 2.0]
    assert context.gather({"a": 1}) == [{"a": 1}]
    context.broadcast_buffers(nn.BatchNorm2d(3))
    context.barrier()


def test_processes_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """One per visible GPU unless the device is the CPU, their number is stated, or nn.DataParallel drives all."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert processes_to_start("auto", "distributed", None) == 4
    assert processes_to_start("cpu", "distributed", None) == 1
    assert processes_to_start("cpu", "distributed", 2) == 2
    assert processes_to_start("auto", "data_parallel", None) == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert processes_to_start("auto", "distributed", None) == processes_to_start("cuda", "distributed", None) == 1


@pytest.mark.usefixtures("launched")
def test_a_launched_process_starts_no_others() -> None:
    """Whatever the config says about their number."""
    assert under_launcher()
    assert processes_to_start("cpu", "distributed", 2) == 1


@pytest.mark.usefixtures("launched")
def test_data_parallel_is_refused_under_a_launcher() -> None:
    """Two processes that each drive all GPUs would train twice."""
    with (
        pytest.raises(ValueError, match=r"parallel='data_parallel' runs in one process, and a launcher started 2"),
        join_process_group("cpu", "data_parallel"),
    ):
        pass


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "LOCAL_RANK",
            None,
            "has WORLD_SIZE=2, as in one of several processes, and lacks LOCAL_RANK: start the run with",
        ),
        ("WORLD_SIZE", "two", "has WORLD_SIZE=two, which a launcher sets to a whole number 1 or more"),
        ("WORLD_SIZE", "0", "has WORLD_SIZE=0, which a launcher sets to a whole number 1 or more"),
        ("RANK", "2", "has RANK=2, which a launcher sets to a whole number from 0 to 1"),
        ("LOCAL_RANK", "-1", "has LOCAL_RANK=-1, which a launcher sets to a whole number from 0 to 1"),
        ("MASTER_PORT", "99999", "has MASTER_PORT=99999, which a launcher sets to a whole number from 0 to 65535"),
    ],
)
def test_no_place_among_processes(name: str, value: str | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not train alone, nor wait for ever. One process of one needs none of the other variables."""
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        processes_to_start("cpu", "distributed", None)
    with pytest.raises(ValueError, match=message), join_process_group("cpu"):
        pass
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not under_launcher()


@pytest.mark.usefixtures("launched")
def test_where_processes_cannot_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has the port; nobody is there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("MASTER_PORT", port)
        monkeypatch.setenv("RANK", "0")
        message = rf"process 0 of 2 cannot meet the others at 127\.0\.0\.1:{port} \(MASTER_ADDR and .*EADDRINUSE"
        with pytest.raises(ValueError, match=message), join_process_group("cpu"):
            pass
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "LONGEST_START", timedelta(seconds=1))
    with pytest.raises(ValueError, match=rf"process 1 of 2 cannot meet .*:{port} .*: "), join_process_group("cpu"):
        pass


def test_join_world_alone() -> None:
    """Without a launcher: rank 0 of 1."""
    assert not under_launcher()
    with join_process_group("cpu") as context:
        assert (context.rank, context.size, context.device) == (0, 1, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("3 if rank == '1' else 0", 3)])
def test_start_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, expected: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two processes of this machine, with the script's arguments; the code is the failed one's."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "rank = os.environ['RANK']\n"
        "pathlib.Path(sys.argv[1], rank).write_text(os.environ['WORLD_SIZE'] + ' '.join(sys.argv[2:]))\n"
        f"sys.exit({code})\n"
    )
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert start_processes(2, str(script), [str(tmp_path), "--epochs", "2"]) == expected
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2--epochs 2"] * 2
    assert "LOCAL_RANK" not in os.environ
    capfd.readouterr()  # the launcher's own report of the failure


@pytest.mark.slow
def test_others_wait_for_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the main process downloads, at 500 kB/s: 18e9 / 5e5 = 36000 s. gloo's own limit is 1800 s."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, sys, torch\n"
        "from public.runtime.distributed import join_process_group\n"
        "with join_process_group('cpu') as context:\n"
        "    context.barrier()\n"
        "    options = context.control._get_backend(torch.device('cpu')).options\n"
        "    pathlib.Path(sys.argv[1], str(context.rank)).write_text(str(options._timeout.total_seconds()))\n"
    )
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert start_processes(2, str(script), [str(tmp_path)]) == 0
    assert [float((tmp_path / rank).read_text()) for rank in "01"] == [LONGEST_WAIT.total_seconds()] * 2
    assert LONGEST_WAIT.total_seconds() > 36000


def test_a_start_never_takes_the_name_of_a_dead_one() -> None:
    """Three starts with one store, as torchrun gives it; the others come first and find what the dead ones wrote."""
    store, names = HashStore(), set[str]()
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            others = [pool.submit(agree_on_attempt, store, rank, 3) for rank in (1, 2)]
            agreed = {agree_on_attempt(store, 0, 3), *(other.result(timeout=20) for other in others)}
        assert len(agreed) == 1
        assert not agreed & names
        names |= agreed


def test_a_start_whose_main_process_died_before_the_others_came() -> None:
    """It named itself and never said who the others are; the next main process does."""
    store = HashStore()
    store.set("public/main", "dead")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(agree_on_attempt, store, 1, 2)
        name = agree_on_attempt(store, 0, 2)
        assert other.result(timeout=20) == name != "dead"


def test_who_waits_for_nobody_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main process never comes again: after the longest start, here 0.1 s, an error says who waits for whom."""
    store = HashStore()
    store.set("public/main", "dead")
    monkeypatch.setattr(distributed, "LONGEST_START", timedelta(seconds=0.1))
    with pytest.raises(TimeoutError, match=r"process 1 waited 0:00:00\.1\d* for the main process of 2"):
        agree_on_attempt(store, 1, 2)
