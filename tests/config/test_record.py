"""Configs as plain data, and how two of them differ."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from public.config import record
from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.record import class_summary, differences, environment_record, result_record, to_record
from public.config.run import RuntimeConfig
from public.transforms.batch import BatchRandomCrop


def test_sections_become_dicts(config: ClassificationConfig) -> None:
    """Tuples become lists, None stays None, transforms are told apart by their repr."""
    plain = to_record(config)
    assert plain["optimizer"]["lr"] == 0.1
    assert plain["schedule"]["milestones"] == [4, 8]
    assert plain["ema_decay"] is None
    assert plain["data"]["train_transforms"] == [
        "BatchRandomHorizontalFlip(probability=0.5)",
        "BatchRandomCrop(size=32, padding=4, reflect=True)",
    ]


def test_a_record_survives_json_and_torch(config: ClassificationConfig, tmp_path: Any) -> None:
    """What is read back from config.json or a checkpoint equals what was written: nothing seems to differ."""
    plain = to_record(config)
    assert json.loads(json.dumps(plain)) == plain
    torch.save(plain, tmp_path / "record.pt")
    assert torch.load(tmp_path / "record.pt", weights_only=True) == plain


def test_differences_name_the_fields(config: ClassificationConfig) -> None:
    """One line a field, sections with a dot, sorted; equal records give none."""
    data = replace(config.data, train_transforms=(Call(BatchRandomCrop, size=SIZE, padding=2),))
    other = replace(config, seed=3, optimizer=replace(config.optimizer, lr=0.2), data=data)
    lines = differences(to_record(config), to_record(other))
    assert [line.split(":")[0] for line in lines] == ["data.train_transforms", "optimizer.lr", "seed"]
    assert lines[1:] == ["optimizer.lr: 0.1 -> 0.2", "seed: 0 -> 3"]
    assert differences(to_record(config), to_record(config)) == []


def test_differences_see_keys_of_one_side_only() -> None:
    """A field that an older version did not have counts as None there."""
    assert differences({"a": 1, "b": {"c": 2}}, {"b": {}, "d": 3}) == ["a: 1 -> None", "b.c: 2 -> None", "d: None -> 3"]


def test_a_section_that_a_checkpoint_does_not_know_yet_counts_as_unset() -> None:
    """Of a new section only what is set differs."""
    unset = {"network_options": {"dropout": None, "activation": None}}
    assert differences({}, unset) == []
    assert differences(unset, {"network_options": None}) == []
    used = {"network_options": {"dropout": 0.3, "activation": None}}
    assert differences({}, used) == ["network_options.dropout: None -> 0.3"]


def test_result_record_leaves_out_what_changes_no_result(config: ClassificationConfig) -> None:
    """Workers, devices and the folder's name may differ between a checkpoint and the run that goes on from it."""
    other = replace(config, name="other", runtime=RuntimeConfig(num_workers=0, device="cpu", processes=2))
    assert result_record(config) == result_record(other)
    assert result_record(config) != result_record(replace(config, batch_size=32))
    assert to_record(config).keys() - result_record(config).keys() == {"runtime", "name"}


def test_class_summary() -> None:
    """The number and up to three names."""
    assert class_summary(["a", "b", "c"]) == "3 classes (a, b, c)"
    assert class_summary(["a", "b", "c", "d"]) == "4 classes (a, b, c, ...)"


def test_environment_record() -> None:
    """Versions, machine, device and commit, fit for JSON."""
    environment = environment_record("CPU", 2)
    assert torch.__version__.startswith(environment["packages"]["torch"])
    assert (environment["device"], environment["processes"]) == ("CPU", 2)
    assert environment.keys() >= {"python", "machine", "processor", "commit"}
    assert json.loads(json.dumps(environment)) == environment


def test_the_commit_is_none_outside_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A copy without .git, or a machine without git, is no reason to stop."""
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment_record("CPU", 1)["commit"] is None
    monkeypatch.setenv("PATH", "")
    assert environment_record("CPU", 1)["commit"] is None
