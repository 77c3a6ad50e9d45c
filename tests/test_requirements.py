"""requirements.lock and requirements-dev.lock: what pyproject.toml asks for, in one version each, with hashes."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.commands import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
LOCKS = {"requirements.lock": PROJECT["dependencies"], "requirements-dev.lock": PROJECT["dependencies"] + EXTRAS}


def locked(name: str) -> dict[str, list[str]]:
    """Package -> its versions (by marker) of a lock."""
    found: dict[str, list[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(package, []).append(version)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_what_the_project_asks_for(name: str) -> None:
    """Every requirement, in a version within its bounds."""
    versions = locked(name)
    for requirement in map(Requirement, LOCKS[name]):
        if requirement.name != PROJECT["name"]:
            (version,) = versions[requirement.name.lower()]
            assert requirement.specifier.contains(version), f"{name}: {requirement} is {version}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_version_has_hashes(name: str) -> None:
    """And no line names the address of an index."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for entry in re.split(r"\n(?=[a-z])", text)[1:]:
        assert "\n    --hash=sha256:" in entry, entry
    assert "://" not in text


def test_the_locks_agree() -> None:
    base, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {name: dev.get(name) for name in base} == base
    assert "torch" in base
