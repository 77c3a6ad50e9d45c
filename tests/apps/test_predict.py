"""The command: every kind of output, what is skipped, what is refused, and that it says what the library says."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from public.apps.predict import load, main
from public.apps.predict_outputs import OUTPUTS, Names, file_name
from public.backbones.catalog import build_backbone
from tests.apps.networks import IDS, NAMES, save_classifier, save_detector, write_pictures
from tests.apps.test_predict_sources import write_video

FILES = ("pictures", "json", "csv")
DETECTION = ("crops", "coco_results", "yolo_labels")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of three sizes."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints by task."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "detection": save_detector(folder / "detector.pth"),
        "classification": save_classifier(folder / "classifier.pth"),
    }


def predict(*arguments: str | Path) -> int:
    """The exit code of the command on the CPU."""
    try:
        main(["--device", "cpu", *map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """predictions.json."""
    return json.loads((folder / "predictions.json").read_text())


# ---- outputs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detected(weights: dict[str, Path], pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that can be written of a detector's predictions, the weak ones too."""
    folder = tmp_path_factory.mktemp("detected")
    arguments = ("--weights", weights["detection"], "--source", pictures[0].parent, "--output", folder)
    assert predict(*arguments, "--save", *FILES, *DETECTION, "--score-threshold", "0") == 0
    return folder


@pytest.mark.slow
def test_what_is_written_of_a_detector(detected: Path, pictures: list[Path]) -> None:
    """Nothing else, and a picture each."""
    names = {path.stem for path in pictures}
    written = {path.relative_to(detected).as_posix() for path in detected.rglob("*") if path.is_file()}
    crops = {name for name in written if name.startswith("crops/")}
    labels = {f"labels/{name}.txt" for name in names} | {"names.txt"}
    tables = {"predictions.json", "predictions.csv", "coco_results.json", "coco_images.json"}
    assert written == {f"{name}.jpg" for name in names} | tables | labels | crops
    assert {name.split("/")[1] for name in crops} <= set(NAMES)
    found = [(row["width"], row["height"], one) for row in rows_of(detected) for one in row["predictions"]]
    assert len(found) == 20 * 5
    assert len(crops) == sum(one["x1"] < width and one["y1"] < height for width, height, one in found) > 50


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ids"), [("2023010112000{}", [20230101120000, 20230101120001]), ("{:020}", [1, 2])])
def test_names_that_are_numbers(
    weights: dict[str, Path], pictures: list[Path], tmp_path: Path, name: str, ids: list[int]
) -> None:
    """Are the ids, up to those that every reader of JSON keeps; a camera's may have 20 digits."""
    (tmp_path / "cam").mkdir()
    for number in range(2):
        (tmp_path / "cam" / f"{name.format(number)}.png").write_bytes(pictures[0].read_bytes())
    arguments = ("--weights", weights["detection"], "--source", tmp_path / "cam", "--output", tmp_path / "out")
    assert predict(*arguments, "--save", "coco_results", "--score-threshold", "0") == 0
    rows = json.loads((tmp_path / "out/coco_results.json").read_text())
    assert sorted({row["image_id"] for row in rows}) == ids


@pytest.mark.slow
def test_files_hold_what_the_library_gives(detected: Path, weights: dict[str, Path], pictures: list[Path]) -> None:
    """Bit for bit in JSON, CSV and COCO's results; to six decimals of the picture's size in YOLO's."""
    results = load(weights["detection"], device="cpu", score_threshold=0)(pictures)
    assert rows_of(detected) == [result.to_dict() for result in results]
    with (detected / "predictions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    expected: list[dict[str, Any]] = [{"image": one.source} | row for one in results for row in one.rows()]
    assert [{name: str(value) for name, value in row.items()} for row in expected] == lines
    coco = json.loads((detected / "coco_results.json").read_text())
    assert len(coco) == len(expected)
    for row, one in zip(coco, expected, strict=True):
        assert row["image_id"] == int(Path(one["image"]).stem)
        assert row["category_id"] == IDS[one["label"]]
        box = [one["x1"], one["y1"], one["x2"] - one["x1"], one["y2"] - one["y1"]]
        assert (row["bbox"], row["score"]) == (box, one["score"])
    images = json.loads((detected / "coco_images.json").read_text())
    assert images["images"][1] == {"id": 1, "file_name": str(pictures[1]), "height": 90, "width": 70}
    assert images["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 90, "name": "owl"}]
    assert (detected / "names.txt").read_text() == "cat\ndog\nowl\n"
    yolo = np.loadtxt(detected / "labels" / "1.txt", ndmin=2)
    corners = np.array([[row[name] for name in ("x1", "y1", "x2", "y2")] for row in results[1].rows()])
    size = np.array([70, 90])
    np.testing.assert_allclose(yolo[:, 1:3], (corners[:, :2] + corners[:, 2:]) / 2 / size, atol=1e-6)
    np.testing.assert_allclose(yolo[:, 3:5], (corners[:, 2:] - corners[:, :2]) / size, atol=1e-6)
    np.testing.assert_allclose(yolo[:, [0, 5]].T, [results[1].labels, results[1].scores], atol=1e-6)


def test_crops_are_the_pixels_of_the_boxes(detected: Path, pictures: list[Path]) -> None:
    """All that a box touches, as JPEG; the surest is number 1."""
    first = rows_of(detected)[0]["predictions"][0]
    x1, y1 = (int(np.floor(first[name])) for name in ("x1", "y1"))
    x2, y2 = (int(np.ceil(first[name])) for name in ("x2", "y2"))
    crop = cv2.imread(str(detected / "crops" / first["class"] / "0_1.jpg"))
    whole = cv2.imread(str(pictures[0]))
    assert crop is not None
    assert whole is not None
    assert crop.shape == (y2 - y1, x2 - x1, 3)
    assert np.abs(crop.astype(int) - whole[y1:y2, x1:x2]).mean() < 6


@pytest.mark.slow
def test_what_is_written_of_a_classifier(weights: dict[str, Path], pictures: list[Path], tmp_path: Path) -> None:
    """Tables, pictures with the classes on them, and the files themselves in folders of their classes."""
    arguments = ("--weights", weights["classification"], "--source", *pictures, "--output", tmp_path / "out")
    assert predict(*arguments, "--save", *FILES, "classes", "--top-k", "2") == 0
    results = load(weights["classification"], device="cpu", top_k=2)(pictures)
    assert rows_of(tmp_path / "out") == [result.to_dict() for result in results]
    lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert lines[0] == "image,class,label,score"
    assert len(lines) == 1 + 2 * len(pictures)
    for path, result in zip(pictures, results, strict=True):
        copy = tmp_path / "out" / "classes" / result.names[0] / path.name
        assert copy.read_bytes() == path.read_bytes()
        drawn, plain = (cv2.imread(str(one)) for one in (tmp_path / "out" / f"{path.stem}.jpg", path))
        assert drawn is not None
        assert plain is not None
        change = np.abs(drawn.astype(int) - plain).mean(axis=2)
        assert change[:10, :30].mean() > 20
        assert change[40:].mean() < 6


@pytest.mark.slow
def test_a_video_among_pictures(weights: dict[str, Path], pictures: list[Path], tmp_path: Path) -> None:
    """One drawn video at its own rate; a row and a label file a frame; pictures beside it."""
    clip = write_video(tmp_path / "clip.avi", 6)
    arguments = ("--weights", weights["detection"], "--source", clip, pictures[0], "--output", tmp_path / "out")
    assert predict(*arguments, "--save", "pictures", "json", "yolo_labels", "coco_results", "--frame-step", "2") == 0
    video = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert [video.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS)] == [3, 5]
    video.release()
    frames = [f"{clip}#{number}" for number in (0, 2, 4)]
    assert [row["image"] for row in rows_of(tmp_path / "out")] == [*frames, str(pictures[0])]
    assert {path.stem for path in (tmp_path / "out" / "labels").iterdir()} == {
        "clip_000000", "clip_000002", "clip_000004", "0",
    }  # fmt: skip
    assert (tmp_path / "out" / "0.jpg").is_file()
    images = json.loads((tmp_path / "out" / "coco_images.json").read_text())["images"]
    assert [image["id"] for image in images] == [1, 2, 3, 4], "names that are no numbers"


@pytest.mark.slow
def test_names_of_files(weights: dict[str, Path], pictures: list[Path], tmp_path: Path) -> None:
    """Pictures of one name in two folders do not replace each other, nor take the name of a third; classes are names of
    folders."""
    names = Names(["0", "0", "0_2"])
    assert [names.take(stem) for stem in ("0", "0", "0_2")] == ["0", "0_3", "0_2"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "0.png").write_bytes(pictures[1].read_bytes())
    arguments = ("--weights", weights["detection"], "--source", pictures[0], tmp_path / "b", "--output")
    assert predict(*arguments, tmp_path / "out", "--save", "pictures", "yolo_labels") == 0
    assert {path.name for path in (tmp_path / "out").glob("*.jpg")} == {"0.jpg", "0_2.jpg"}
    assert {path.name for path in (tmp_path / "out" / "labels").iterdir()} == {"0.txt", "0_2.txt"}
    folders = {"a/b": "a_b", "..": "_", "traffic light": "traffic light", "": "_", 'a:"b"\n': "a__b__"}
    assert {name: file_name(name) for name in folders} == folders


@pytest.mark.slow
def test_files_of_others_stay(
    weights: dict[str, Path],
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder that holds files is taken when told; without a folder a new one."""
    (tmp_path / "predicted").mkdir()
    own = tmp_path / "predicted" / "predictions.json"
    own.write_text("mine")
    monkeypatch.chdir(tmp_path)
    arguments = ("--weights", weights["detection"], "--source", pictures[0], "--save", "json")
    assert predict(*arguments, "--output", "predicted") == 2
    assert "error: output='predicted' holds files already: give another folder, or --overwr" in capsys.readouterr().err
    assert [predict(*arguments) for _ in range(2)] == [0, 0]
    assert own.read_text() == "mine"
    assert rows_of(tmp_path / "predicted_2") == rows_of(tmp_path / "predicted_3")
    assert predict(*arguments, "--output", "predicted", "--overwrite") == 0
    assert rows_of(tmp_path / "predicted") == rows_of(tmp_path / "predicted_2")


@pytest.mark.slow
def test_other_weights(pictures: list[Path], tmp_path: Path) -> None:
    """The network and its settings on the command line."""
    torch.manual_seed(0)
    torch.save(build_backbone("resnet18", num_classes=2).state_dict(), tmp_path / "bare.pth")
    arguments = ("--weights", tmp_path / "bare.pth", "--source", pictures[0], "--output", tmp_path / "out")
    own = ("--network", "resnet18", "--classes", "cat", "dog", "--input-size", "64", "--save", "json")
    assert predict(*arguments, *own, "--network-options.activation", "swish") == 0
    swish = rows_of(tmp_path / "out")
    assert {row["class"] for row in swish[0]["predictions"]} == {"cat", "dog"}
    assert predict(*arguments, *own, "--overwrite") == 0
    assert rows_of(tmp_path / "out") != swish


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pictures_that_cannot_be_read(
    weights: dict[str, Path], pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named and skipped, the rest is predicted, and the exit code is 1; 2 where nothing is left."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(pictures[0].read_bytes()[:50])
    (tmp_path / "in" / "b.mp4").touch()
    (tmp_path / "in" / "c.png").write_bytes(pictures[0].read_bytes())
    arguments = ("--weights", weights["detection"], "--output", tmp_path / "out", "--overwrite", "--source")
    assert predict(*arguments, tmp_path / "in") == 1
    said = capsys.readouterr()
    assert [line.split(" c")[0] for line in said.err.splitlines()] == [
        f"skipped: {tmp_path / 'in' / name}" for name in ("a.jpg", "b.mp4")
    ]
    assert [row["image"] for row in rows_of(tmp_path / "out")] == [str(tmp_path / "in" / "c.png")]
    assert re.search(r"1 pictures in .*, 2 skipped; pictures, json in ", said.out)
    assert predict(*arguments, tmp_path / "in/c.png", "--max-pixels", "100") == 2
    assert "70 = 6,300 pixels, more than the 100 that are read (max_pixels)" in capsys.readouterr().err
    (tmp_path / "in" / "c.png").unlink()
    assert predict(*arguments, tmp_path / "in") == 2
    assert re.search(r"error: not one of 2 pictures could be read: .*a\.jpg cannot", capsys.readouterr().err)


@pytest.mark.slow
def test_what_is_refused(
    weights: dict[str, Path], pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit code 2, before anything is written."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    detector, classifier = weights["detection"], weights["classification"]
    photo, out = pictures[0], tmp_path / "out"
    refused: list[tuple[tuple[str | Path, ...], str]] = [
        (("--weights", tmp_path / "best.pth", "--source", photo), r"there is no .*best\.pth"),
        (("--source", photo), "weights"),
        (("--weights", detector), "source"),
        (("--weights", detector, "--source", tmp_path / "empty"), "no image or video at '.*empty'"),
        (("--weights", detector, "--source", "http://a.b/c.jpg"), "nothing is fetched .* without --allow-http"),
        (("--weights", detector, "--source", photo, "--save", "classes"), "save=classes is for classification; the"),
        (("--weights", classifier, "--source", photo, "--save", "yolo_labels"), "save=yolo_labels is for detection"),
        (("--weights", classifier, "--source", photo, "--save", "xml"), "xml"),
        (("--weights", detector, "--source", photo, "--score-threshold", "30"), "score_threshold=30.0 must lie in"),
        (("--weights", detector, "--source", photo, "--top-k", "3"), "top_k=3 is for classification; the weights are"),
        (("--weights", classifier, "--source", photo, "--score-threshold", "0.3"), "score_threshold=0.3 is for det"),
        (("--weights", classifier, "--source", photo, "--experiment", tmp_path / "no"), "experiment='.*no': there is"),
        (("--weights", detector, "--source", photo, "--frame-step", "0"), "frame_step=0 must be 1 or more"),
        (("--weights", detector, "--source", photo, "--network", "resnet5"), "nearest.*resnet50"),
        (("--weights", detector, "--source", photo, "--network", "fcos"), "leave out network='fcos'"),
        (("--weights", detector, "--source", photo, "--output", tmp_path / "file"), "is not a folder that can be writ"),
    ]  # fmt: skip
    for arguments, message in refused:
        output = () if "--output" in arguments else ("--output", out)
        assert predict(*arguments, *output) == 2, arguments
        said = re.sub(r"[\s│]+", " ", capsys.readouterr().err)  # some stands in a box
        assert re.search(message, said), (arguments, said)
        assert not out.exists()


@pytest.mark.slow
def test_sources_are_not_replaced(
    weights: dict[str, Path], pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither pictures, of whatever kind of output, nor videos."""
    copy = tmp_path / "0.jpg"
    assert cv2.imwrite(str(copy), cv2.imread(str(pictures[0])))  # type: ignore[arg-type]
    video = write_video(tmp_path / "clip.avi", 2).rename(tmp_path / "clip.mp4")
    before = copy.read_bytes(), video.read_bytes()
    for source in (copy, video):
        arguments = ("--weights", weights["detection"], "--source", source, "--output", tmp_path, "--overwrite")
        assert predict(*arguments) == 2
        assert f"would replace the image {source}" in capsys.readouterr().err
    assert (copy.read_bytes(), video.read_bytes()) == before


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the command, and with a network its own settings; every kind of output is named."""
    assert predict("--help") == 0
    text = capsys.readouterr().out
    assert "python -m public.apps.predict" in text
    assert all(name in text for name in (*OUTPUTS, "--source", "--weights", "--allow-http", "--engine"))
    assert "--detector.backbone" not in text
    assert predict("--network", "retinanet", "--help") == 0
    assert "--detector.backbone" in capsys.readouterr().out


@pytest.mark.slow
def test_stopping_keeps_what_is_there(
    weights: dict[str, Path], pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after two pictures, as a webcam is ended: the files of both are whole."""
    seen: list[Path] = []

    def write(path: Path, pixels: np.ndarray) -> None:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(path)

    monkeypatch.setattr("public.apps.predict_outputs.write_image", write)
    arguments = ("--weights", weights["detection"], "--source", *pictures, "--output", tmp_path)
    assert predict(*arguments, "--save", "json", "pictures") == 0
    assert len(rows_of(tmp_path)) == 3
