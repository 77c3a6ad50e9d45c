"""The statistics of a data set as one HTML file with its pictures inside: it needs no network and no other file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from public.config.names import printable
from public.datasets.checking import FoundImage, SplitFacts, SplitReport
from public.datasets.decoding import DECODING_ERRORS, decode_annotated
from public.datasets.drawing import FONT, draw_boxes, encoded, in_rows, name_in_plot, new_figure, png_of
from public.runtime.page import Section, page, picture, table, text

COLORS = ("#3566a8", "#e08a2c", "#4f9d69", "#9a4f96")
"""Of the splits."""
MOST_CLASSES = 40
"""Bars in the plot of classes; the table has all."""
MOST_LINES = 500
"""Problems that the page lists."""
TILE, CAPTION = 280, 20
"""Height and width of an image in the grid, and height of what is written above it, pixels."""
NUM_TILES = 12
NUM_COLUMNS = 4


def statistics_page(title: str, reports: Sequence[SplitReport]) -> str:
    """The content of the file.

    Args:
        title: of the data set.
        reports: of its splits, and of them together; those without facts have their problems listed alone.
    """
    splits = [report.facts for report in reports if report.facts is not None and report.facts.found]
    of_boxes = [facts for facts in splits if facts.boxes is not None and len(facts.labels)]
    sections = [Section("Splits", [_table_of_splits(reports)])]
    if splits:
        sections.append(
            Section("Classes", [picture(_classes(splits), "objects of each class"), _table_of_classes(splits)])
        )
        sections.append(Section("Image sizes", [picture(_sizes(splits), "heights over widths")]))
    if of_boxes:
        sections.append(Section("Boxes", [picture(_boxes(of_boxes), "sizes, shapes and numbers of boxes")]))
    sections += [Section(f"Images of {facts.name}", [picture(_grid(facts), "a few images")]) for facts in splits]
    return page(title, [*sections, Section("Problems", [_list_of_problems(reports)])])


# ---- tables ----------------------------------------------------------------------------------------------------------


def _table_of_splits(reports: Sequence[SplitReport]) -> str:
    rows = [
        (report.title, report.content, len(report.problems) - num_warnings, num_warnings)
        for report in reports
        for num_warnings in [sum(not problem.is_refused for problem in report.problems)]
    ]
    return table(("split", "content", "errors", "warnings"), rows)


def _counts(facts: SplitFacts) -> np.ndarray:
    """int64 [C], objects of each class."""
    return np.bincount(facts.labels, minlength=len(facts.class_names))


def _images_with(facts: SplitFacts) -> np.ndarray:
    """int64 [C], images with an object of each class."""
    num_classes = len(facts.class_names)
    pairs = np.unique(facts.object_images * num_classes + facts.labels)
    return np.bincount(pairs % num_classes, minlength=num_classes)


def _class_names(splits: Sequence[SplitFacts]) -> list[str]:
    """Of all splits, in the order of the first."""
    return list(dict.fromkeys(name for facts in splits for name in facts.class_names))


def _by_name(facts: SplitFacts, values: np.ndarray, names: Sequence[str]) -> list[int]:
    """Values of a split's own classes in the order of names; 0 for a class that it lacks."""
    own = dict(zip(facts.class_names, values.tolist(), strict=True))
    return [own.get(name, 0) for name in names]


def _table_of_classes(splits: Sequence[SplitFacts]) -> str:
    names = _class_names(splits)
    columns: list[Sequence[Any]] = [names]
    header = ["class"]
    for facts in splits:
        if facts.boxes is not None:
            header.append(f"{facts.name}: objects")
            columns.append(_by_name(facts, _counts(facts), names))
        header.append(f"{facts.name}: images")
        columns.append(_by_name(facts, _images_with(facts), names))
    return table(header, zip(*columns, strict=True))


def _list_of_problems(reports: Sequence[SplitReport]) -> str:
    """Errors first, as many as a page can show."""
    problems = [problem for report in reports for problem in report.problems]
    if not problems:
        return text("Nothing is wrong.")
    problems.sort(key=lambda problem: (not problem.is_refused, problem.kind, problem.path))
    rows = [(str(one.kind), "error" if one.is_refused else "warning", str(one)) for one in problems[:MOST_LINES]]
    more = [(f"and {len(problems) - MOST_LINES} more", "", "")] if len(problems) > MOST_LINES else []
    return table(("kind", "", "what"), rows + more)


# ---- plots -----------------------------------------------------------------------------------------------------------


def _classes(splits: Sequence[SplitFacts]) -> bytes:
    """Objects of each class in each split; of very many the most frequent and the rarest."""
    names = _class_names(splits)
    counts = np.array([_by_name(facts, _counts(facts), names) for facts in splits])  # [S, C]
    order = np.argsort(-counts.sum(axis=0), kind="stable")
    half = MOST_CLASSES // 2
    is_cut = len(order) > MOST_CLASSES
    shown = np.concatenate([order[:half], order[-half:]]) if is_cut else order
    figure = new_figure(10, 1.2 + 0.24 * len(shown) * max(1, 0.6 * len(splits)))
    axes = figure.add_subplot()
    thickness = 0.8 / len(splits)
    for row, facts in enumerate(splits):
        places = np.arange(len(shown)) + (row - (len(splits) - 1) / 2) * thickness
        bars = axes.barh(places, counts[row, shown], thickness, color=COLORS[row % len(COLORS)], label=facts.name)
        axes.bar_label(bars, padding=2, fontsize=7)
    axes.set_yticks(np.arange(len(shown)), [name_in_plot(names[label]) for label in shown.tolist()], fontsize=8)
    axes.invert_yaxis()
    present = counts[counts > 0]
    if present.size and present.max() > 50 * present.min():
        axes.set_xscale("log")
    what = "images" if splits[0].boxes is None else "objects"
    cut = f", the {half} most frequent and the {half} rarest of {len(order)}" if is_cut else ""
    axes.set(title=f"{what} of each class{cut}", xlabel=what)
    axes.margins(x=0.1)
    axes.legend(loc="lower right")
    axes.grid(axis="x", alpha=0.3)
    return png_of(figure)


def _boxes(splits: Sequence[SplitFacts]) -> bytes:
    """Sizes of boxes in pixels and in relation to their image, their shapes, and how many an image has."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(10, 6.4)
    in_pixels, in_images, shapes, numbers = figure.subplots(2, 2).ravel()
    for row, facts in enumerate(splits):
        assert facts.boxes is not None
        look: dict[str, Any] = {"color": COLORS[row % len(COLORS)], "label": facts.name, "histtype": "step"}
        sides = np.maximum(facts.boxes[:, 2:] - facts.boxes[:, :2], 0.5)  # [T, 2]
        lengths = np.sqrt(sides.prod(axis=1))
        image_sizes = np.array([one.size for one in facts.found])[facts.object_images]  # [T, 2]
        known = image_sizes.all(axis=1)
        shares = lengths[known] / np.sqrt(image_sizes[known].prod(axis=1))
        in_pixels.hist(lengths, bins=np.geomspace(1, max(64.0, float(lengths.max())), 40), **look)
        in_images.hist(shares.clip(0, 1), bins=np.linspace(0, 1, 41), **look)
        shapes.hist(np.log2(sides[:, 0] / sides[:, 1]).clip(-4, 4), bins=np.linspace(-4, 4, 41), **look)
        per_image = np.bincount(facts.object_images, minlength=len(facts.found))
        numbers.hist(per_image.clip(max=100), bins=np.arange(min(100, per_image.max()) + 2) - 0.5, **look)
    for border in (32, 96):
        in_pixels.axvline(border, color="0.6", linewidth=0.8)
    in_pixels.set(xscale="log", xlabel="square root of the area, pixels (lines: COCO's small | medium | large)")
    in_pixels.set_ylabel("boxes")
    in_images.set(xlabel="square root of (area / area of the image)", ylabel="boxes")
    ticks = np.arange(-4, 5, 2)
    shapes.set_xticks(ticks, [f"{2**tick}" if tick >= 0 else f"1/{2**-tick}" for tick in ticks.tolist()])
    shapes.set(xlabel="width / height", ylabel="boxes")
    numbers.set(xlabel="objects of an image (100: or more)", ylabel="images")
    numbers.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (in_pixels, in_images, shapes, numbers):
        axes.grid(alpha=0.3)
    in_images.legend()
    return png_of(figure)


def _sizes(splits: Sequence[SplitFacts]) -> bytes:
    """A dot for each size of an image, as large as it is frequent."""
    figure = new_figure(10, 4.2)
    axes = figure.add_subplot()
    for row, facts in enumerate(splits):
        sizes = np.array([one.size for one in facts.found if all(one.size)]).reshape(-1, 2)
        different, counts = np.unique(sizes, axis=0, return_counts=True)  # [S, 2], [S]
        label = f"{facts.name}: {len(sizes)} images, {len(different)} sizes"
        area = 12 + 300 * counts / max(1, len(sizes))
        axes.scatter(different[:, 1], different[:, 0], s=area, alpha=0.5, color=COLORS[row % len(COLORS)], label=label)
    axes.set(xlabel="width, pixels", ylabel="height, pixels", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    return png_of(figure)


# ---- images ----------------------------------------------------------------------------------------------------------


def _grid(facts: SplitFacts) -> bytes:
    """Images spread evenly over the split, with their boxes or under the names of their classes, as a JPEG file."""
    usable = [row for row, one in enumerate(facts.found) if all(one.size)]
    places = np.linspace(0, len(usable) - 1, min(NUM_TILES, len(usable))).round().astype(int)
    tiles = [_tile(facts, usable[place]) for place in places.tolist()]
    whole = in_rows(tiles, NUM_COLUMNS) if tiles else np.full((TILE + CAPTION, TILE, 3), 255, np.uint8)
    return encoded(".jpg", whole, jpeg_quality=88)


def _tile(facts: SplitFacts, row: int) -> np.ndarray:
    """One image under a caption, uint8 [TILE + CAPTION, TILE, 3]."""
    one, of_image = facts.found[row], np.flatnonzero(facts.object_images == row)
    labels, image = facts.labels[of_image], _shrunk(one)
    caption = f"{len(of_image)}: " if facts.boxes is not None else "".join(facts.class_names[i] + ": " for i in labels)
    if facts.boxes is not None:
        height, width = one.size
        factors = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        image = draw_boxes(image, facts.boxes[of_image] * factors, labels, None, facts.class_names)
    tile = np.full((TILE + CAPTION, TILE, 3), 255, np.uint8)
    left = (TILE - image.shape[1]) // 2
    tile[CAPTION : CAPTION + image.shape[0], left : left + image.shape[1]] = image
    words = printable(caption + one.path.rpartition("/")[2])  # OpenCV ends the process on letters that are none
    cv2.putText(tile, words[:38], (4, CAPTION - 6), FONT, 0.38, (40, 40, 40), 1, cv2.LINE_AA)
    return tile


def _shrunk(one: FoundImage) -> np.ndarray:
    """uint8 [h, w, 3] that fits a tile; gray where the image lies in a packed file, or is gone."""
    try:
        pixels = decode_annotated(Path(one.path), one.size)
    except DECODING_ERRORS:
        pixels = np.full((*one.size, 3), 190, np.uint8)
    scale = (TILE - 6) / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
