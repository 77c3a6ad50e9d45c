"""Draws the pictures of README.md and docs/, from what `./quickstart.sh` has trained.

    ./quickstart.sh && python docs/pictures.py

detections.jpg and flow.svg always; those of the report and of the page, at two widths, where Chromium is installed
(`apt-get install chromium`).
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from public.apps.predict import load
from public.apps.predict_results import Detected
from public.datasets.decoding import read_pixels
from public.datasets.drawing import draw_boxes, encoded, in_rows

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "docs" / "pictures"
RUN = ROOT / "detection_experiments/resnet18_fcos_sample_train_example/runs/darknet_tiny_fcos"
WEIGHTS = RUN / "checkpoints" / "best.pth"
IMAGES = ROOT / "data/sample/COCO2017/images/val2017"
WIDTHS = (1280, 420)
"""Of a browser's window, pixels: a desk's and a phone's."""

WAY = (
    ("files", "public/datasets\nread, checked by one table"),
    ("Batch", "public/datasets, transforms\ndraws of (seed, epoch, image)"),
    ("outputs", "public/detectors\nraw tensors, all levels"),
    ("targets", "public/detectors\nonce a step, [B, ...]"),
    ("losses", "public/losses\nnamed scalars"),
    ("step", "public/recipes, optim\naverage, log, checkpoint"),
)
"""From a file to a step of training: what is handed on, and who makes it."""
WAY_BACK = (
    ("outputs", "the same forward pass"),
    ("candidates", "public/detectors\ntop scores, padded [B, N]"),
    ("Detections", "class-wise suppression\nin the original image"),
    ("AP", "public/evaluation\nCOCO's and VOC's rules"),
)
"""From a forward pass to a number."""


def main() -> None:
    """Writes all of them."""
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / "detections.jpg").write_bytes(detections())
    flow().savefig(OUTPUT / "flow.svg", metadata={"Date": None})
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no Chromium: the pictures of the report and of the page stay as they are")
        return
    photograph(chromium, f"file://{RUN}/test/report.html", "report")
    with served() as address:
        photograph(chromium, address, "page")


def detections(columns: int = 4, rows: int = 2, side: int = 320) -> bytes:
    """The first validation pictures in which the detector finds two objects or more, as JPEG.

    It shows them at the threshold of its best F1.
    """
    paths = sorted(IMAGES.glob("*.jpg"))
    predictor = load(WEIGHTS)
    tiles = []
    for path, result in zip(paths, predictor(paths), strict=True):
        assert isinstance(result, Detected)
        if len(result.boxes) < 2 or len(tiles) == columns * rows:
            continue
        pixels = read_pixels(path)
        scale = side / max(pixels.shape[:2])
        large = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        drawn = draw_boxes(large, scale * result.boxes, result.labels, result.scores, predictor.class_names)
        tile = np.full((side, side, 3), 255, np.uint8)
        tile[: drawn.shape[0], : drawn.shape[1]] = drawn
        tiles.append(tile)
    return encoded(".jpg", in_rows(tiles, columns), jpeg_quality=85)


def flow() -> Figure:
    """The data's way: from file to loss above, from logits to AP below."""
    rcParams["svg.fonttype"], rcParams["svg.hashsalt"] = "none", "flow"
    figure = Figure(figsize=(11, 3.4))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 11), ylim=(0, 3.4))
    axes.axis("off")
    for y, color, way, first in ((2.2, "#dbe9f6", WAY, 0), (0.5, "#e4f1dd", WAY_BACK, 2)):
        for place, (name, maker) in enumerate(way, start=first):
            x = 0.1 + 1.83 * place
            axes.add_patch(
                FancyBboxPatch((x, y), 1.45, 0.5, boxstyle="round,pad=0.05", facecolor=color, edgecolor="#456")
            )
            axes.text(x + 0.725, y + 0.25, name, ha="center", va="center", fontsize=13)
            axes.text(x + 0.725, y - 0.14, maker, ha="center", va="top", fontsize=7.5, color="#333")
            if place > first:
                axes.annotate("", (x - 0.06, y + 0.25), (x - 0.32, y + 0.25), arrowprops={"arrowstyle": "->"})
    x = 0.1 + 1.83 * 2 + 0.725
    axes.annotate("", (x, 1.08), (x, 1.62), arrowprops={"arrowstyle": "->"})
    axes.text(0.1, 3.15, "training: from file to loss", fontsize=10, weight="bold")
    axes.text(0.1, 0.75, "evaluation:\nfrom logits to AP", fontsize=10, weight="bold", va="center")
    return figure


@contextmanager
def served() -> Iterator[str]:
    """The address of the page, while it is served."""
    command = [sys.executable, "-m", "public.apps.serve", "--weights", str(WEIGHTS), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            yield next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()  # else leaving the block waits for its end


def photograph(chromium: str, address: str, name: str) -> None:
    """A page as a browser shows it, at each width: the report from its curves on, the page with pictures tried."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(address)
            if name == "page":
                page.set_input_files("input[type=file]", sorted(IMAGES.glob("*.jpg"))[1:4])
                page.wait_for_timeout(4000)
            else:
                page.get_by_role("link", name="Threshold").click()
            page.screenshot(path=OUTPUT / f"{name}_{width}.jpg", type="jpeg", quality=70)
        browser.close()


if __name__ == "__main__":
    main()
