"""A data set for the page: its images with their boxes or classes, and what its check finds.

Everything is that of `python -m public.datasets.check`, which reads every image. It runs in a process of its own, so
that the networks go on answering, and begins when somebody looks.
"""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from starlette.responses import HTMLResponse, Response

from public.apps.serve_api import STYLED, Endpoint, Parameter, whole
from public.config.names import nearest_names
from public.datasets.check import Config, check_all, treatment
from public.datasets.checking import SplitFacts, SplitReport
from public.datasets.decoding import DECODING_ERRORS, Reading, decode_annotated
from public.datasets.drawing import encoded
from public.datasets.locations import dataset_folder
from public.datasets.scan import Kind, Problem
from public.datasets.statistics_page import statistics_page

PER_PAGE = 24
"""Images."""
LARGEST = 640
"""Side of an image as it is sent, pixels."""
EXAMPLES = 5
"""Sentences of each kind of finding."""


class DataSet:
    """The data of a config, or none.

    Args:
        config: of which the data is shown; None: there is none.
    """

    def __init__(self, config: Config | None) -> None:
        self.config = config
        self._reports: list[SplitReport] = []
        self._state, self._lock = "none" if config is None else "new", threading.Lock()
        self._process: Any = None

    def start(self) -> None:
        """Begins to read, unless that was done."""
        with self._lock:
            if self._state != "new":
                return
            self._state = "reading"
            context = multiprocessing.get_context("spawn")  # a fork would take over locks of threads that run networks
            receiver, sender = context.Pipe(duplex=False)
            self._process = context.Process(target=_send_reports, args=(self.config, sender), name="check")
            self._process.start()
            sender.close()
            threading.Thread(target=self.receive, args=(receiver,), daemon=True).start()

    def receive(self, receiver: Any) -> None:
        """Takes the reports of the other process from its pipe as they come, until it says that all are sent."""
        state = "failed"
        try:
            while (report := receiver.recv()) is not None:
                self._reports.append(report)
            state = "read"
        except EOFError:
            pass  # it ended, and its traceback is on the console
        self._state = state

    def close(self) -> None:
        """Ends the other process."""
        if self._process is not None:
            self._process.terminate()

    # ---- what is asked for ----

    def about(self) -> dict[str, Any]:
        """How far it is, its splits and findings."""
        self.start()
        state, reports = self._state, list(self._reports)
        return {
            "folder": None if self.config is None else str(self._folder),
            "state": state,
            "splits": [_described(one) for one in self._splits()],
            "reports": [{"title": one.title, "content": one.content} for one in reports],
            "findings": findings([problem for report in reports for problem in report.problems]),
        }

    def images(self, split: str | None, label: int | None, page: int) -> dict[str, Any]:
        """A page of a split's images."""
        facts = self._facts(split)
        rows = np.arange(len(facts.found)) if label is None else np.unique(facts.object_images[facts.labels == label])
        chosen = rows[page * PER_PAGE : (page + 1) * PER_PAGE].tolist()
        return {"total": len(rows), "per_page": PER_PAGE, "images": [_image(facts, row) for row in chosen]}

    def image(self, split: str | None, row: int) -> Response:
        """One image as a JPEG file, as large as the page needs it and turned as training turns it."""
        facts = self._facts(split)
        found = facts.found[row] if row < len(facts.found) else None
        if found is None or not Path(os.path.normpath(found.path)).is_relative_to(os.path.normpath(self._folder)):
            raise FileNotFoundError(f"{facts.name} has no image {row} in {self._folder}.")
        if not os.path.isfile(found.path):
            raise FileNotFoundError(f"{found.path} is not there, or lies in a packed file.")
        assert self.config is not None
        data = self.config.data
        reading = Reading(getattr(data, "orientation", "annotated"), data.max_pixels)
        try:
            pixels = decode_annotated(Path(found.path), found.size, reading)
        except DECODING_ERRORS as error:
            raise ValueError(f"{found.path}: {error}") from error
        scale = min(1.0, LARGEST / max(pixels.shape[:2]))
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return Response(encoded(".jpg", pixels, jpeg_quality=88), media_type="image/jpeg")

    def statistics(self) -> Response:
        """The page that the check writes."""
        if self._state != "read":
            raise FileNotFoundError("the data is not read yet.")
        content = statistics_page(str(self._folder), self._reports)
        return HTMLResponse(content, headers={"Content-Security-Policy": f"{STYLED}; sandbox"})

    @property
    def _folder(self) -> Path:
        assert self.config is not None
        return dataset_folder(self.config.data.folder)

    def _splits(self) -> list[SplitFacts]:
        return [report.facts for report in list(self._reports) if report.facts is not None]

    def _facts(self, split: str | None) -> SplitFacts:
        splits = {facts.name: facts for facts in self._splits()}
        if split not in splits:
            hint = f"; {nearest_names(str(split), splits)}" if splits else ""
            raise FileNotFoundError(f"no split {split!r} was read{hint}.")
        return splits[split]

    def endpoints(self) -> list[Endpoint]:
        """Of the tab Data."""
        split = Parameter("split", "its name, see /api/data")
        return [
            Endpoint(
                method="GET",
                path="/api/data",
                says="The data set of --data.folder; the first time its check begins.",
                example="ADDRESS/api/data",
                answer=ABOUT,
                handle=self.about,
            ),
            Endpoint(
                method="GET",
                path="/api/data/images",
                says="A page of a split's images.",
                example="'ADDRESS/api/data/images?split=train&page=2'",
                parameters=(
                    split,
                    Parameter("label", "of a class: its images alone", whole("label")),
                    Parameter("page", "from 0 on", whole("page"), 0),
                ),
                answer=IMAGES,
                handle=self.images,
            ),
            Endpoint(
                method="GET",
                path="/api/data/image",
                says=f"An image as JPEG, its longer side at most {LARGEST} pixels.",
                example="'ADDRESS/api/data/image?split=train&row=7'",
                parameters=(split, Parameter("row", "of the image", whole("row"), 0)),
                answer={},
                handle=self.image,
            ),
            Endpoint(
                method="GET",
                path="/api/data/statistics",
                says="The page that the check of the data writes: sizes, classes, boxes, problems.",
                example="ADDRESS/api/data/statistics",
                answer={},
                handle=self.statistics,
            ),
        ]


ABOUT = {
    "folder": "of the data; null where there is none",
    "state": "none, reading, read or failed",
    "splits": "a list of name, images, objects, has_boxes, and classes with name and objects",
    "reports": "a list of title and content, in words",
    "findings": "a list of kind, times, is_refused, treatment by training, and examples",
}
IMAGES = {
    "total": "how many images there are on all pages",
    "per_page": "on each",
    "images": "a list of row, name, height, width (0: unreadable) and objects, each with class, label and, where there "
    "are boxes, x1 y1 x2 y2 in pixels",
}


def _send_reports(config: Config, sender: Any) -> None:
    """What the other process does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.set_start_method(None, force=True)  # workers that read images start as they do in the check
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; the server's end is its own
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    for report in check_all(config):
        sender.send(report)
    sender.send(None)


def _end_with(parent: Any) -> None:
    """Ends this process when the server is gone, however that ended."""
    parent.join()
    os._exit(1)


def _described(facts: SplitFacts) -> dict[str, Any]:
    counts = np.bincount(facts.labels, minlength=len(facts.class_names)).tolist()
    return {
        "name": facts.name,
        "images": len(facts.found),
        "objects": len(facts.labels),
        "has_boxes": facts.boxes is not None,
        "classes": [{"name": name, "objects": count} for name, count in zip(facts.class_names, counts, strict=True)],
    }


def _image(facts: SplitFacts, row: int) -> dict[str, Any]:
    of_image = np.flatnonzero(facts.object_images == row)
    labels = facts.labels[of_image].tolist()
    objects: list[dict[str, Any]] = [{"class": facts.class_names[label], "label": label} for label in labels]
    if facts.boxes is not None:
        boxes = facts.boxes[of_image].tolist()
        objects = [
            one | dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) for one, box in zip(objects, boxes, strict=True)
        ]
    height, width = facts.found[row].size
    return {"row": row, "name": Path(facts.found[row].path).name, "height": height, "width": width, "objects": objects}


def findings(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Problems by their kind, those that training refuses first."""
    times: Counter[Kind] = Counter()
    for problem in problems:
        times[problem.kind] += problem.times
    return [
        {
            "kind": str(kind),
            "times": times[kind],
            "is_refused": of_kind[0].is_refused,
            "treatment": f"training {treatment(kind)}",
            "examples": [str(one) for one in of_kind[:EXAMPLES]],
        }
        for kind in sorted(times, key=lambda kind: (treatment(kind) != "refuses", kind))
        for of_kind in [[one for one in problems if one.kind == kind]]
    ]
