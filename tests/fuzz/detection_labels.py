"""Label files of detection formats, to be damaged: each is read, or refused by a DataError."""

from pathlib import Path

from public.datasets.batches import DataError
from public.datasets.coco import read_coco
from public.datasets.scan import box_problems, clean, with_sizes
from public.datasets.voc import scan_voc
from public.datasets.yolo import scan_yolo
from tests.datasets.written import coco_content, voc_object, write_coco, write_voc, write_yolo
from tests.fuzz.mutations import mutated_text
from tests.fuzz.subject import Subject


def coco(root: Path) -> Subject:
    """A split's annotations."""
    boxes = [(7, 90, 4, 6, 10, 12), (7, 3, 0, 0, 20, 30, 1), (2, 3, 1, 2, 3, 4)]
    path = write_coco(root, coco_content(boxes))
    return Subject(path, mutated_text, lambda: read_coco(root, "train2017"), DataError)


def voc(root: Path) -> Subject:
    """One image's xml."""
    objects = voc_object("dog", 1, 1, 20, 15, "1") + voc_object("cat", 1, 1, 10, 5)
    path = write_voc(root, {"x": objects, "y": objects}) / "x.xml"

    def read() -> None:
        raw = with_sizes(scan_voc(root, ["Own/train"], None))
        box_problems(raw)
        clean(raw)

    return Subject(path, mutated_text, read, DataError)


def yolo(root: Path) -> Subject:
    """One image's labels."""
    lines = "0 0.5 0.5 0.2 0.4\n1 0.25 0.5 0.5 1 0.9\n1 0.1 0.2 0.5 0.2 0.3 0.8\n"
    path = write_yolo(root, {"a": lines, "b": lines}) / "a.txt"
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cat, dog]\n")
    return Subject(path, mutated_text, lambda: clean(scan_yolo(root, ["train"], "data.yaml")), DataError)


def data_yaml(root: Path) -> Subject:
    """The file that names YOLO's splits and classes."""
    return yolo(root)._replace(path=root / "data.yaml")


def class_list(root: Path) -> Subject:
    """The classes of YOLO's labels, a line each."""
    yolo(root)
    (root / "classes.txt").write_text("cat\ndog\n")
    return Subject(
        root / "classes.txt", mutated_text, lambda: clean(scan_yolo(root, ["train"], "classes.txt")), DataError
    )


def darknet(root: Path) -> Subject:
    """Darknet's file of splits and classes."""
    class_list(root)
    (root / "obj.data").write_text("classes = 2\ntrain = images/train\nnames = data/classes.txt\n")
    return Subject(root / "obj.data", mutated_text, lambda: clean(scan_yolo(root, ["train"], "obj.data")), DataError)


LABELS = {one.__name__: one for one in (coco, voc, yolo, data_yaml, class_list, darknet)}
