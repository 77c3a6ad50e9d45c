"""An annotation file of COCO's size: from file to checked arrays, against pycocotools' index, time and memory.

    python -m benchmarks.coco_reading

The file is generated: 118,287 images, 860,001 objects with outlines, some 344 MB, as instances_train2017.json. Each
turn is a process of its own; its processor time, and its peak of memory, count from after its imports. Ours ends
with the arrays that training takes, checked and clipped, but for the look for the image files.
"""

import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal
from unittest import mock

import msgspec
import numpy as np
import torch
import tyro
from pycocotools.coco import COCO

from benchmarks.compare import alternate, append_result
from public.datasets import coco
from public.datasets.coco_file import read_entries
from public.datasets.sample_layouts import COCO_CATEGORY_IDS
from public.datasets.scan import clean, with_sizes

CLAIMED_SPEED, CLAIMED_MEMORY = 8.0, 1 / 3
CHUNK = 20_000
"""Objects that are generated at a time."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    rounds: int = 3
    """Counted rounds."""
    images: int = 118_287
    """Of the generated file."""
    objects: int = 860_001
    """Of the generated file."""
    way: Literal["both", "ours", "pycocotools"] = "both"
    """The others are one turn each, in the process that both start for it."""
    file: Path | None = None
    """An annotation file that is there; None: a generated one."""


def write_file(path: Path, num_images: int, num_objects: int) -> None:
    """Writes a file of COCO's instances format, in pieces: all at once would take gigabytes."""
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(5 * num_images, num_images, replace=False)) + 1
    images = [
        {"license": 3, "file_name": f"{number:012d}.jpg", "coco_url": f"http://images.example/{number:012d}.jpg"}
        | {"height": 480, "width": 640, "date_captured": "2013-11-14 11:18:45", "id": number}
        for number in ids.tolist()
    ]
    categories = [{"supercategory": "thing", "id": number, "name": f"class {number}"} for number in COCO_CATEGORY_IDS]
    with path.open("wb") as file:
        file.write(b'{"info":{"year":2017},"images":' + msgspec.json.encode(images))
        file.write(b',"categories":' + msgspec.json.encode(categories) + b',"annotations":[')
        for first in range(0, num_objects, CHUNK):
            objects = make_objects(rng, ids, range(first, min(first + CHUNK, num_objects)))
            file.write((b"," if first else b"") + msgspec.json.encode(objects)[1:-1])
        file.write(b"]}")


def make_objects(rng: np.random.Generator, image_ids: np.ndarray, numbers: range) -> list[dict[str, Any]]:
    """Objects with outlines of 6 to 66 numbers, two decimals each; one in a hundred is a crowd."""
    count = len(numbers)
    sides = rng.uniform(4, 300, (count, 2)).round(2)
    boxes = np.concatenate([(rng.random((count, 2)) * ((640, 480) - sides)).round(2), sides], axis=1)
    lengths = 2 * rng.integers(3, 34, count)
    outlines = np.split(rng.uniform(10, 640, lengths.sum()).round(2), np.cumsum(lengths)[:-1])
    columns = (
        [[outline.tolist()] for outline in outlines],
        (0.7 * sides.prod(axis=1)).tolist(),
        (np.array(numbers) % 100 == 0).astype(int).tolist(),
        rng.choice(image_ids, count).tolist(),
        boxes.tolist(),
        rng.choice(COCO_CATEGORY_IDS, count).tolist(),
        numbers,
    )
    keys = ("segmentation", "area", "iscrowd", "image_id", "bbox", "category_id", "id")
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def read_ours(file: Path) -> int:
    """The number of objects that training would have."""
    problems = []
    with mock.patch.object(coco, "find_missing", lambda folder, files: np.zeros(len(files), dtype=bool)):
        raw = coco.judge_entries(read_entries(file, problems), file, file.parent, problems)
    return clean(with_sizes(raw)).num_boxes


def read_pycocotools(file: Path) -> int:
    """The number of objects of its index."""
    with contextlib.redirect_stdout(io.StringIO()):
        return len(COCO(str(file)).anns)


def peak_memory() -> float:
    """Of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def take_turn(way: str, file: Path) -> None:
    """Reads the file in this process, and prints what it took."""
    read = {"ours": read_ours, "pycocotools": read_pycocotools}[way]
    before, start = peak_memory(), time.process_time()
    objects = read(file)
    seconds = time.process_time() - start
    print(json.dumps({"objects": objects, "seconds": seconds, "memory": peak_memory() - before}))


class Ways:
    """Both ways as processes of their own; each turn gives objects per second of one core, and notes its memory."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.memory: dict[str, list[float]] = {"ours": [], "pycocotools": []}
        self.objects: set[int] = set()

    def turn(self, way: str) -> float:
        """Starts a process for one turn."""
        command = [sys.executable, "-m", "benchmarks.coco_reading", "--way", way, "--file", str(self.file)]
        took = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        self.memory[way].append(took["memory"])
        self.objects.add(took["objects"])
        return took["objects"] / took["seconds"]


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl."""
    if options.way != "both":
        assert options.file is not None
        take_turn(options.way, options.file)
        return
    with tempfile.TemporaryDirectory() as temporary:
        file = options.file or Path(temporary) / "instances.json"
        if options.file is None:
            write_file(file, options.images, options.objects)
        ways = Ways(file)
        turns = {way: lambda way=way: ways.turn(way) for way in ways.memory}
        comparison = alternate(turns, options.rounds, "objects/s", is_warm=True)
        words = f"{next(iter(ways.objects))} objects, {file.stat().st_size / 1e6:.0f} MB"
    assert len(ways.objects) == 1, f"both must read the same number of objects, got {ways.objects}"
    memory = {way: median(values) for way, values in ways.memory.items()}
    share = memory["ours"] / memory["pycocotools"]
    print(f"coco_reading on CPU, {words}")
    print(comparison.table())
    print(f"memory: ours {memory['ours']:.0f} MB, pycocotools {memory['pycocotools']:.0f} MB: {share:.2f} of it")
    shown = "shown" if comparison.ratio >= CLAIMED_SPEED and share <= CLAIMED_MEMORY else "NOT shown"
    print(f"claimed: at least {CLAIMED_SPEED:.0f} times as fast in at most {CLAIMED_MEMORY:.2f} of it, {shown} here")
    claimed = {"claimed": CLAIMED_SPEED, "memory_mb": {way: round(value) for way, value in memory.items()}}
    append_result("coco_reading", comparison.record() | claimed, torch.device("cpu"), words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
