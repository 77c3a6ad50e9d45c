"""A config as plain data: for config.json, for checkpoints, and for saying how two configs differ."""

import platform
import subprocess
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from public.config.sections import RunConfig

PACKAGES = ("torch", "torchvision", "numpy", "pillow")


def to_record(value: Any) -> Any:
    """Dataclasses become dicts, tuples lists; objects such as transforms are recorded by their repr."""
    if is_dataclass(value) and not isinstance(value, type) and type(value).__name__.endswith("Config"):
        return {f.name: to_record(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, list | tuple):
        return [to_record(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """One line 'section.field: old -> new' for every field in which two records differ.

    A field that is absent counts as None: a checkpoint from before a setting existed is one that left it unset.
    """
    lines: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict | None) and isinstance(now, dict | None):
            lines += differences(before or {}, now or {}, f"{prefix}{key}.")
        elif before != now:
            lines.append(f"{prefix}{key}: {before!r} -> {now!r}")
    return lines


def result_record(config: RunConfig) -> dict[str, Any]:
    """The record without the fields that change no result: what a resumed run must share with its checkpoint."""
    return {key: value for key, value in to_record(config).items() if key not in ("runtime", "name")}


def class_summary(names: list[str]) -> str:
    """'10 classes (circle, ring, star, ...)': how messages tell class lists apart."""
    return f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def environment_record(device: str, num_processes: int) -> dict[str, Any]:
    """What a result was computed with: versions, machine, device, and the commit of this repository."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "machine": platform.platform(),
        "processor": _processor(),
        "device": device,
        "processes": num_processes,
        "commit": _commit(),
    }


def _processor() -> str:
    """The processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The repository's commit, with '+' where tracked files are changed; None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
