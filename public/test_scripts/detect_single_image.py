"""Draws what a trained detector finds: one image, a folder of images or a glob in, drawn images and a JSON file out.

    ./detect_single_image.sh                                            the newest checkpoint, an image of its data set
    ./detect_single_image.sh --weights best.pth --images street.jpg --output detected
    python -m public.test_scripts.detect_single_image --weights best.pth --images 'photos/*.jpg'

From Python:

    detect = load_detector("best.pth")
    found = detect("street.jpg")            # boxes, scores, labels, names

A checkpoint of ours knows its network, canvas and classes. No display is needed.
"""

import glob
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from public.config.command_line import fail
from public.config.names import first_line
from public.datasets.batches import DataError
from public.datasets.decoding import EXTENSIONS, is_image_file, read_pixels
from public.datasets.drawing import draw_boxes
from public.datasets.locations import REPOSITORY
from public.datasets.splits import val_images
from public.detectors.trained import TrainedDetector, load_detector
from public.evaluation.pictures import write_image
from public.runtime.launch import raised_by_us
from public.runtime.run_folder import replace_text
from public.test_scripts.output import make_folder, writing_to
from public.weights.trained import open_trained


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Draws what a trained detector finds in images."""

    weights: str | None = None
    """A checkpoint of one of our detection runs; None: the newest best.pth below detection_experiments/."""
    images: str | None = None
    """An image, a folder of images, or a glob in quotes; None: the first validation images of the checkpoint's data."""
    output: str = "detected"
    """Folder for the drawn images (<name>.jpg) and detections.json; made if missing."""
    experiment: str | None = None
    """The folder of the experiment whose own transforms a checkpoint uses."""
    score_threshold: float = 0.3
    """0..1: weaker detections are neither drawn nor written."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """auto: what training takes."""


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line, detects and writes; None takes the program's arguments."""
    options = tyro.cli(DetectOptions, args=list(sys.argv[1:] if argv is None else argv))
    try:
        run(options)
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))


def run(options: DetectOptions) -> list[dict[str, Any]]:
    """Draws every image and writes detections.json; gives what is in that file.

    Raises:
        FileNotFoundError: there are no weights or no images.
        ValueError: the weights are no detector's, an option is out of range, not one image could be read, or the
            results cannot be written.
    """
    weights = newest_checkpoint() if options.weights is None else Path(options.weights)
    detect = load_detector(weights, device=options.device, precision=options.precision, experiment=options.experiment)
    paths = images_of_run(weights, options.experiment) if options.images is None else find_images(options.images)
    folder = Path(options.output)
    drawn = drawn_files(paths, folder)
    make_folder(folder)
    rows: list[dict[str, Any]] = []
    for path, target in zip(paths, drawn, strict=True):
        try:
            rows.append(detect_file(detect, path, target, options.score_threshold))
        except OSError as error:
            print(f"skipped: {first_line(error)}", file=sys.stderr)
    if not rows:
        raise ValueError(f"not one of {len(paths)} files could be read as an image; the first is {paths[0]}.")
    with writing_to(folder):
        replace_text(folder / "detections.json", json.dumps(rows, indent=1) + "\n")
    print(f"{len(rows)} drawn images and detections.json are in {folder.resolve()} (weights {weights})")
    return rows


def detect_file(detect: TrainedDetector, path: Path, target: Path, score_threshold: float) -> dict[str, Any]:
    """Detects in one file, writes the drawn image, and gives the detections as plain values.

    Raises:
        OSError: the file cannot be read as an image.
        ValueError: the drawn image cannot be written, or the threshold is no score.
    """
    pixels = read_pixels(path)
    found = detect(pixels, score_threshold)
    with writing_to(target.parent):
        write_image(target, draw_boxes(pixels, found.boxes, found.labels, found.scores, detect.class_names))
    detections = [
        {"class": name, "score": round(float(score), 4), "box": [round(float(x), 2) for x in box]}
        for name, score, box in zip(found.names, found.scores, found.boxes, strict=True)
    ]
    summary = ", ".join(f"{name} {score:.2f}" for name, score in zip(found.names, found.scores, strict=True))
    print(f"{path}: {summary or 'nothing'}")
    height, width, _ = pixels.shape
    return {"image": str(path), "drawn": target.name, "height": height, "width": width, "detections": detections}


def drawn_files(images: Sequence[Path], folder: Path) -> list[Path]:
    """Where each drawn image goes: <name>.jpg in the folder, <name>_2.jpg and so on where several have one name.

    Raises:
        ValueError: a drawn image would replace one of the images.
    """
    names: dict[str, None] = {}  # in their order
    for path in images:
        candidates = itertools.chain([path.stem], (f"{path.stem}_{number}" for number in itertools.count(2)))
        names[next(name for name in candidates if name not in names)] = None
    targets = [folder / f"{name}.jpg" for name in names]
    replaced = {path.resolve() for path in images}.intersection(target.resolve() for target in targets)
    if replaced:
        raise ValueError(f"output={str(folder)!r} would replace the image {min(replaced)}: give another folder.")
    return targets


def find_images(pattern: str) -> list[Path]:
    """The image files that a path, a folder or a glob means, sorted.

    Raises:
        FileNotFoundError: there are none.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    candidates = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
    found = sorted(p for p in candidates if is_image_file(p))
    if not found:
        raise FileNotFoundError(
            f"no image at {pattern!r}; expected an image file, a folder of them ({', '.join(EXTENSIONS)}), or a glob."
        )
    return found


def newest_checkpoint() -> Path:
    """The best.pth that was written last below detection_experiments/.

    Raises:
        FileNotFoundError: there is none.
    """
    found = list((REPOSITORY / "detection_experiments").glob("*/runs/*/checkpoints/best.pth"))
    if not found:
        raise FileNotFoundError(
            "no detector has been trained below detection_experiments/ yet: train one (./quickstart.sh does), or give "
            "--weights FILE."
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def images_of_run(weights: Path, experiment: str | None = None, num_images: int = 4) -> list[Path]:
    """The first validation images, by name, of the data set that a detector's checkpoint was trained on.

    Raises:
        FileNotFoundError: they are not there.
    """
    data = open_trained(weights, experiment).config.data
    try:
        found = val_images(data)[:num_images]
        if not found:
            raise FileNotFoundError(f"not one image of {', '.join(data.val_splits)} is in {data.folder}")
        return found
    except (FileNotFoundError, DataError) as error:
        raise FileNotFoundError(
            f"the validation images of the checkpoint's data are not there: {first_line(error)}. Give --images FILE, "
            "FOLDER or GLOB."
        ) from error


if __name__ == "__main__":
    main()
