"""A few of the mutations of `detection_labels.py`: the script tries hundreds."""

from pathlib import Path

import pytest

from tests.fuzz.detection_labels import FORMATS, fuzz


@pytest.mark.parametrize("name", FORMATS)
def test_each_is_read_or_refused(tmp_path: Path, name: str) -> None:
    """Both happen, and nothing else."""
    found = fuzz(name, tmp_path, range(25))
    assert found["read"] > 0
    assert found["refused"] > 0
