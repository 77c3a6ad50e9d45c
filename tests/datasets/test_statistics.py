"""What all files together show, and the page of statistics."""

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from public.datasets import statistics_page as pages
from public.datasets.checking import FoundImage, SplitFacts, SplitReport
from public.datasets.drawing import class_color, draw_boxes
from public.datasets.scan import Kind, Problem
from public.datasets.statistics import rare_classes, repeated_images, unread_images
from public.datasets.statistics_page import statistics_page


def facts_of(
    name: str,
    digests: Sequence[bytes],
    labels: Sequence[int] = (),
    class_names: Sequence[str] = ("dog", "cat"),
    boxes: np.ndarray | None = None,
) -> SplitFacts:
    """A split of images that are not there, with an object on each of the first."""
    return SplitFacts(
        name=name,
        found=[FoundImage(f"{name}/{row}.jpg", None, digest, (30, 40)) for row, digest in enumerate(digests)],
        class_names=list(class_names),
        labels=np.array(labels, dtype=np.int64),
        object_images=np.arange(len(labels)),
        boxes=boxes,
    )


def test_the_same_image_twice() -> None:
    """Within a split, and in both; what could not be read (no digest) is equal to nothing."""
    splits = [facts_of("train", [b"a", b"b", b"a", b"", b""]), facts_of("val", [b"c", b"b", b"c", b""])]
    assert repeated_images(splits) == [
        Problem(Kind.REPEATED_IMAGE, "train/2.jpg", "the same image is train/0.jpg, of train"),
        Problem(Kind.LEAKED_IMAGE, "val/1.jpg", "the same image is train/1.jpg, of train"),
        Problem(Kind.REPEATED_IMAGE, "val/2.jpg", "the same image is val/0.jpg, of val"),
    ]


def test_rare_classes() -> None:
    """One of 101 is named, one of 100 is not; nor is a class that is not there at all (that is another problem)."""
    names = ("dog", "cat", "fox")
    (problem,) = rare_classes(facts_of("train", [b""] * 102, [0] * 101 + [1], names))
    assert (problem.kind, problem.path) == (Kind.RARE_CLASS, "train")
    assert problem.text.startswith("class 'cat' has 1 images, and 'dog' has 101; --data.balance")
    assert rare_classes(facts_of("train", [b""] * 101, [0] * 100 + [1], names)) == []
    assert rare_classes(facts_of("train", [b""])) == []


def test_files_that_nobody_reads(tmp_path: Path) -> None:
    """Named by their folder: of a kind that is not read, or in no split; also without an extension. Texts and what is
    hidden are no images."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    folder = tmp_path / "more"
    folder.mkdir()
    for name in ("b.PNG", "c.png", "d.heic", "e.txt", ".f.png"):
        (folder / name).touch()
    (folder / "g").write_bytes((tmp_path / "a.png").read_bytes())
    (folder / "h").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "i.png").touch()
    looks = "files look like images and are"
    assert unread_images(tmp_path, {f"{tmp_path}/a.png", f"{tmp_path}/./more/c.png"}) == [
        Problem(Kind.UNREAD_IMAGE, str(folder), f"1 {looks} in no split that is read: b.PNG"),
        Problem(Kind.UNREAD_IMAGE, str(folder), f"2 {looks} of a kind that is not read: d.heic, g"),
    ]


def pictures_of(page: str) -> list[np.ndarray]:
    """Those that the page holds, decoded."""
    encoded = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', page)
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR_RGB) for one in encoded]
    return [np.asarray(one) for one in decoded]


@pytest.fixture
def boxes_on_red(tmp_path: Path) -> SplitFacts:
    """Three red images of 40 x 30, a dog on two of them."""
    for number in range(3):
        Image.new("RGB", (40, 30), "red").save(tmp_path / f"{number}.png")
    return SplitFacts(
        name="train",
        found=[FoundImage(str(tmp_path / f"{number}.png"), None, b"x", (30, 40)) for number in range(3)],
        class_names=["dog", "<b>cat$"],
        labels=np.array([0, 0, 0]),
        object_images=np.array([0, 0, 2]),
        boxes=np.array([[0, 0, 10, 10], [5, 5, 20, 30], [1, 1, 2, 39]], dtype=np.float32),
    )


@pytest.mark.slow
def test_the_page_of_boxes(boxes_on_red: SplitFacts) -> None:
    """Four pictures in one file that refers to no other; the numbers of each class; names are text, not markup."""
    problems = [Problem(Kind.NO_AREA, "a.xml", "a box"), Problem(Kind.MISSING_IMAGE, "b.jpg", "missing")]
    page = statistics_page("a & b", [SplitReport("train", "3 images", problems, boxes_on_red)])
    assert "http" not in page
    assert "<b>" not in page
    assert '<tr><td class="words">dog</td><td>3</td><td>2</td></tr>' in page
    assert '<tr><td class="words">&lt;b&gt;cat$</td><td>0</td><td>0</td></tr>' in page
    assert '<tr><td class="words">train</td><td class="words">3 images</td><td>1</td><td>1</td></tr>' in page
    assert page.index("b.jpg: missing") < page.index("a.xml: a box"), "errors first"
    classes, sizes, boxes, grid = pictures_of(page)
    assert all(picture.shape[1] > 900 and (picture < 100).any() for picture in (classes, sizes, boxes))
    assert grid.shape == (pages.TILE + pages.CAPTION, pages.NUM_COLUMNS * pages.TILE, 3)
    red = np.all(np.abs(grid[pages.CAPTION :].astype(int) - (255, 0, 0)) < 40, axis=2)
    assert red[:, : pages.TILE].mean() > 0.4, "the first image"
    assert red[:, 3 * pages.TILE :].sum() == 0, "there is no fourth"
    assert (np.abs(grid[:, : pages.TILE].astype(int) - class_color(0)) < 40).all(axis=2).any(), "its boxes"


def test_what_is_written_on_pictures_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of files may be bytes of another encoding, which no letters stand for."""
    written: list[str] = []
    monkeypatch.setattr(cv2, "putText", lambda _, words, *others: written.append(words))
    facts = facts_of("train", [b"a"], [0])
    name = os.fsdecode(b"\xe9.png")
    pages._tile(replace(facts, found=[facts.found[0]._replace(path=f"data/{name}")]), 0)
    assert written == ["dog: \\udce9.png"]
    draw_boxes(np.zeros((50, 90, 3), np.uint8), np.array([[5.0, 20, 40, 40]]), np.array([0]), None, [name])
    assert written[1] == "\\udce9.png"


@pytest.mark.slow
def test_the_page_of_classes_and_of_nothing() -> None:
    """Without boxes there are three pictures; of images that are gone the grid is gray. A split that cannot be read has
    its problems alone."""
    whole = [facts_of("train", [b"a"] * 3, [0, 1, 1]), facts_of("val", [b"b"] * 2, [1, 1], ("cat", "fox"))]
    page = statistics_page("x", [SplitReport(facts.name, "", [], facts) for facts in whole])
    assert len(pictures_of(page)) == 4
    assert '<tr><td class="words">cat</td><td>2</td><td>0</td></tr>' in page
    assert '<tr><td class="words">fox</td><td>0</td><td>2</td></tr>' in page
    assert "Nothing is wrong." in page
    page = statistics_page("x", [SplitReport("train", "cannot be read", [Problem(Kind.UNUSABLE_SPLIT, "p", "q")])])
    assert pictures_of(page) == []
    assert "p: q" in page


@pytest.mark.slow
def test_many_classes_are_cut_in_the_plot_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most frequent and the rarest; the table has all."""
    monkeypatch.setattr(pages, "MOST_CLASSES", 6)
    names = [f"class {label}" for label in range(30)]
    labels = [label for label in range(30) for _ in range(label)]
    facts = facts_of("train", [b""] * len(labels), labels, names)
    page = statistics_page("x", [SplitReport("train", "", [], facts)])
    assert all(f">{name}</td>" in page for name in names)
    assert pictures_of(page)[0].shape[0] < 400
