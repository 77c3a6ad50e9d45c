"""The page in a real browser, Chromium without a window: what is tried, watched and looked at."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason='the page is not installed: pip install -e ".[serve]"')
pytest.importorskip("playwright", reason="needs playwright: pip install playwright")
from playwright.sync_api import sync_playwright

from public.apps.predict import load
from public.apps.serve import application
from public.apps.serve_data import DataSet
from public.apps.serve_predict import Limits, Networks, named_networks
from public.apps.serve_runs import Runs
from public.config.classification import ClassificationConfig
from public.datasets.check import parsed_config
from tests.apps.networks import save_classifier, save_detector, write_pictures
from tests.apps.test_serve import running
from tests.apps.test_serve_runs import ROWS, write_run
from tests.datasets.written import coco_content, write_coco

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests."""
    with sync_playwright() as program:
        opened = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty tab, in which every error of the page fails the test."""
    errors: list[str] = []
    opened = browser.new_page(viewport={"width": 420, "height": 800})
    opened.set_default_timeout(20_000)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield opened
    opened.close()
    assert errors == []


DROP = """async () => {
  const canvas = new OffscreenCanvas(64, 48);
  canvas.getContext("2d").fillRect(0, 0, 9, 9);
  const blob = await canvas.convertToBlob();
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([blob], "dropped.png", { type: "image/png" }));
  const drop = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
  document.querySelector("header").dispatchEvent(drop);
}"""
"""A picture of 64 x 48 pixels falls on the page, beside the area that asks for it."""
LONG = "joined_words_" * 8
"""A name that is wider than the screen."""


def is_narrow(page: Any) -> bool:
    """Whether nothing makes the page wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth") <= 420


def test_pictures_are_tried(page: Any, tmp_path: Path) -> None:
    """Two networks side by side: boxes and bars, the threshold moved without a request, classes off, keyboard alone."""
    weights = [
        save_detector(tmp_path / f"{LONG}.pth", score_threshold=0.0742),
        save_classifier(tmp_path / "classifier.pth"),
    ]
    pictures = write_pictures(tmp_path / "pictures")[:2]
    predictors = [(str(path), load(path, device="cpu")) for path in weights]
    found = load(weights[0], device="cpu", score_threshold=0.0)(pictures)
    limits = Limits(megabytes=1, pixels=10**6, seconds=60)
    networks = Networks(named_networks(predictors), limits)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "predict" in request.url else None)
    with running(application(networks.endpoints(), ["127.0.0.1"])) as address:
        page.goto(address)
        page.set_input_files("#files", pictures)
        page.wait_for_selector("figcaption p.number >> nth=3")
        counts = page.locator("figcaption", has_text="objects").all_inner_texts()
        expected = [int((result.scores >= 0.0742).sum()) for result in reversed(found)]  # the newest is on top
        assert [int(text.split()[1]) for text in counts] == expected
        assert page.locator(".bar").count() == 2 * 3
        assert page.locator("#threshold").input_value() == "0.07", "the network's own"
        assert len(asked) == 4

        page.focus("#threshold")
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        page.wait_for_selector("figcaption:has-text('20 objects') >> nth=1")
        assert page.evaluate("document.activeElement.id") == "threshold"
        page.locator(".chip").first.press("Enter")
        assert page.locator(".chip").first.get_attribute("aria-pressed") == "false"
        assert "20 objects" not in page.locator("main").inner_text()
        page.get_by_label("classifier").uncheck()
        assert page.locator("canvas").count() == 2
        page.get_by_label("Remove 1.png").click()
        assert page.locator("article").count() == 1
        assert len(asked) == 4, "all of this without another request"

        page.evaluate(DROP)
        page.wait_for_selector("article:has-text('dropped.png') p:has-text('64 \u00d7 48')")
        assert len(asked) == 5
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"no picture")
        page.set_input_files("#files", broken)
        page.wait_for_selector("text=broken.jpg cannot be read as an image")
        assert not page.locator("article:has-text('broken.jpg') canvas").is_visible()
        assert is_narrow(page)


def test_runs_are_watched(page: Any, tmp_path: Path, config: ClassificationConfig) -> None:
    """Sorted, chosen, compared; what a run writes meanwhile appears by itself."""
    rows = [{"epoch": 9, "top1": 0.9}]
    first = write_run(tmp_path / "first", config, ROWS)
    write_run(tmp_path / "second", replace(config, seed=7), rows)
    endpoints = Runs([tmp_path]).endpoints() + Networks([], Limits(1, 1, 1)).endpoints()
    with running(application(endpoints, ["127.0.0.1"])) as address:
        page.goto(f"{address}/#runs")
        page.wait_for_selector("tbody tr >> nth=1")
        page.get_by_role("button", name="top1").click()
        assert page.locator("tbody a").all_inner_texts() == ["second", "first"], "the best first"
        for number in (0, 1):
            page.locator("tbody input").nth(number).check()
        page.wait_for_selector("td:has-text('seed')")
        assert page.locator("figcaption").first.inner_text() == "top1"
        page.wait_for_selector("a:text-is('Report') >> nth=1")
        metrics = first / "metrics.jsonl"
        metrics.write_text(metrics.read_text() + '{"epoch": 11, "top1": 0.95}\n')
        page.wait_for_selector("td:has-text('0.95')")
        assert is_narrow(page)


def test_data_is_looked_at(page: Any, tmp_path: Path) -> None:
    """Read by a process of its own; boxes, classes, findings."""
    categories = [{"id": 90, "name": LONG}, {"id": 3, "name": "dog"}]
    write_coco(tmp_path, coco_content([(7, 3, 1, 2, 30, 20), (2, 3, 9, 9, 0, 0)], categories=categories))
    write_coco(tmp_path, coco_content([(7, 90, 1, 2, 30, 20)], categories=categories), "val2017")
    data = DataSet(parsed_config(None, ["--data.folder", str(tmp_path), "--runtime.num-workers", "0"]))
    endpoints = data.endpoints() + Networks([], Limits(1, 1, 1)).endpoints()
    with running(application(endpoints, ["127.0.0.1"])) as address:
        page.goto(f"{address}/#data")
        page.set_default_timeout(60_000)
        page.wait_for_selector("#images canvas >> nth=1")
        page.wait_for_selector("text=boxes without area")
        page.wait_for_selector("text=Statistics")
        assert page.locator("#place").inner_text() == "1\u20132 of 2"
        page.select_option("#label", "0")
        page.wait_for_selector("#place:has-text('1\u20131 of 1')")
        page.select_option("#split", index=1)
        page.wait_for_selector("#images figure:has-text('a.jpg')")
        assert is_narrow(page)
        page.goto(f"{address}/api")  # whose commands are long words
        assert is_narrow(page)
    data.close()
