"""Label files of detection formats, mutated by number: each is read, or refused in one sentence (a DataError).

    python -m tests.fuzz.detection_labels [--count 500] [--first 0]

Prints a line for each format: how many were read, how many refused. Anything else that is raised ends it with the
format and the number of the mutation.
"""

import argparse
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from public.datasets.batches import DataError
from public.datasets.coco import read_coco
from public.datasets.scan import box_problems, clean, with_sizes
from public.datasets.voc import scan_voc
from public.datasets.yolo import scan_yolo
from tests.datasets.written import coco_content, voc_object, write_coco, write_voc, write_yolo

WORDS = (
    *(
        b"null",
        b"-1",
        b"1e400",
        b"NaN",
        b"99999999999999999999",
        b"0",
        b'""',
        b"[]",
        b"{}",
        b"true",
        b'"\\ud800"',
        b"\x00",
    ),
    *(b"<a>", b"</object>", b"&amp;", b"&x;", b"\xff\xfe", b"\n", b",", b":", b"../", b"'", b"- ", b"1_0", b"x" * 300),
)


def mutated(content: bytes, number: int) -> bytes:
    """One or two changes of a file: a word in, a piece away, twice or elsewhere, a byte changed, the end cut off."""
    draw = random.Random(number)
    for _ in range(draw.choice((1, 1, 1, 2))):
        values = [found.span() for found in re.finditer(rb'(?<=[:>\[ ])[\w."-]+', content)]
        start = draw.randrange(len(content) + 1)
        end = min(len(content), start + draw.choice((1, 2, 5, 20, 80)))
        if values and draw.random() < 0.6:  # a value in the place of another
            start, end = draw.choice(values)
            content = content[:start] + draw.choice(WORDS) + content[end:]
            continue
        piece = content[start:end]
        content = draw.choice(
            (
                content[:start] + draw.choice(WORDS) + content[start:],
                content[:start] + draw.choice(WORDS) + content[end:],
                content[:start] + content[end:],
                content[:end] + piece + content[end:],
                piece + content[:start] + content[end:],
                content[:start] + bytes([draw.randrange(256)]) + content[start + 1 :],
                content[:start],
            )
        )
    return content


def coco(root: Path) -> tuple[Path, Callable[[], object]]:
    """A split's annotations, and what reads them."""
    boxes = [(7, 90, 4, 6, 10, 12), (7, 3, 0, 0, 20, 30, 1), (2, 3, 1, 2, 3, 4)]
    return write_coco(root, coco_content(boxes)), lambda: read_coco(root, "train2017")


def voc(root: Path) -> tuple[Path, Callable[[], object]]:
    """One image's xml."""
    objects = voc_object("dog", 1, 1, 20, 15, "1") + voc_object("cat", 1, 1, 10, 5)
    path = write_voc(root, {"x": objects, "y": objects}) / "x.xml"

    def read() -> None:
        raw = with_sizes(scan_voc(root, ["Own/train"], None))
        box_problems(raw)
        clean(raw)

    return path, read


def yolo(root: Path) -> tuple[Path, Callable[[], object]]:
    """One image's labels."""
    lines = "0 0.5 0.5 0.2 0.4\n1 0.25 0.5 0.5 1 0.9\n1 0.1 0.2 0.5 0.2 0.3 0.8\n"
    path = write_yolo(root, {"a": lines, "b": lines}) / "a.txt"
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cat, dog]\n")
    return path, lambda: clean(scan_yolo(root, ["train"], "data.yaml"))


def data_yaml(root: Path) -> tuple[Path, Callable[[], object]]:
    """The file that names YOLO's splits and classes."""
    _, read = yolo(root)
    return root / "data.yaml", read


FORMATS = {one.__name__: one for one in (coco, voc, yolo, data_yaml)}


def fuzz(name: str, root: Path, numbers: range) -> Counter[str]:
    """How many mutations were read and refused.

    Raises:
        AssertionError: one was neither.
    """
    path, read = FORMATS[name](root)
    content, found = path.read_bytes(), Counter[str]()
    for number in numbers:
        path.write_bytes(mutated(content, number))
        try:
            read()
            found["read"] += 1
        except DataError:
            found["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name} {number}: {type(error).__name__}: {error}") from error
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    for each in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            print(each, dict(fuzz(each, Path(folder), range(options.first, options.first + options.count))))
