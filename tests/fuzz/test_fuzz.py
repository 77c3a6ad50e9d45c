"""A few of the mutations of each kind of file: `python -m tests.fuzz` tries hundreds."""

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.detection_labels import LABELS
from tests.fuzz.other_files import OTHERS
from tests.fuzz.subject import outcomes

COUNTS = dict.fromkeys(LABELS, 25) | dict.fromkeys(OTHERS, 12) | {"packed": 3, "safetensors": 40}
NEVER_READ = ("png", "checkpoint", "packed")
"""Every piece of a PNG has a checksum, all but some fill of a checkpoint; and few of so many packed files."""


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_each_is_read_or_refused(tmp_path: Path, name: str) -> None:
    """Both happen, and nothing else."""
    found = Counter(outcomes((LABELS | OTHERS)[name](tmp_path), range(COUNTS[name])))
    assert found["refused"] > 0
    assert found["read"] > 0 or name in NEVER_READ
