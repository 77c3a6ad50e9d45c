"""README.md and docs/: built strictly, no dead link, every command parsed by its program; what is marked is run."""

import importlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.apps.networks import save_detector, write_pictures
from tests.commands import ROOT, Command, commands_of, parse
from tests.datasets.written import coco_content, write_coco
from tests.detectors.reference import HARD, batch_of

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
NAMES = [path.name for path in PAGES]


class Block(NamedTuple):
    """A fenced block of a page."""

    is_run: bool
    """Whether it is marked: <!-- run --> stands before it."""
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All of a page's."""
    pattern = r"^(<!-- run -->\n)?```(\w*)\n(.*?)^```$"
    found = re.findall(pattern, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [Block(bool(mark), language, text) for mark, language, text in found]


RUN = [block for page in PAGES for block in blocks(page) if block.is_run]


def table_commands(page: Path) -> Iterator[Command]:
    """`python train.py ...` in tables: in the folder of the row, of the heading, or of both together."""
    folder = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            folder = "".join(re.findall(r"`(\w+_experiments/\w*)`", line))
        elif line.startswith("| ") and folder:
            inside = re.findall(r"\| `(\w+)` \|", line) if folder.endswith("/") else [""]
            yield from (Command(folder + inside[0], text) for text in re.findall(r"`(python train\.py[^`]*)`", line))


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 180


def test_the_site_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strictly: every page is in the navigation, and no link between pages, and to no heading, is dead."""
    config = pytest.importorskip("properdocs.config")
    build = pytest.importorskip("properdocs.commands.build")
    build.build(config.load_config(str(ROOT / "properdocs.yml"), strict=True, site_dir=str(tmp_path / "site")))
    built = {path.parent.name for path in (tmp_path / "site").glob("*/index.html")}
    assert built == {path.stem for path in DOCS} - {"index"}


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_no_link_is_dead(page: Path) -> None:
    """Of the pages that the site does not hold: to files, pictures and headings."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            name, _, heading = link.partition("#")
            assert (page.parent / name).exists(), link
            assert not heading or heading in headings(page.parent / name), link


def headings(page: Path) -> set[str]:
    """As links name them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_says_what_it_is(page: Path) -> None:
    """bash is parsed, python is compiled, text is neither; commands are in one of the first two."""
    for block in blocks(page):
        assert block.language in ("bash", "python", "text"), block
        if block.language == "python":
            compile(block.text, page.name, "exec")
    assert "\n    python " not in page.read_text(encoding="utf-8"), "a block of commands that is not fenced"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_commands_parse(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its blocks, and of the tables of results; docs/coming_from.md has a test of its own."""
    commands = [one for block in blocks(page) if block.language == "bash" for one in commands_of(block.text)]
    if page.name == "results.md":
        commands += table_commands(page)
    for command in dict.fromkeys(commands):
        with monkeypatch.context() as patch:
            try:
                parse(command, patch)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{page.name}: `{command.text}` in {command.folder or 'the repository'}: {error!r}")


def test_enough_commands_are_found() -> None:
    """And in which folders, so that a new spelling does not hide them."""
    found = [
        one for page in PAGES for block in blocks(page) if block.language == "bash" for one in commands_of(block.text)
    ]
    assert len(found) >= 95
    assert len(list(table_commands(ROOT / "docs" / "results.md"))) >= 85


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, in which lies what the pages speak of: a checkpoint, photos, data of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    save_detector(tmp_path / "best.pth")
    for name, picture in zip(("cat.jpg", "street.jpg"), write_pictures(tmp_path / "photos"), strict=False):
        (tmp_path / name).write_bytes(picture.read_bytes())
    for folder in ("raccoons", "FOLDER"):
        for split in ("train2017", "val2017"):
            write_coco(tmp_path / folder, coco_content([(7, 3, 1, 2, 20, 20), (7, 90, 4, 4, 9, 9)]), split)
    (tmp_path / "predictions.json").write_text("[]")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.text.splitlines()[0])
def test_what_is_marked_runs(block: Block, desk: Path) -> None:
    """Commands in this process, by the `main` of their module, to exit code 0."""
    if block.language == "python":
        exec(block.text, {"images": torch.zeros(2, 3, 96, 96), "batch": batch_of(HARD["1 pixel"], (96, 96))})
        return
    for command in commands_of(block.text):
        python, option, name, *args = shlex.split(command.text)
        assert (python, option) == ("python", "-m")
        try:
            code = importlib.import_module(name).main([os.path.expanduser(arg) for arg in args])
        except SystemExit as ended:
            code = ended.code
        assert code in (None, 0)


def test_enough_is_run() -> None:
    assert len(RUN) >= 6
