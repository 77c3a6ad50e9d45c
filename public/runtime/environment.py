"""What a result was computed with: versions, machine, device, and the commit of this repository."""

import platform
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

DISTRIBUTION = "pytorch-imagenet-cifar-coco-voc-training"
CPUINFO = Path("/proc/cpuinfo")


def environment_record(device: str, num_processes: int) -> dict[str, Any]:
    """For environment.json.

    Args:
        device: its name.
        num_processes: of the run.
    """
    core = _first_core()
    return {
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in dependencies()},
        "machine": platform.platform(),
        "processor": _processor(core),
        "generation": _generation(core),
        "device": device,
        "processes": num_processes,
        "commit": _commit(),
    }


def environment_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of two records leads to other bits, for a message: ["torch 2.11.0 -> 2.14.1"]."""
    keys = ("processor", "generation", "device")
    before, now = ({key: one[key] for key in keys if key in one} | one["packages"] for one in (old, new))
    return [f"{name} {before[name]} -> {value}" for name, value in now.items() if before.get(name, value) != value]


def dependencies() -> list[str]:
    """The names of all that this project needs to run, as it states them; torch alone where nothing does."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # a checkout that is on the path, and not installed
        path = Path(__file__).parents[2] / "pyproject.toml"
        if not path.exists():
            return ["torch", "torchvision"]
        requirements: list[str] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["dependencies"]
    needed = (line for line in requirements if "extra ==" not in line)
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed]


def package_version(name: str) -> str | None:
    """A package's version, also where a distribution of another name brings it, as onnxruntime-gpu does; else None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        others = metadata.packages_distributions().get(name, [])
        return metadata.version(others[0]) if others else None


def _processor(core: dict[str, str]) -> str:
    """The processor's name where the system tells it, and the vectors that torch computes with: "AMD EPYC, AVX2"."""
    return f"{core.get('model name') or platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _generation(core: dict[str, str]) -> str | None:
    """What parts processors that share a name, as they do in a virtual machine: "family 25, model 17", of x86 alone."""
    is_told = {"cpu family", "model"} <= core.keys()
    return f"family {core['cpu family']}, model {core['model']}" if is_told else None


def _first_core() -> dict[str, str]:
    """What Linux says of it."""
    first = CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0] if CPUINFO.exists() else ""
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _commit() -> str | None:
    """The repository's commit, with '+' where tracked files are changed; None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
