"""COMING_FROM.md: every command and option of its right-hand columns is understood by the program that it is for."""

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import tyro
from torch.distributed.launch import parse_args as parse_launch
from torch.distributed.run import parse_args as parse_torchrun

from public.config.command_line import parse_config
from public.config.detection import DetectionConfig
from public.config.experiment import Experiment, load_configs
from public.recipes.classification import ClassificationTask
from public.recipes.detection import DetectionTask
from public.test_scripts import classification, detection, request
from public.test_scripts.detect_single_image import DetectOptions
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_imagenet import IMAGENET
from public.test_scripts.test_on_voc import VOC
from public.weights.trained import Trained
from tests.recipes.runs import ONE_PROCESS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "COMING_FROM.md").read_text(encoding="utf-8")
LAUNCHERS = {"python -m torch.distributed.launch ": parse_launch, "torchrun ": parse_torchrun}
TEST_SCRIPTS = {"imagenet": (classification, IMAGENET), "coco": (detection, COCO), "voc": (detection, VOC)}
"""By the end of the module's name: what its `main` is, and what it is given."""


class Command(NamedTuple):
    """One of the page."""

    folder: str
    """Where it is typed, below the repository."""
    text: str


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
    text = re.sub(r"^([A-Z_]+=\S+ )+", "", command.text)
    for launcher, parse in LAUNCHERS.items():
        if text.startswith(launcher):
            args = parse(shlex.split(text.removeprefix(launcher)))
            text = shlex.join(["python", args.training_script, *args.training_script_args])
    words = shlex.split(text)
    if words[:2] == ["python", "train.py"]:
        configs = load_configs(ROOT / command.folder)
        task = DetectionTask if isinstance(next(iter(configs.values())), DetectionConfig) else ClassificationTask
        parse_config(configs, words[2:], task.kinds)
    elif words[0] == "./test.sh":
        kind = re.search(r"test_on_(\w+)", (ROOT / command.folder / "test.sh").read_text())
        assert kind is not None
        parse_test(kind[1], [str(ROOT / command.folder), *words[1:]], monkeypatch)
    elif "test_on_" in text:
        parse_test(words[2].rpartition("test_on_")[2], [*words[3:], "--weights", "FILE"], monkeypatch)
    elif "detect_single_image" in text:
        tyro.cli(DetectOptions, args=[word for word in words if word not in ("python", "-m")][1:])
    else:
        assert words[:2] == ["python", "-m"], text
        parse_module(words[2], words[3:])


def parse_test(kind: str, args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test script does, up to the point where it evaluates.

    A file that the page names is one of theirs, weights alone; a row's own best.pth is a checkpoint of ours.
    """
    script, data = TEST_SCRIPTS[kind]
    ran: list[object] = []

    def opened(weights: str, experiment: Experiment | None) -> Trained | None:
        path = Path(weights)
        if not path.is_absolute():
            return None
        row = next(row for row in load_configs(path.parents[3]).values() if row.name == path.parents[1].name)
        return Trained(path, row, ["thing"], None, None, {})

    monkeypatch.setattr(request, "open_ours", opened)
    monkeypatch.setattr(request, "join_process_group", lambda device: contextlib.nullcontext(ONE_PROCESS))
    monkeypatch.setattr(script, "run", lambda *given: ran.append(given))
    script.main(data, args)
    assert len(ran) == 1


def parse_module(name: str, args: list[str]) -> None:
    """The module's help knows every option."""
    command = [sys.executable, "-m", name, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert [option for option in args if option.startswith("--") and option not in done.stdout] == []
