"""Commands that a page names: each is parsed by the program that it is for, in the folder in which it is typed."""

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import dropwhile, groupby
from pathlib import Path
from typing import Any, NamedTuple

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
LAUNCHERS = {("python", "-m", "torch.distributed.launch"): parse_launch, ("torchrun",): parse_torchrun}
TEST_SCRIPTS = {"imagenet": (classification, IMAGENET), "coco": (detection, COCO), "voc": (detection, VOC)}
"""By the end of the module's name: what its `main` is, and what it is given."""
OTHERS = ("pip", "source", "curl", "sbatch")
"""Programs that are not ours, whose commands nothing parses."""


class Command(NamedTuple):
    """One of a page."""

    folder: str
    """Where it is typed, below the repository."""
    text: str


def commands_of(block: str) -> Iterator[Command]:
    """The commands of a shell block, which begins in the repository's folder, without comments and variables.

    `cd` holds for the rest of the block, in brackets for its line.
    """
    folder = ""
    for line in block.splitlines():
        tokens = shlex.shlex(line, posix=True, punctuation_chars=True)
        tokens.whitespace_split = True
        here = folder
        for is_mark, words in groupby(tokens, key=lambda word: word in ("(", ")", "&&")):
            command = [] if is_mark else _without_variables(list(words))
            if command[:1] == ["cd"]:
                here = str(Path(here, command[1]))
                assert (ROOT / here).is_dir(), f"{line}: no such folder"
            elif command:
                yield Command(here, shlex.join(command))
        folder = folder if line.startswith("(") else here


def _without_variables(words: list[str]) -> list[str]:
    """A command without what is set before it: DATA_ROOT=data python ..."""
    return list(dropwhile(lambda word: re.fullmatch(r"[A-Z_]+=.*", word), words))


def parse(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed as its program does it, with all of the config's own checks; an error ends in an exception."""
    words = _without_variables(shlex.split(command.text))
    for launcher, parse_launcher in LAUNCHERS.items():
        if tuple(words[: len(launcher)]) == launcher:
            args = parse_launcher(words[len(launcher) :])
            words = ["python", args.training_script, *args.training_script_args]
    if words[:2] == ["python", "train.py"]:
        configs = _configs(command.folder)
        if len(words) == 3 and words[2] in configs:  # a row as it stands, which was checked when it was made
            return
        task = DetectionTask if isinstance(next(iter(configs.values())), DetectionConfig) else ClassificationTask
        with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
            parse_config(configs, words[2:], task.kinds)
    elif words[0] == "./test.sh":
        kind = re.search(r"test_on_(\w+)", (ROOT / command.folder / "test.sh").read_text())
        assert kind is not None
        _parse_test(kind[1].replace("cifar100", "imagenet"), [str(ROOT / command.folder), *words[1:]], monkeypatch)
    elif "test_on_" in command.text:
        _parse_test(words[2].rpartition("test_on_")[2], [*words[3:], "--weights", "FILE"], monkeypatch)
    elif "detect_single_image" in command.text:
        tyro.cli(DetectOptions, args=[word for word in words if word not in ("python", "-m")][1:])
    elif words[:2] == ["python", "-m"]:
        _parse_module(words[2], words[3:])
    elif words[0].startswith("./"):
        assert (ROOT / command.folder / words[0]).is_file(), command.text
    else:
        assert words[0] in OTHERS, command.text


@cache
def _configs(folder: str) -> Mapping[str, Any]:
    """The rows of an experiment."""
    return load_configs(ROOT / folder)


def _parse_test(kind: str, args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
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


def _parse_module(name: str, args: list[str]) -> None:
    """The module is there, and its help knows every option."""
    assert (ROOT / name.replace(".", "/")).with_suffix(".py").is_file() or not name.startswith(("public", "bench")), (
        name
    )
    options = [word for word in args if word.startswith("--")]
    assert [option for option in options if option not in _help(name)] == []


@cache
def _help(name: str) -> str:
    """What the module prints of itself."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        importlib.import_module(name).main(["--help"])
    return text.getvalue()
