"""The stored runs themselves: whole, the same each time, and of a size that may lie in a repository."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.exact_resume import differing_parts
from tests.old_runs import make


def test_every_row_of_the_old_commit_has_a_record() -> None:
    """39 folders, 137 rows, each under its own name."""
    records = make.old_records()
    folders = Counter(key.rpartition("/")[0] for key in records)
    assert (len(folders), len(records)) == (39, 137)
    assert [key for key, record in records.items() if record["name"] != key.rpartition("/")[2]] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", make.OLD_RUNS)
def test_a_stored_checkpoint_is_whole_and_drawn_alike_each_time(name: str, tmp_path: Path) -> None:
    """The old format, one epoch and one step done, finite weights; its file is read without pickled code."""
    path = make.write_old_run(name, tmp_path / "run")
    checkpoint = torch.load(path, weights_only=True)
    assert (checkpoint["format"], checkpoint["epoch"], checkpoint["step"]) == ("public.checkpoint/1", 1, 1)
    assert checkpoint["name"] == f"old_{name}"
    assert differing_parts(checkpoint, make.old_checkpoint(name)) == []
    assert all(tensor.isfinite().all() for tensor in checkpoint["model"].values())


def test_the_files_are_small() -> None:
    """All of them together."""
    assert sum(path.stat().st_size for path in make.HERE.iterdir() if path.is_file()) < 600_000
