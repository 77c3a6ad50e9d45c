"""What predictions are written as: one class a kind, and the table of them."""

import csv
import io
import itertools
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from public.apps.predict_model import DetectionPredictor, Predictor
from public.apps.predict_results import Detected, Result
from public.apps.predict_sources import Clip, Frame, Sources
from public.config.checks import require
from public.datasets.coco import coco_rows
from public.datasets.drawing import draw_boxes, draw_classes
from public.datasets.predictions import Predictions
from public.datasets.results import IMAGES_FILE, names_text
from public.evaluation.pictures import write_image
from public.runtime.run_folder import replace_text


class Names:
    """Names of files that do not replace each other: a, a_2, a_3 and so on where several pictures are called a.

    Args:
        stems: of the pictures that are known to come: a picture that is called a_2 has that name.
    """

    def __init__(self, stems: Iterable[str] = ()) -> None:
        self.taken: set[str] = set()
        self.stems = frozenset(stems)

    def take(self, stem: str) -> str:
        """The name for the next picture of that stem."""
        numbered = (f"{stem}_{number}" for number in itertools.count(2))
        candidates = itertools.chain([stem], (name for name in numbered if name not in self.stems))
        name = next(name for name in candidates if name not in self.taken)
        self.taken.add(name)
        return name


def drawn_files(images: Sequence[Path], folder: Path) -> list[Path]:
    """Where each drawn image goes: <name>.jpg in the folder, <name>_2.jpg and so on where several have one name.

    Raises:
        ValueError: a drawn image would replace one of the images.
    """
    names = Names(path.stem for path in images)
    targets = [folder / f"{names.take(path.stem)}.jpg" for path in images]
    replaced = {path.resolve() for path in images}.intersection(target.resolve() for target in targets)
    if replaced:
        raise ValueError(f"output={str(folder)!r} would replace the image {min(replaced)}: give another folder.")
    return targets


class Output(ABC):
    """One kind of files.

    Args:
        folder: of all outputs; there already.
        predictor: whose results are written.
        kept: files that must not be replaced.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification", "detection")
    """Whose results it can hold."""

    def __init__(self, folder: Path, predictor: Predictor, kept: Iterable[Path] = ()) -> None:
        self.folder, self.predictor = folder, predictor
        self.kept = {path.resolve() for path in kept}

    @abstractmethod
    def add(self, frame: Frame, name: str, pixels: np.ndarray, result: Result) -> None:
        """Takes one picture, uint8 [H, W, 3], its name for files and what was found. Raises OSError."""

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Writes what needs all pictures, or ends what is open. Raises OSError."""

    def target(self, *parts: str) -> Path:
        """A path in the folder, whose own folder is there.

        Raises:
            ValueError: one of the pictures that are predicted lies there.
        """
        path = self.folder.joinpath(*parts)
        if path.resolve() in self.kept:
            raise ValueError(f"output={str(self.folder)!r} would replace the image {path}: give another folder.")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Pictures(Output):
    """Every picture with what was found drawn on it, as <name>.jpg; of a video one <name>.mp4."""

    def __init__(self, folder: Path, predictor: Predictor, kept: Iterable[Path] = ()) -> None:
        super().__init__(folder, predictor, kept)
        self.clip: Clip | None = None
        self.video: Any = None
        self.names = Names()

    def add(self, frame: Frame, name: str, pixels: np.ndarray, result: Result) -> None:
        """Draws."""
        drawn = self.drawn(pixels, result)
        if frame.clip is None:
            write_image(self.target(f"{name}.jpg"), drawn)
            return
        if frame.clip is not self.clip:
            self.close()
            self.clip, self.video = frame.clip, self._opened(frame.clip, drawn)
        self.video.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))

    def drawn(self, pixels: np.ndarray, result: Result) -> np.ndarray:
        """The picture with the result on it."""
        if isinstance(result, Detected):
            return draw_boxes(pixels, result.boxes, result.labels, result.scores, self.predictor.class_names)
        return draw_classes(pixels, result.labels, result.scores, result.names)

    def _opened(self, clip: Clip, drawn: np.ndarray) -> "cv2.VideoWriter":
        path = self.target(f"{self.names.take(clip.stem)}.mp4")
        code = cv2.VideoWriter.fourcc(*"mp4v")
        video = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, clip.rate, (drawn.shape[1], drawn.shape[0]))
        if not video.isOpened():
            raise OSError(f"the video {path} cannot be written")
        return video

    def close(self) -> None:
        """Ends the video."""
        if self.video is not None:
            self.video.release()
        self.clip = self.video = None


class Crops(Output):
    """Every object as a picture of its own, crops/<class>/<name>_<number>.jpg, the surest with number 1."""

    tasks = ("detection",)

    def add(self, frame: Frame, name: str, pixels: np.ndarray, result: Result) -> None:
        """Cuts out all pixels that a box touches."""
        assert isinstance(result, Detected)
        limits = np.array([result.width, result.height] * 2)
        first, last = np.floor(result.boxes[:, :2]), np.ceil(result.boxes[:, 2:])
        corners = np.concatenate([first, np.maximum(last, first + 1)], axis=1).clip(0, limits).astype(int).tolist()
        for number, (class_name, (x1, y1, x2, y2)) in enumerate(zip(result.names, corners, strict=True), 1):
            if x1 < x2 and y1 < y2:
                path = self.target("crops", file_name(class_name), f"{name}_{number}.jpg")
                write_image(path, np.ascontiguousarray(pixels[y1:y2, x1:x2]))


class ClassFolders(Output):
    """A copy of every picture in the folder of its likeliest class, classes/<class>/."""

    tasks = ("classification",)

    def add(self, frame: Frame, name: str, pixels: np.ndarray, result: Result) -> None:
        """Copies the file as it is; what was no file is written as JPEG."""
        folder = file_name(result.names[0])
        if frame.path is None:
            write_image(self.target("classes", folder, f"{name}.jpg"), pixels)
        else:
            shutil.copy(frame.path, self.target("classes", folder, f"{name}{frame.path.suffix}"))


class Collected(Output):
    """What is written in the end, whole or not at all."""

    def __init__(self, folder: Path, predictor: Predictor, kept: Iterable[Path] = ()) -> None:
        super().__init__(folder, predictor, kept)
        self.results: list[Result] = []
        self.stems: list[str] = []

    def add(self, frame: Frame, name: str, pixels: np.ndarray, result: Result) -> None:
        """Keeps the result."""
        self.results.append(result)
        self.stems.append(frame.stem)


class Json(Collected):
    """predictions.json: for each picture its name, size and predictions, in unrounded numbers."""

    def close(self) -> None:
        """Writes."""
        rows = [result.to_dict() for result in self.results]
        replace_text(self.target("predictions.json"), json.dumps(rows, indent=1) + "\n")


class Csv(Collected):
    """predictions.csv: a line for each object or class, with a header."""

    def close(self) -> None:
        """Writes."""
        box = ("x1", "y1", "x2", "y2") if self.predictor.task == "detection" else ()
        text = io.StringIO()
        writer: csv.DictWriter[str] = csv.DictWriter(
            text, ("image", "class", "label", "score", *box), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows({"image": result.source} | row for result in self.results for row in result.rows())
        replace_text(self.target("predictions.csv"), text.getvalue())


class Coco(Collected):
    """coco_results.json, as COCO's tools take it, and coco_images.json: the numbers of images and categories in it.

    An image has the number that its name is, as COCO's own have, where all names are different numbers of at most 15
    digits, which all readers of JSON keep; else they are counted from 1. `evaluate --results` goes by the names of
    both. Categories have the numbers of the data set that the detector was trained on.
    """

    tasks = ("detection",)

    def close(self) -> None:
        """Writes both."""
        assert isinstance(self.predictor, DetectionPredictor)
        numbers = [int(stem) for stem in self.stems if stem.isdecimal() and len(stem) <= 15]
        ids = numbers if len(set(numbers)) == len(self.stems) else list(range(1, len(self.stems) + 1))
        counts = [len(result) for result in self.results]
        columns = [[getattr(one, name) for one in self.results] for name in ("boxes", "scores", "labels")]
        boxes, scores, labels = (np.concatenate(parts) if parts else np.zeros((0, 4)) for parts in columns)
        predictions = Predictions(np.repeat(np.array(ids, np.int64), counts), boxes, scores, labels.astype(np.int64))
        category_ids = self.predictor.network.category_ids
        file = self.target("coco_results.json")
        replace_text(file, json.dumps(coco_rows(predictions, category_ids)) + "\n")
        images = [
            (number, result.source, result.height, result.width)
            for number, result in zip(ids, self.results, strict=True)
        ]
        classes = zip(category_ids, self.predictor.class_names, strict=True)
        replace_text(self.target(IMAGES_FILE), names_text(file.name, images, classes))


class Yolo(Output):
    """labels/<name>.txt: a line "class x y width height score" for each object, center and size as shares of the
    picture's, classes counted from 0; names.txt has a class a line."""

    tasks = ("detection",)

    def add(self, frame: Frame, name: str, pixels: np.ndarray, result: Result) -> None:
        """Writes one file, an empty one for a picture without objects."""
        assert isinstance(result, Detected)
        x1, y1, x2, y2 = (result.boxes.astype(np.float64) / ([result.width, result.height] * 2)).T
        shares = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, result.scores], axis=1).tolist()
        lines = [
            f"{label} " + " ".join(f"{value:.6f}" for value in row) + "\n"
            for label, row in zip(result.labels.tolist(), shares, strict=True)
        ]
        replace_text(self.target("labels", f"{name}.txt"), "".join(lines))

    def close(self) -> None:
        """Writes the names."""
        replace_text(self.target("names.txt"), "".join(f"{name}\n" for name in self.predictor.class_names))


OUTPUTS: dict[str, type[Output]] = {
    "pictures": Pictures,
    "crops": Crops,
    "json": Json,
    "csv": Csv,
    "coco_results": Coco,
    "yolo_labels": Yolo,
    "classes": ClassFolders,
}
"""By the name that --save has for it."""


def open_outputs(kinds: Sequence[str], folder: Path, predictor: Predictor, sources: Sources) -> list[Output]:
    """The outputs that are asked for.

    Args:
        kinds: of the table.
        folder: for all of them.
        predictor: whose results they get.
        sources: the pictures and videos, which must not be replaced.

    Raises:
        ValueError: one is for the other task, or would replace one of the files.
    """
    for kind in kinds:
        tasks = OUTPUTS[kind].tasks
        require(
            predictor.task in tasks,
            f"save={kind} is for {' and '.join(tasks)}; the weights are of a network for {predictor.task}.",
        )
    if "pictures" in kinds:
        drawn_files(sources.pictures, folder)
    return [OUTPUTS[kind](folder, predictor, sources.pictures + sources.videos) for kind in dict.fromkeys(kinds)]


def file_name(class_name: str) -> str:
    """A class's name as the name of a folder."""
    name = "".join("_" if letter in '/\\:*?"<>|' or not letter.isprintable() else letter for letter in class_name)
    return name.strip(" .") or "_"
