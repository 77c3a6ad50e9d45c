"""The tab Data: a data set's images with their boxes or classes, page by page, and its check's findings."""

import io
import multiprocessing
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason='the page is not installed: pip install -e ".[serve]"')
from starlette.testclient import TestClient

from public.apps.serve import application, divided
from public.apps.serve_data import ABOUT, IMAGES, DataSet
from public.datasets.check import parsed_config
from tests.apps.test_serve import HERE
from tests.datasets.written import coco_content, write_coco, write_image


class Here:
    """Stands for the other process: does its work when it is started."""

    def __init__(self, target: Any, args: tuple[Any, ...], name: str) -> None:
        self.work = lambda: target(*pickle.loads(pickle.dumps(args[:1])), *args[1:])

    def start(self) -> None:
        """All of it."""
        self.work()

    def terminate(self) -> None:
        """It has ended."""


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check runs here: another process would import torch for seconds."""
    context = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=Here)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)


def client_of(folder: Path, *settings: str) -> TestClient:
    """Asks a server of this folder, which has been read."""
    data = DataSet(parsed_config(None, ["--data.folder", str(folder), "--runtime.num-workers", "0", *settings]))
    client = TestClient(application(data.endpoints(), ["127.0.0.1"]), base_url=HERE)
    for _ in range(200):
        if client.get("/api/data").json()["state"] != "reading":
            return client
    raise AssertionError("it is never read")


def test_a_data_set_with_boxes(tmp_path: Path) -> None:
    """Its splits, what training leaves out, images with their boxes, and a class's images alone."""
    boxes = [(7, 3, 1, 2, 30, 20), (7, 90, 5, 5, 10, 10), (2, 90, 0, 0, 5, 5), (2, 90, 9, 9, 0, 0)]
    write_coco(tmp_path, coco_content(boxes))
    write_coco(tmp_path, coco_content([(7, 3, 1, 2, 30, 20)]), "val2017")
    client = client_of(tmp_path)
    about = client.get("/api/data").json()
    assert set(about) == set(ABOUT)
    assert (about["folder"], about["state"]) == (str(tmp_path), "read")
    train, val = about["splits"]
    names = [one["name"] for one in train["classes"]]
    assert (train["images"], train["objects"], val["images"], val["objects"]) == (2, 3, 2, 1)
    assert {one["name"]: one["objects"] for one in train["classes"]} == dict(zip(names, [1, 2], strict=True))
    (flaw,) = [one for one in about["findings"] if one["kind"] == "boxes without area"]
    assert (flaw["times"], flaw["is_refused"], flaw["treatment"]) == (1, False, "training skips them")
    assert "has no area" in flaw["examples"][0]
    page = client.get("/api/data/images", params={"split": train["name"]}).json()
    assert set(page) == set(IMAGES)
    first, second = page["images"]
    assert (first["name"], first["width"], first["height"]) == ("a.jpg", 40, 30)
    assert first["objects"] == [
        {"class": names[0], "label": 0, "x1": 1, "y1": 2, "x2": 31, "y2": 22},
        {"class": names[1], "label": 1, "x1": 5, "y1": 5, "x2": 15, "y2": 15},
    ]
    of_first = client.get("/api/data/images", params={"split": train["name"], "label": 0}).json()
    assert (of_first["total"], of_first["images"]) == (1, [first])
    assert client.get("/api/data/images", params={"split": train["name"], "page": 1}).json()["images"] == []
    answer = client.get("/api/data/image", params={"split": train["name"], "row": second["row"]})
    assert Image.open(io.BytesIO(answer.content)).size == (20, 10)
    assert "boxes without area" in client.get("/api/data/statistics").text


def test_a_data_set_of_classes(image_folder: Path) -> None:
    """Each image has one, without a box."""
    client = client_of(image_folder)
    assert [one["images"] for one in client.get("/api/data").json()["splits"]] == [11, 7]
    page = client.get("/api/data/images", params={"split": "val", "label": 1}).json()
    assert page["total"] == 4
    assert page["images"][0]["objects"] == [{"class": "cat", "label": 1}]


def test_large_and_turned_images(tmp_path: Path) -> None:
    """As large as the page needs, and turned as its annotation's size says, so that boxes lie where they should."""
    content = coco_content([(7, 3, 0, 0, 300, 600)])
    content["images"][0] |= {"width": 700, "height": 1400}
    write_coco(tmp_path, content)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((700, 1400, 3), np.uint8)
    pixels[:, :100] = 255  # on top, once it is upright
    path = tmp_path / "images" / "train2017" / "a.jpg"
    Image.fromarray(pixels).save(path, exif=exif)
    client = client_of(tmp_path, "--data.val-fraction", "0.5", "--data.val-splits", "train2017")
    splits = [one["name"] for one in client.get("/api/data").json()["splits"]]
    found = {}
    for split in splits:
        for one in client.get("/api/data/images", params={"split": split}).json()["images"]:
            found[one["name"]] = client.get("/api/data/image", params={"split": split, "row": one["row"]}).content
    shown = np.asarray(Image.open(io.BytesIO(found["a.jpg"])))
    assert shown.shape == (640, 320, 3)
    assert shown[:30].mean() > 250
    assert shown[60:].mean() < 5


def test_what_is_not_there(tmp_path: Path) -> None:
    """One sentence each; a name that leads out of the data set shows nothing."""
    write_image(tmp_path / "private.jpg")
    content = coco_content([(7, 3, 1, 2, 30, 20)])
    content["images"][0]["file_name"] = "../../../private.jpg"
    write_coco(tmp_path / "data", content)
    client = client_of(tmp_path / "data")

    def error(path: str, **query: Any) -> str:
        answer = client.get(path, params=query)
        assert answer.status_code == 404
        return answer.json()["error"]

    split = client.get("/api/data").json()["splits"][0]["name"]
    rows = {one["name"]: one["row"] for one in client.get("/api/data/images", params={"split": split}).json()["images"]}
    assert "has no image" in error("/api/data/image", split=split, row=rows["private.jpg"])
    assert "has no image 99" in error("/api/data/image", split=split, row=99)
    assert "no split 'nothing' was read; the nearest: train" in error("/api/data/images", split="nothing")
    none = TestClient(application(DataSet(None).endpoints(), ["127.0.0.1"]), base_url=HERE)
    assert none.get("/api/data").json()["state"] == "none"
    assert none.get("/api/data/statistics").json()["error"] == "the data is not read yet."
    assert none.get("/api/data/images", params={"split": "x"}).json()["error"] == "no split 'x' was read."


def test_a_process_that_dies() -> None:
    """Is said, and what it had sent stays."""
    data = DataSet(None)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    sender.close()
    data.receive(receiver)
    assert data.about()["state"] == "failed"


def test_a_command_line_is_divided() -> None:
    """Settings of data with their values, and all the rest."""
    line = [
        "--weights",
        "a",
        "b",
        "--data.folder",
        "x",
        "--data.classes",
        "cat",
        "dog",
        "--no-data.download",
        "--port=1",
    ]
    own, of_data = divided(line)
    assert own == ["--weights", "a", "b", "--port=1"]
    assert of_data == ["--data.folder", "x", "--data.classes", "cat", "dog", "--no-data.download"]
