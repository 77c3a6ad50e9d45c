"""Accidents as torch tells of them, each by the real thing, become a sentence with the remedy."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from public.apps import predict
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets import pack
from public.datasets.loaders import build_dataloader, received
from public.runtime import launch as launch_module
from public.runtime.accidents import RESUMES, Remedies, end_by, explained, killed, naming_memory, of_training
from public.runtime.launch import launch
from public.test_scripts.request import evaluate_distributed


@pytest.fixture
def config(config: ClassificationConfig) -> ClassificationConfig:
    """Batches of 16, on the CPU."""
    return replace(config, runtime=RuntimeConfig(device="cpu", num_workers=2))


class Killed(Dataset[Any]):
    """Its data worker gets a signal."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        os.kill(os.getpid(), self.number)
        return torch.zeros(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "a process that reads data was killed (Killed); usually memory, or shared memory ("),
        (signal.SIGBUS, "shared memory (/dev/shm) is full"),
    ],
)
def test_a_data_worker_that_is_killed(config: ClassificationConfig, number: signal.Signals, words: str) -> None:
    """By torch's own error, which a run would otherwise end with as a traceback."""
    dataset = Killed(number)
    loader = build_dataloader(dataset, [[0], [1]], list, num_workers=1, pin_memory=False)  # pyright: ignore
    with pytest.raises(RuntimeError) as error:
        list(loader)
    text = explained(error.value, of_training(config, 1))
    assert text is not None
    assert words in text
    assert "--runtime.num-workers), now 2" in text
    assert text.endswith(RESUMES)


@pytest.mark.slow
def test_a_batch_that_cannot_be_handed_over(config: ClassificationConfig, capfd: pytest.CaptureFixture[str]) -> None:
    """torch's worker drops it and is waited for without end; ours says why and ends. Here it cannot be pickled."""
    batches: Any = ([0], [1])
    loader = build_dataloader(torch.utils.data.TensorDataset(torch.zeros(2)), batches, lambda _: lambda: 0, 1, False)
    with pytest.raises(RuntimeError) as error:
        list(loader)
    assert "a process that reads data ended; usually memory" in str(explained(error.value, of_training(config, 1)))
    assert "error: a data worker could not hand over a batch: " in capfd.readouterr().err


class Handing:
    """A loader whose batch cannot be received."""

    def __init__(self, error: Exception, num_workers: int) -> None:
        self.error, self.num_workers = error, num_workers

    def __iter__(self) -> Iterator[Any]:
        raise self.error


def test_a_data_worker_that_is_killed_while_it_hands_a_batch_over(config: ClassificationConfig) -> None:
    """Its socket is closed before torch sees it dead; an error of the data's own stays what it is."""
    with pytest.raises(RuntimeError) as error:
        list(received(Handing(ConnectionResetError(104, "Connection reset by peer"), 2)))  # pyright: ignore
    assert "a process that reads data ended; usually memory" in str(explained(error.value, of_training(config, 1)))
    for own in (Handing(EOFError(), 0), Handing(EOFError("Caught EOFError in DataLoader worker process 0."), 2)):
        with pytest.raises(EOFError):
            list(received(own))  # pyright: ignore[reportArgumentType]


def test_too_many_open_files(config: ClassificationConfig) -> None:
    """Both ways in which torch tells of it."""
    for text in ("Too many open files. Communication with the workers is no longer", "received 0 items of ancdata"):
        assert "(ulimit -n 65536)" in str(explained(RuntimeError(text), of_training(config, 1)))


def test_other_commands_end_with_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """With the remedy of their own options; a defect keeps its traceback."""
    remedies = Remedies(workers="fewer threads (--num-workers)", too_much="a batch", less="a smaller one needs less")
    with pytest.raises(SystemExit) as ending:
        end_by(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), remedies)
    assert ending.value.code == 1
    said = (
        "error: the GPU's memory does not suffice for a batch (Tried to allocate 2.00 GiB): a smaller one needs less."
    )
    assert capsys.readouterr().err.strip() == said
    with pytest.raises(RuntimeError, match="size of tensor"):
        end_by(RuntimeError("The size of tensor a must match"), remedies)
    with pytest.raises(SystemExit, match="130"):
        end_by(KeyboardInterrupt(), remedies)
    assert capsys.readouterr().err == "stopped\n"


def test_memory_by_any_name() -> None:
    """Engines and exporters have their own kinds of error, and some tell of it as a cause alone."""
    cause = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
    told = ValueError("torch.export cannot take the network.")
    told.__cause__ = cause
    for error in (cause, told, Exception("failed:std::bad_alloc"), MemoryError()):
        with pytest.raises(MemoryError), naming_memory():
            raise error
    with pytest.raises(KeyError), naming_memory():
        raise KeyError("bad")
    assert "for a batch (of which nothing more is said): less." in str(
        explained(MemoryError(), Remedies(workers="", too_much="a batch", less="less"))
    )


def lost_worker(*_: Any, **__: Any) -> Any:
    """Is told of by torch."""
    raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (lambda: evaluate_distributed("cpu", lost_worker), "--num-workers"),
        (lambda: predict.main(["--weights", "best.pth"]), "--num-workers"),
        (lambda: pack.main(["photos", "packed"]), "--workers"),
    ],
)
def test_commands_beside_training(
    command: Callable[[], Any], option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """test.sh, predict and pack: one sentence that names their own option."""
    monkeypatch.setattr(predict, "read_command", lost_worker)
    monkeypatch.setattr(pack, "_conversions", lost_worker)
    with pytest.raises(SystemExit) as ending:
        command()
    assert ending.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: a process that reads data was killed (Killed)")
    assert f"({option})" in line


def test_no_room_in_shared_memory(config: ClassificationConfig) -> None:
    """What torch says where /dev/shm has 64 kB (a container's --shm-size=64k)."""
    text = "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"
    assert "docker run --shm-size=8g" in str(explained(RuntimeError(text), of_training(config, 1)))


@pytest.mark.parametrize(
    ("num_processes", "accumulation", "images", "remedy"),
    [
        (1, 1, 16, "--accumulation-steps 2 trains on the same global batch with 8 images in a pass"),
        (
            2,
            2,
            4,
            "--accumulation-steps 4 trains on the same global batch with 2 images in a pass",
        ),  # 8 / 3 is no whole
        (4, 4, 1, "a smaller --batch-size or --data.input-size needs less"),
    ],
)
def test_out_of_memory(
    config: ClassificationConfig, num_processes: int, accumulation: int, images: int, remedy: str
) -> None:
    """On a GPU and on a CPU: the next number of parts that divides the 16 images."""
    config = replace(config, accumulation_steps=accumulation)
    on_gpu = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8 GiB"
    )
    with pytest.raises(RuntimeError) as on_cpu:
        torch.empty(2**50)
    for error, where in ((on_gpu, "the GPU's memory"), (on_cpu.value, "memory")):
        text = str(explained(error, of_training(config, num_processes)))
        assert text.startswith(f"{where} does not suffice for {images} images in a forward pass (")
        assert f"): {remedy}. {RESUMES}" in text
    assert "(Tried to allocate 2.50 GiB)" in str(explained(on_gpu, of_training(config, num_processes)))


@pytest.mark.parametrize("words", ["out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"])
def test_a_gpu_that_is_full_before_torch_allocates(config: ClassificationConfig, words: str) -> None:
    text = str(explained(RuntimeError(f"CUDA error: {words}\nMore."), of_training(config, 1)))
    assert text.startswith(f"the GPU's memory does not suffice for 16 images in a forward pass (CUDA error: {words}")


def test_a_process_that_is_gone(config: ClassificationConfig) -> None:
    """What gloo tells those that are left."""
    text = (
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [::1]:1: Connection reset by peer. This"
    )
    words = "another process of this run is gone (Connection reset by peer); what it said before"
    assert str(explained(RuntimeError(text), of_training(config, 2))).startswith(words)


def test_a_started_process_that_is_killed(
    config: ClassificationConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """128 + 9; a run that was stopped (SIGTERM, Ctrl-C) or ended has said so itself."""
    config = replace(config, runtime=replace(config.runtime, processes=2))
    monkeypatch.setattr(launch_module, "start_processes", lambda *_: 137)
    assert launch(config, "train.py", [], lambda context: 0) == 137
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: a process of this run was ended by SIGKILL. ")
    assert [killed(code) for code in (0, 1, 2, 143, 130)] == [None] * 5


def test_an_accident_ends_a_run_with_code_1(config: ClassificationConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence; another RuntimeError is a defect and keeps its traceback."""

    def run_out(_: Any) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    assert launch(config, "train.py", [], run_out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the GPU's memory does not suffice for 16 images in a forward pass")
    with pytest.raises(RuntimeError, match="size of tensor a"):
        launch(config, "train.py", [], lambda _: int((torch.zeros(2) + torch.zeros(3)).sum()))
