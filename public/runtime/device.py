"""Which device and which precision a run computes with, and how it says so."""

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from public.config.checks import require_one_of
from public.runtime.heap import keep_freed_memory
from public.runtime.tracing import is_exporting

# On a CPU the kernels of log1p, softplus and the binary cross-entropy load what they answer for -1 and -0 with a mask.
# While that page of torch's library was never read, each such load, though masked off, takes hundreds of cycles: 20
# times the time of the whole function (torch 2.14.1, AVX-512, findings/). One call with these values reads the page.
torch.log1p(torch.tensor([-1.0, -0.0], device="cpu"))

Item = TypeVar("Item")
Done = TypeVar("Done")
DEVICES = ("auto", "cpu", "cuda")
PRECISION_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_device(choice: str) -> None:
    """Raises ValueError unless it is one of `DEVICES`."""
    if choice not in DEVICES:
        raise ValueError(
            f"device={choice!r} must be one of {', '.join(DEVICES)}; another GPU than the first is chosen by "
            "CUDA_VISIBLE_DEVICES."
        )


def count_gpus() -> int:
    """GPUs that this process may use.

    Raises:
        ValueError: torch cannot use those that there are.
    """
    number = torch.cuda.device_count()  # which asks the system, and knows nothing of the driver's version
    if number and not torch.cuda.is_available():
        raise ValueError(
            f"PyTorch cannot use the {number} NVIDIA GPUs of this machine: the driver is usually too old for its CUDA "
            f"{torch.version.cuda}. Update the driver, install the PyTorch that fits it, or give device='cpu'."
        )
    return number


def choose_device(choice: str, local_rank: int = 0) -> torch.device:
    """The device of this process; where it is the CPU, glibc keeps freed memory from here on (`heap.py`).

    Args:
        choice: one of `DEVICES` (the values of runtime.device).
        local_rank: this process's number on its machine, which is its GPU's number.

    Raises:
        ValueError: there is no such name, cuda was asked for and this machine has none for this process, or torch
            cannot use its GPUs.
    """
    check_device(choice)
    num_gpus = 0 if choice == "cpu" else count_gpus()
    if choice == "cpu" or (choice == "auto" and num_gpus == 0):
        keep_freed_memory()
        return torch.device("cpu")
    if num_gpus == 0:
        raise ValueError(f"device={choice!r} needs an NVIDIA GPU, and PyTorch sees none here; give 'cpu' or 'auto'.")
    if local_rank >= num_gpus:
        raise ValueError(
            f"device={choice!r}: process {local_rank} of this machine needs GPU {local_rank}, "
            f"and {num_gpus} are visible. Start fewer processes, or give device='cpu'."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def use_deterministic_kernels() -> None:
    """From here on a GPU adds in a fixed order wherever torch has a kernel that does; torch warns where it has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at cuBLAS's first use
    torch.use_deterministic_algorithms(True, warn_only=True)


def must_add_in_order(device: torch.device) -> bool:
    """Whether this is a GPU, and torch is asked for a fixed order, of which torchvision's kernels know nothing."""
    return device.type == "cuda" and torch.are_deterministic_algorithms_enabled()


def choose_precision(choice: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products and convolutions; 'auto' takes the fastest of this device.

    Raises:
        ValueError: there is no such precision.
    """
    require_one_of("precision", choice, ("auto", *PRECISION_DTYPES))
    if choice != "auto":
        return PRECISION_DTYPES[choice]
    if device.type == "cuda":
        # Ampere (compute capability 8) brought bf16 tensor cores; before it bf16 is emulated, fp16 is not.
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if cpu_is_faster_in_bf16() else torch.float32


def cpu_is_faster_in_bf16() -> bool:
    """Whether convolutions and products take less time in bf16 than in fp32: with AMX, or AVX512-BF16 of its own right.

    From Sapphire Rapids on, the first with AVX512-FP16, Intel's bf16 is that of AMX. Where a virtual machine hides it,
    training takes 1.45 times as long in bf16 as in fp32 (torch 2.14.1, `benchmarks/precision.py`).
    """
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or (has.get("avx512_bf16") and not has.get("avx512_fp16")))


def num_cores() -> int:
    """Those that this process may use: a cluster or a container gives it some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_x86_kernels() -> bool:
    """Whether a CPU's convolutions are oneDNN's for x86 processors, with which our ways around it were tried."""
    return torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")


def has_bf16_kernels() -> bool:
    """Whether oneDNN computes in bf16 on this processor; elsewhere torch's own kernels do, which round more."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def has_avx2_alone() -> bool:
    """Whether the kernels of `has_x86_kernels` are those for AVX2, the widest vectors of many processors.

    They are slow at gradients of weights of NHWC maps: 36 to 75 GFLOP/s of 148 (torch 2.14.1, two cores of a Zen 3).
    """
    return has_x86_kernels() and torch.backends.cpu.get_cpu_capability() == "AVX2"


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Autocast to `dtype` on `device`; for float32 a context that changes nothing."""
    if dtype == torch.float32 and is_exporting():  # it would be a graph within the graph
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def memory_format(channels_last: bool) -> torch.memory_format:
    """The layout of images and weights."""
    return torch.channels_last if channels_last else torch.contiguous_format


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that it was given, so that a clock read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def one_thread_each(work: Callable[[Item], Done], items: Sequence[Item]) -> list[Done]:
    """What `work` makes of each item, in their order; as many at a time as PyTorch has threads, each with one of them.

    Threads that share each operator of a small network wait for one another behind each; here none waits.

    Raises:
        Exception: what work raised, for the first item in their order.
    """
    num_threads = torch.get_num_threads()
    if min(num_threads, len(items)) < 2:
        return [work(one) for one in items]
    try:
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(num_threads)  # a thread that begins later has as many as any thread said last


def device_name(device: torch.device) -> str:
    """The device as a person knows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"


def num_parameters(module: nn.Module) -> int:
    """How many numbers an optimizer may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
