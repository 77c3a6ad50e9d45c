"""Draws what a trained detector finds: one image, a folder of images or a glob in, drawn images and a JSON file out.

    ./detect_single_image.sh                                       the newest checkpoint, four images of its data set
    ./detect_single_image.sh --weights best.pth --images street.jpg --output detected
    python -m public.test_scripts.detect_single_image --weights best.pth --images 'photos/*.jpg'

It is `public/apps/predict.py` with the options and the file that this command has had from the beginning. A checkpoint
of ours knows its network, canvas and classes. No display is needed. The exit code is 1 where an image was skipped.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from public.apps.predict import predictions
from public.apps.predict_engines import load
from public.apps.predict_outputs import Pictures, drawn_files
from public.apps.predict_results import Detected
from public.apps.predict_sources import file_frame, find_images
from public.config.command_line import fail
from public.config.detection import DetectionConfig
from public.config.names import first_line
from public.datasets.batches import DataError
from public.datasets.locations import REPOSITORY
from public.datasets.splits import val_images
from public.runtime.launch import raised_by_us
from public.runtime.output import make_folder, writing_to
from public.runtime.run_folder import replace_text
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
    score_threshold: float | None = None
    """0..1: weaker detections are neither drawn nor written; None: what the checkpoint states, else 0.3."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """auto: what training takes."""


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line, detects and writes; None takes the program's arguments."""
    options = tyro.cli(DetectOptions, args=list(sys.argv[1:] if argv is None else argv))
    try:
        _, skipped = detect(options)
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))
    if skipped:
        raise SystemExit(1)


def run(options: DetectOptions) -> list[dict[str, Any]]:
    """As `detect`; gives what is in detections.json."""
    return detect(options)[0]


def detect(options: DetectOptions) -> tuple[list[dict[str, Any]], int]:
    """Draws every image and writes detections.json; gives what is in that file, and how many images were skipped.

    Raises:
        FileNotFoundError: there are no weights or no images.
        ValueError: the weights are no detector's, an option is out of range, not one image could be read, or the
            results cannot be written.
    """
    weights = newest_checkpoint() if options.weights is None else Path(options.weights)
    _check_detector(weights, options.experiment)
    predictor = load(
        weights,
        experiment=options.experiment,
        device=options.device,
        precision=options.precision,
        score_threshold=options.score_threshold,
    )
    paths = images_of_run(weights, options.experiment) if options.images is None else find_images(options.images)
    folder = Path(options.output)
    drawn = {path: target.name for path, target in zip(paths, drawn_files(paths, folder), strict=True)}
    make_folder(folder)
    pictures, rows, skipped = Pictures(folder, predictor, paths), [], 0
    for frame, shot, result in predictions(predictor, map(file_frame, paths)):
        if isinstance(shot, Exception):
            skipped += 1
            print(f"skipped: {first_line(shot)}", file=sys.stderr)
            continue
        assert frame.path is not None
        with writing_to(folder):
            pictures.add(frame, Path(drawn[frame.path]).stem, shot.pixels, result)
        rows.append(_row(result, drawn[frame.path]))
        print(f"{frame.source}: {result}")
    if not rows:
        raise ValueError(f"not one of {len(paths)} files could be read as an image; the first is {paths[0]}.")
    with writing_to(folder):
        replace_text(folder / "detections.json", json.dumps(rows, indent=1) + "\n")
    print(f"{len(rows)} drawn images and detections.json are in {folder.resolve()} (weights {weights})")
    return rows, skipped


def _check_detector(weights: Path, experiment: str | None) -> None:
    """Raises FileNotFoundError or ValueError unless it is the checkpoint of a detector."""
    config = open_trained(weights, experiment).config
    if not isinstance(config, DetectionConfig):
        raise ValueError(f"{weights} is the checkpoint of a {config.network} classifier; expected a detector's.")


def _row(result: Detected, drawn: str) -> dict[str, Any]:
    """An image's detections as plain values, rounded for people."""
    detections = [
        {"class": name, "score": round(score, 4), "box": [round(x, 2) for x in box]}
        for name, score, box in zip(result.names, result.scores.tolist(), result.boxes.tolist(), strict=True)
    ]
    size = {"height": result.height, "width": result.width}
    return {"image": result.source, "drawn": drawn, **size, "detections": detections}


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
