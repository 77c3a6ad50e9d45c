"""Detection data sets of a few images, written by hand in COCO's, VOC's and YOLO's format."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COCO_CATEGORIES = [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}]
"""Neither sorted nor without gaps: label 0 is the dog."""


def write_image(path: Path, width: int = 40, height: int = 30) -> None:
    """A noise picture, another for each name and folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([*"/".join(path.parts[-2:]).encode()]).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    Image.fromarray(pixels).save(path)


def coco_content(boxes: Sequence[Sequence[float]] = (), **changes: Any) -> dict[str, Any]:
    """Images 7 (a.jpg, 40 x 30) and 2 (b.jpg, 20 x 10); each box is (image, category, x, y, w, h[, iscrowd])."""
    annotations = [
        {"id": n, "image_id": box[0], "category_id": box[1], "bbox": list(box[2:6]), "iscrowd": int(sum(box[6:]))}
        for n, box in enumerate(boxes)
    ]
    images = [
        {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30},
        {"id": 2, "file_name": "b.jpg", "width": 20, "height": 10},
    ]
    return {"images": images, "annotations": annotations, "categories": COCO_CATEGORIES} | changes


def write_coco(root: Path, content: Any, split: str = "train2017") -> Path:
    """The annotation file of a split (text as it is, all else as JSON) and both images; gives the file's path."""
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    write_image(root / "images" / split / "a.jpg", 40, 30)
    write_image(root / "images" / split / "b.jpg", 20, 10)
    return path


def voc_object(name: str, xmin: float, ymin: float, xmax: float, ymax: float, difficult: str | None = None) -> str:
    """One <object>."""
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    corners = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{flag}<bndbox>{corners}</bndbox></object>"


def write_voc(root: Path, images: dict[str, str], split: str = "Own/train", width: int = 40, height: int = 30) -> Path:
    """Annotations and images of names to their <object>s, and the split's list; gives the folder of annotations."""
    subfolder, name = split.split("/")
    annotations, lists = root / subfolder / "Annotations", root / subfolder / "ImageSets" / "Main"
    for folder in (annotations, lists):
        folder.mkdir(parents=True, exist_ok=True)
    (lists / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in images))
    for stem, objects in images.items():
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (annotations / f"{stem}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        write_image(root / subfolder / "JPEGImages" / f"{stem}.jpg", width, height)
    return annotations


def write_yolo(root: Path, images: dict[str, str | None], split: str = "train") -> Path:
    """images/<split> and labels/<split> of names to their lines (None: no file); gives the folder of labels."""
    labels = root / "labels" / split
    labels.mkdir(parents=True, exist_ok=True)
    for stem, lines in images.items():
        write_image(root / "images" / split / f"{stem}.jpg")
        if lines is not None:
            (labels / f"{stem}.txt").write_text(lines)
    return labels
