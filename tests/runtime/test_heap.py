"""glibc keeps what was freed, unless somebody has told it otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from public.runtime.device import choose_device
from public.runtime.heap import keep_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
OWN = [{"MALLOC_TRIM_THRESHOLD_": "1000000"}, {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}]
BLOCK = """
import ctypes, sys
from public.runtime.heap import keep_freed_memory

SIZE = int(sys.argv[2])
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def megabytes():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))

print(keep_freed_memory() if sys.argv[1] == "keep" else None)
before, block = megabytes(), libc.malloc(SIZE << 20)
libc.memset(block, 1, SIZE << 20)
libc.free(block)
print(megabytes() - before)
"""


def of_process(mode: str, size: int, **environment: str) -> tuple[str, int]:
    """What it says, and how many MiB it is larger behind a block of a size that was freed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", BLOCK, mode, str(size)]
    result = subprocess.run(command, env=own | environment, capture_output=True, text=True, check=True)
    said, megabytes = result.stdout.split()
    return said, int(megabytes)


@pytest.mark.parametrize("size", [28, 200])
def test_what_was_freed_stays(size: int) -> None:
    """For the next block, which need not ask the kernel for it; also one that glibc would never keep itself."""
    assert of_process("plain", size)[1] < 5
    said, megabytes = of_process("keep", size)
    assert said == "True"
    assert megabytes > size - 3


@pytest.mark.parametrize("setting", OWN)
def test_own_settings_hold(setting: dict[str, str]) -> None:
    """Who sets glibc's variables means it."""
    said, megabytes = of_process("keep", 28, **setting)
    assert said == "False"
    assert megabytes < 5


def test_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever computes on a CPU asks for it; with another C library there is nothing to ask."""
    asked: list[bool] = []
    monkeypatch.setattr("public.runtime.device.keep_freed_memory", lambda: asked.append(True))
    choose_device("cpu")
    assert asked == [True]
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
