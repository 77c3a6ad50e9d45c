"""What a result was computed with."""

import json
import tomllib
from pathlib import Path

import pytest
import torch

from public.runtime import environment
from public.runtime.environment import dependencies, environment_changes, environment_record

ROOT = Path(__file__).parents[2]


def test_environment_record() -> None:
    """Versions, machine, device and commit, fit for JSON."""
    record = environment_record("CPU", 2)
    assert torch.__version__.startswith(record["packages"]["torch"])
    assert (record["device"], record["processes"]) == ("CPU", 2)
    assert record.keys() >= {"python", "machine", "processor", "commit"}
    assert record["processor"].endswith(f", {torch.backends.cpu.get_cpu_capability()}")  # else two look the same
    assert json.loads(json.dumps(record)) == record


def test_what_of_it_leads_to_other_bits() -> None:
    """Versions, processor and device; not the machine's name or the number of processes."""
    old = environment_record("CPU (1 thread)", 1)
    assert environment_changes(old, old | {"machine": "another", "processes": 2}) == []
    new = old | {"packages": old["packages"] | {"torch": "1.0"}, "device": "CPU (2 threads)", "processor": "6502"}
    changes = environment_changes(old, new)
    assert changes == [
        f"processor {old['processor']} -> 6502",
        "device CPU (1 thread) -> CPU (2 threads)",
        f"torch {old['packages']['torch']} -> 1.0",
    ]


def test_generations_of_processors_that_share_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a virtual machine of AMD's has them; of an older record that says nothing of it, nothing has changed."""
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(environment, "CPUINFO", cpuinfo)
    assert environment_record("CPU", 1)["generation"] is None
    cpuinfo.write_text("cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nmodel\t\t: 18\n", encoding="utf-8")
    new = environment_record("CPU", 1)
    assert (new["processor"].split(",")[0], new["generation"]) == ("AMD EPYC", "family 25, model 17")
    old = {key: value for key, value in new.items() if key != "generation"}
    assert environment_changes(old, new) == []
    of_zen_3 = new | {"generation": "family 25, model 1"}
    assert environment_changes(of_zen_3, new) == ["generation family 25, model 1 -> family 25, model 17"]


def test_every_dependency_is_recorded() -> None:
    """Those that pyproject.toml states, each with a version, and no extra."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [line.split(">=")[0] for line in stated]
    assert sorted(dependencies()) == sorted(names)
    assert all(environment_record("CPU", 1)["packages"].values())


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has them from pyproject.toml."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    monkeypatch.setattr(environment, "DISTRIBUTION", "no-such-distribution")
    assert dependencies() == [line.split(">=")[0] for line in stated]


def test_a_copy_of_the_package_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Records what it can."""
    monkeypatch.setattr(environment, "DISTRIBUTION", "no-such-distribution")
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "public" / "runtime" / "environment.py"))
    assert environment_record("CPU", 1)["packages"].keys() == {"torch", "torchvision"}


def test_the_commit_is_none_outside_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A copy without .git, or a machine without git, is no reason to stop."""
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment_record("CPU", 1)["commit"] is None
    monkeypatch.setenv("PATH", "")
    assert environment_record("CPU", 1)["commit"] is None
