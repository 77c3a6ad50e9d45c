"""docs/coming_from.md: every command and option of its right-hand columns is understood by its program."""

import re
from collections.abc import Iterator

import pytest

from tests.commands import ROOT, Command, parse

PAGE = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")


def commands() -> Iterator[Command]:
    """Whole commands as they stand; options with the program of their table before them."""
    folder = program = ""
    for line in PAGE.splitlines():
        heading = re.match(r"### .*?(?:to `(\./\w+\.sh)` )?in `([^`]+)`$", line)
        if heading:
            folder, program = heading[2], heading[1] or "python train.py"
        cells = line.split(" | ")
        if not (line.startswith("| ") and len(cells) == 2):
            continue
        for text, place in re.findall(r"`([^`]+)`(?: in `([^`]+)`)?", cells[1]):
            if text.startswith("--"):
                yield Command(folder, f"{program} {text}")
            elif re.search(r"train\.py|^\S*( ?\./\w+\.sh)|^python -m", text):
                yield Command(place or folder, text)


COMMANDS = list(dict.fromkeys(commands()))


def test_the_page_is_read() -> None:
    """Every row of its tables has two cells and, but for those that say so, something to type."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| theirs")]
    assert len(rows) >= 130
    assert all(len(row.split(" | ")) == 2 for row in rows)
    silent = [row for row in rows if "`" not in row.split(" | ")[1]]
    assert [row for row in silent if not re.search(r"\| (nothing|none)\b", row)] == []
    assert len(COMMANDS) >= 160


def test_the_folders_exist() -> None:
    """Those of the headings and those in the text."""
    named = set(re.findall(r"`((?:imagenet|cifar100|detection)_experiments/\w+)`", PAGE))
    assert len(named) >= 9
    assert [name for name in named if not (ROOT / name / "config.py").is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_a_command(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed as the program does it, with all of the config's own checks."""
    parse(command, monkeypatch)
