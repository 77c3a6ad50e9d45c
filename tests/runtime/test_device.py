"""Which device and which precision; nothing here needs a GPU."""

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from public.runtime import device as device_module
from public.runtime.device import (
    autocast,
    choose_device,
    choose_precision,
    cpu_is_faster_in_bf16,
    device_name,
    memory_format,
    num_parameters,
    one_thread_each,
    synchronize,
    use_deterministic_kernels,
)

CPU = torch.device("cpu")


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int, capability: tuple[int, int] = (8, 0)) -> list[int]:
    """A machine with so many GPUs; gives the list of those that were made current."""
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    return current


def test_cpu_where_there_is_no_gpu_or_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto without a GPU, and cpu whatever there is."""
    pretend_gpus(monkeypatch, 0)
    assert choose_device("auto") == choose_device("cpu") == CPU
    assert pretend_gpus(monkeypatch, 4) == []
    assert choose_device("cpu", 3) == CPU


@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    """The local rank is the GPU's number, and it is made the current one."""
    current = pretend_gpus(monkeypatch, 2)
    assert [choose_device(choice, rank) for rank in (0, 1)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert current == [0, 1]


def test_a_missing_gpu_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuda without a GPU; more processes than GPUs."""
    pretend_gpus(monkeypatch, 0)
    with pytest.raises(
        ValueError, match=r"^device='cuda' needs an NVIDIA GPU, and PyTorch sees none here; give 'cpu' or 'auto'\.$"
    ):
        choose_device("cuda")
    pretend_gpus(monkeypatch, 2)
    with pytest.raises(ValueError, match=r"^device='auto': process 2 .* needs GPU 2, and 2 are visible"):
        choose_device("auto", 2)


@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_gpus_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    """Their driver is older than torch's CUDA: no traceback, and no CPU in their place without a word."""
    pretend_gpus(monkeypatch, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match=r"^PyTorch cannot use the 2 NVIDIA GPUs of this machine: the driver .*too old"
    ):
        choose_device(choice)
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("num_gpus", [0, 2])
@pytest.mark.parametrize("choice", ["gpu", "cuda:1", "CPU", None, CPU])
def test_an_unknown_device_is_called_so(monkeypatch: pytest.MonkeyPatch, choice: Any, num_gpus: int) -> None:
    """It is no missing GPU, nor the first one."""
    pretend_gpus(monkeypatch, num_gpus)
    message = f"device={choice!r} must be one of auto, cpu, cuda; another GPU than the first is chosen by CUDA_VISIBLE_"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        choose_device(choice)


def test_an_unknown_precision_is_called_so() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match=r"^precision='int8' must be one of auto, fp32, bf16, fp16\.$"):
        choose_precision("int8", CPU)


@pytest.mark.parametrize(("choice", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_stated_precision_is_taken(choice: str, dtype: str) -> None:
    """Whatever the device."""
    for device in (CPU, torch.device("cuda")):
        assert choose_precision(choice, device) is getattr(torch, dtype)


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_auto_precision_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    """Turing (7.5) has fp16 tensor cores only, Ampere (8.0) has bf16 ones."""
    pretend_gpus(monkeypatch, 1, capability)
    assert choose_precision("auto", torch.device("cuda")) is dtype


@pytest.mark.parametrize(("faster", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_on_a_cpu(monkeypatch: pytest.MonkeyPatch, faster: bool, dtype: torch.dtype) -> None:
    """bf16 where the processor is faster in it, else fp32: fp16 is slow on CPUs."""
    monkeypatch.setattr(device_module, "cpu_is_faster_in_bf16", lambda: faster)
    assert choose_precision("auto", CPU) is dtype


@pytest.mark.parametrize(
    ("instructions", "faster"),
    [
        (("avx512_bf16", "avx512_fp16", "amx_bf16"), True),  # Sapphire Rapids as it is
        (("avx512_bf16", "avx512_fp16"), False),  # the same in a virtual machine that hides AMX
        (("avx512_bf16",), True),  # Cooper Lake, Zen 4
        ((), False),
    ],
)
def test_which_processors_are_faster_in_bf16(
    monkeypatch: pytest.MonkeyPatch, instructions: tuple[str, ...], faster: bool
) -> None:
    """By their instructions, which are the same at every start."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    assert cpu_is_faster_in_bf16() is faster


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_sets_the_dtype_of_products(dtype: torch.dtype) -> None:
    """A matrix product comes out in the precision asked for."""
    with autocast(CPU, dtype):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is dtype


def test_deterministic_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by a switch of the run; a kernel that there is not is a warning."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        use_deterministic_kernels()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


def test_small_helpers() -> None:
    """Layout by name, waiting for a CPU (nothing to wait for), a name for people."""
    assert (memory_format(True), memory_format(False)) == (torch.channels_last, torch.contiguous_format)
    synchronize(CPU)
    assert device_name(CPU) == f"CPU ({torch.get_num_threads()} threads)"


def test_one_thread_each() -> None:
    """In their order, at the same time; the caller, and a thread that begins later, have as many as before."""
    before, meet = torch.get_num_threads(), threading.Barrier(2, timeout=60)

    def work(number: int) -> tuple[int, int]:
        if number < 2:
            meet.wait()  # for the other, which is at work at the same time
        return number, torch.get_num_threads()

    try:
        torch.set_num_threads(2)
        assert one_thread_each(work, range(5)) == [(number, 1) for number in range(5)]
        assert one_thread_each(work, [7]) == [(7, 2)]  # alone it has all
        with pytest.raises(ZeroDivisionError):
            one_thread_each(lambda number: 1 // number, [1, 0, 2])
        with ThreadPoolExecutor(1) as later:
            assert (torch.get_num_threads(), later.submit(torch.get_num_threads).result()) == (2, 2)
    finally:
        torch.set_num_threads(before)


def test_num_parameters_counts_what_can_change() -> None:
    """Linear 3 -> 4: 12 weights + 4 biases; with the bias frozen 12."""
    layer = nn.Linear(3, 4)
    assert num_parameters(layer) == 16
    layer.bias.requires_grad_(False)
    assert num_parameters(layer) == 12
