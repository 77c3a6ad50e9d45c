"""glibc keeps what was freed, unless somebody has told it otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from public.runtime.device import choose_device
from public.runtime.heap import keep_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
STEPS = """
import resource, sys
import torch
from public.runtime.heap import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "keep" else None)
for step in range(4):
    held = [torch.ones(6 << 20) for _ in range(8)]  # 24 MiB each
    del held
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt if step == 0 else before
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def of_process(mode: str, **environment: str) -> tuple[str, int]:
    """What it says, and the pages that it asked the kernel for in its second to fourth step, each of 49,152."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", STEPS, mode]
    result = subprocess.run(command, env=own | environment, capture_output=True, text=True, check=True)
    said, pages = result.stdout.split()
    return said, int(pages)


def test_pages_are_not_asked_for_again() -> None:
    """A step finds the memory of the one before."""
    assert of_process("plain")[1] > 40_000
    said, pages = of_process("keep")
    assert said == "True"
    assert pages < 1_000


@pytest.mark.parametrize(
    "setting", [{"MALLOC_TRIM_THRESHOLD_": "1000000"}, {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}]
)
def test_own_settings_stay(setting: dict[str, str]) -> None:
    """Who sets glibc's variables means it."""
    said, pages = of_process("keep", **setting)
    assert said == "False"
    assert pages > 40_000


def test_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever computes on a CPU asks for it; with another C library there is nothing to ask."""
    asked: list[bool] = []
    monkeypatch.setattr("public.runtime.device.keep_freed_memory", lambda: asked.append(True))
    choose_device("cpu")
    assert asked == [True]
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
