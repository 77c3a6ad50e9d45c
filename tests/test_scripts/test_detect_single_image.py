"""From one image, a folder or a glob to drawn images and JSON; the two-line call; and whatever can be wrong."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from public.apps.predict import PredictOptions
from public.apps.predict_engines import load
from public.config.classification import ClassificationConfig
from public.config.record import to_record
from public.datasets.voc import VocData
from public.detectors.trained import load_detector
from public.runtime.checkpoint import load_checkpoint, save_checkpoint
from public.test_scripts import detect_single_image
from public.test_scripts.detect_single_image import DetectOptions, drawn_files, find_images, main, run
from public.test_scripts.detection import main as evaluate
from public.test_scripts.test_on_coco import COCO
from tests import warm_python
from tests.conftest import ROOT
from tests.old_runs.make import write_old_data, write_old_run
from tests.test_scripts.trained import CLASS_NAMES, NUM_VAL, TrainedRun


@pytest.fixture
def options(trained_run: TrainedRun, tmp_path: Path) -> DetectOptions:
    """All validation images, also the weak detections."""
    return DetectOptions(
        weights=str(trained_run.best),
        images=str(trained_run.data / "images" / "val2017"),
        output=str(tmp_path / "detected"),
        score_threshold=0.0,
        device="cpu",
    )


def read_json(options: DetectOptions) -> list[dict[str, Any]]:
    """What was written."""
    return json.loads((Path(options.output) / "detections.json").read_text())


def test_git_passes_the_usual_outputs_over() -> None:
    """Of this program and of public.apps.predict, wherever they are started."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert PredictOptions.output is None
    for folder in (DetectOptions.output, "predicted", "predicted_*"):
        assert f"{folder}/" in ignored


# ---- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_lines_of_python_find_what_the_evaluation_found(trained_run: TrainedRun, tmp_path: Path) -> None:
    """The checkpoint's canvas, normalization, averaged weights, classes: the same boxes, scores and names."""
    arguments = ["--weights", str(trained_run.best), "--output", str(tmp_path), "--batch-size", "1", "--device", "cpu"]
    evaluate(COCO, [*arguments, "--num-workers", "0", "--time-steps", "0"])
    rows = json.loads((tmp_path / "predictions.json").read_text())
    detect = load_detector(trained_run.best, device="cpu")
    names = dict(zip([3, 90], CLASS_NAMES, strict=True))
    assert detect.category_ids == [3, 90]
    for path in trained_run.val_images:
        found = detect(path)
        expected = [row for row in rows if row["image_id"] == 5 * int(path.stem) + 3]
        assert len(expected) == len(found.scores) > 10
        boxes = np.array([row["bbox"] for row in expected])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(found.boxes, boxes, atol=1e-4)
        np.testing.assert_allclose(found.scores, [row["score"] for row in expected], rtol=1e-5)
        assert found.names == [names[row["category_id"]] for row in expected]


@pytest.mark.slow
def test_a_folder(options: DetectOptions, trained_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    """A drawn image each, of the image's size and with boxes on it, and all detections in one file."""
    rows = run(options)
    assert rows == read_json(options)
    assert [row["image"] for row in rows] == [str(path) for path in trained_run.val_images]
    written = {path.name for path in Path(options.output).iterdir()}
    assert written == {"detections.json", *(f"{path.stem}.jpg" for path in trained_run.val_images)}
    for row, path in zip(rows, trained_run.val_images, strict=True):
        drawn, image = cv2.imread(str(Path(options.output) / row["drawn"])), cv2.imread(str(path))
        assert drawn is not None
        assert image is not None
        assert drawn.shape == image.shape == (row["height"], row["width"], 3)
        assert np.abs(drawn.astype(int) - image).mean() > 10
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{trained_run.val_images[0]}: ")
    assert printed[-1].startswith(f"{NUM_VAL} drawn images and detections.json are in {Path(options.output)}")


@pytest.mark.slow
def test_json_holds_what_the_detector_gives(options: DetectOptions, trained_run: TrainedRun) -> None:
    """Best first, class by name, boxes x1 y1 x2 y2 in the image's pixels; rounded for people."""
    (row,) = run(replace(options, images=str(trained_run.val_images[1])))
    found = load_detector(trained_run.best)(trained_run.val_images[1])
    assert [one["class"] for one in row["detections"]] == found.names
    assert [one["score"] for one in row["detections"]] == pytest.approx(found.scores.tolist(), abs=6e-5)
    assert np.array([one["box"] for one in row["detections"]]) == pytest.approx(found.boxes, abs=6e-3)
    assert {one["class"] for one in row["detections"]} <= set(CLASS_NAMES)
    scores = [one["score"] for one in row["detections"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.slow
def test_the_threshold(options: DetectOptions, trained_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what is at least as sure; an image without such is written all the same, and says so."""
    detect = load_detector(trained_run.best)
    found = load(trained_run.best, device="cpu", score_threshold=0.0)(trained_run.val_images)
    scores = np.sort(np.concatenate([one.scores for one in found]))[::-1]
    rows = run(replace(options, score_threshold=float(scores[2])))
    assert sum(len(row["detections"]) for row in rows) == 3
    assert len(detect(trained_run.val_images[0], score_threshold=1.0).boxes) == 0
    capsys.readouterr()
    rows = run(replace(options, score_threshold=1.0))
    assert [row["detections"] for row in rows] == [[]] * NUM_VAL
    assert capsys.readouterr().out.count(": nothing\n") == NUM_VAL
    plain, image = (cv2.imread(str(f)) for f in (Path(options.output) / "000.jpg", trained_run.val_images[0]))
    assert plain is not None
    assert image is not None
    assert np.abs(plain.astype(int) - image).mean() < 5  # JPEG's own


@pytest.mark.slow
def test_the_threshold_of_the_checkpoint(options: DetectOptions, trained_run: TrainedRun, tmp_path: Path) -> None:
    """Where none is asked for."""
    found = load(trained_run.best, device="cpu", score_threshold=0.0)(trained_run.val_images[0])[0]
    stated = load_checkpoint(trained_run.best) | {"score_threshold": float(found.scores[1])}
    assert save_checkpoint(tmp_path / "stated.pth", stated)
    asked = replace(options, images=str(trained_run.val_images[0]), weights=str(tmp_path / "stated.pth"))
    assert len(run(replace(asked, score_threshold=None))[0]["detections"]) == 2


@pytest.mark.slow
def test_pixels_of_ones_own(trained_run: TrainedRun) -> None:
    """An array gives what the file gives, turned around from OpenCV's order without a copy, and read-only too."""
    detect = load_detector(trained_run.best)
    path = trained_run.val_images[0]
    bgr = cv2.imread(str(path))
    assert bgr is not None
    pixels = bgr[..., ::-1]
    pixels.flags.writeable = False
    for ours, theirs in zip(detect(pixels), detect(str(path)), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (64, 64), (700, 500)])
def test_any_image_size(options: DetectOptions, tmp_path: Path, size: tuple[int, int]) -> None:
    """Boxes stay inside the image."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    (row,) = run(replace(options, images=str(tmp_path / "noise.png")))
    assert (row["height"], row["width"]) == size
    boxes = np.array([one["box"] for one in row["detections"]]).reshape(-1, 4)
    assert (boxes >= 0).all()
    assert (boxes <= [size[1], size[0], size[1], size[0]]).all()


@pytest.mark.slow
def test_a_photo_is_turned_upright(options: DetectOptions, trained_run: TrainedRun, tmp_path: Path) -> None:
    """EXIF orientation 6 (stored a quarter turn to the left): the detections are those of the upright picture."""
    with Image.open(trained_run.val_images[0]) as image:
        upright = image.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=exif)
    (turned,) = run(replace(options, images=str(tmp_path / "photo.png")))
    (plain,) = run(replace(options, images=str(trained_run.val_images[0])))
    assert turned["detections"] == plain["detections"]
    assert (turned["width"], turned["height"]) == upright.size
    assert upright.size[0] != upright.size[1]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_gray_transparent_and_deep_images(options: DetectOptions, tmp_path: Path, mode: str) -> None:
    """Whatever a PNG holds is read as red, green and blue."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    (deep if mode == "I;16" else Image.fromarray(pixels).convert(mode)).save(tmp_path / "image.png")
    (row,) = run(replace(options, images=str(tmp_path / "image.png")))
    assert (row["height"], row["width"]) == (40, 50)


# ---- which images, which weights -------------------------------------------------------------------------------------


def touch(*paths: Path) -> None:
    """Empty files."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_image_folder_or_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted; a folder's own images alone, in any spelling of their ending; ** goes down; ~ is one's home."""
    touch(*(tmp_path / name for name in ("b.png", "a.JPG", "c.txt", "deep/d.jpeg", "deep/e.bmp", "x.jpg/readme.md")))
    assert find_images(str(tmp_path / "b.png")) == [tmp_path / "b.png"]
    assert find_images(str(tmp_path / "c.txt")) == [tmp_path / "c.txt"], "what is asked for by name is tried"
    assert find_images(str(tmp_path)) == [tmp_path / "a.JPG", tmp_path / "b.png"]
    assert find_images(str(tmp_path / "*")) == [tmp_path / "a.JPG", tmp_path / "b.png"]
    assert find_images(str(tmp_path / "[a-b].*")) == [tmp_path / "a.JPG", tmp_path / "b.png"]
    deep = [tmp_path / "deep" / "d.jpeg", tmp_path / "deep" / "e.bmp"]
    assert find_images(str(tmp_path / "deep" / "?.*")) == deep
    assert find_images(str(tmp_path / "**" / "*.*")) == [tmp_path / "a.JPG", tmp_path / "b.png", *deep]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_images("~/b.png") == [tmp_path / "b.png"]
    for nothing in ("missing.jpg", "*.tif", "x.jpg"):
        with pytest.raises(
            FileNotFoundError, match=r"no image at '.*'; expected an image file, a folder of them \(\.jpg"
        ):
            find_images(str(tmp_path / nothing))


def test_drawn_images_do_not_replace_each_other(tmp_path: Path) -> None:
    """Equal names, of several endings or folders, are numbered; a number that is a name is left to it."""
    images = [Path(name) for name in ("a.jpg", "a.png", "a_2.png", "b/a.jpg", "c.jpg")]
    names = [target.name for target in drawn_files(images, tmp_path)]
    assert names == ["a.jpg", "a_3.jpg", "a_2.jpg", "a_4.jpg", "c.jpg"]
    assert {target.parent for target in drawn_files(images, tmp_path)} == {tmp_path}


@pytest.mark.slow
def test_the_users_images_are_not_replaced(options: DetectOptions, trained_run: TrainedRun, tmp_path: Path) -> None:
    """--output the folder of the images: refused before anything is drawn; PNG images have no such namesake."""
    with Image.open(trained_run.val_images[0]) as image:
        image.save(tmp_path / "street.jpg")
    before = (tmp_path / "street.jpg").read_bytes()
    with pytest.raises(ValueError, match=r"output='.*' would replace the image .*street\.jpg: give another folder"):
        run(replace(options, images=str(tmp_path / "street.jpg"), output=str(tmp_path / "sub" / "..")))
    assert (tmp_path / "street.jpg").read_bytes() == before
    assert not (tmp_path / "detections.json").exists()


@pytest.mark.slow
def test_without_arguments(
    trained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint that was written last of all experiments, on the first images of its own data."""
    monkeypatch.setattr(detect_single_image, "REPOSITORY", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "no detector has been trained below detection_experiments/ yet" in capsys.readouterr().err
    runs = [tmp_path / "detection_experiments" / name / "runs" / "row" / "checkpoints" for name in "abc"]
    for age, folder in zip((30, 10, 20), runs, strict=True):
        folder.mkdir(parents=True)
        shutil.copy(trained_run.best, folder / "best.pth")
        os.utime(folder / "best.pth", (time.time() - age, time.time() - age))
    main([])
    assert f"(weights {runs[1] / 'best.pth'})" in capsys.readouterr().out
    rows = json.loads((tmp_path / "detected" / "detections.json").read_text())
    assert [row["image"] for row in rows] == [str(path) for path in trained_run.val_images[:4]]
    threshold = load_checkpoint(trained_run.best)["score_threshold"]
    assert all(one["score"] >= threshold - 1e-4 for row in rows for one in row["detections"])


def voc_checkpoint(trained: TrainedRun, path: Path, data: Path, *val_splits: str) -> str:
    """The detector as if it had been trained on data in VOC's layout."""
    old = trained.row.data
    voc = VocData(
        folder=str(data),
        input_size=old.input_size,
        train_splits=("VOC2007/trainval",),
        val_splits=val_splits,
        train_transforms=old.train_transforms,
        val_transforms=old.val_transforms,
    )
    checkpoint = load_checkpoint(trained.best) | {"config": to_record(replace(trained.row, data=voc))}
    assert save_checkpoint(path, checkpoint)
    return str(path)


@pytest.mark.slow
def test_images_of_a_voc_run(options: DetectOptions, trained_run: TrainedRun, tmp_path: Path) -> None:
    """Those of the validation lists: JPEGImages/ holds the training images too."""
    root = tmp_path / "VOCdataset" / "VOC2007"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for number in range(7):
        shutil.copy(trained_run.val_images[0], root / "JPEGImages" / f"{number}.jpg")
    (root / "ImageSets" / "Main" / "test.txt").write_text("5\n1\r\n4 \n2\n6\n")
    weights = voc_checkpoint(trained_run, tmp_path / "voc.pth", root.parent, "VOC2007/test")
    rows = run(replace(options, weights=weights, images=None))
    assert [Path(row["image"]).name for row in rows] == ["1.jpg", "2.jpg", "4.jpg", "5.jpg"]
    (root / "ImageSets" / "Main" / "more.txt").write_text("0\n6\n")
    both = voc_checkpoint(trained_run, tmp_path / "both.pth", root.parent, "VOC2007/test", "VOC2007/more")
    rows = run(replace(options, weights=both, images=None))
    assert [Path(row["image"]).name for row in rows] == ["0.jpg", "1.jpg", "2.jpg", "4.jpg"]
    (root / "ImageSets" / "Main" / "test.txt").write_text("100\n")
    with pytest.raises(FileNotFoundError, match=r"not one image of VOC2007/test is in .*Give --images FILE"):
        run(replace(options, weights=weights, images=None))
    weights = voc_checkpoint(trained_run, tmp_path / "voc.pth", tmp_path, "VOC2007/test")
    with pytest.raises(
        FileNotFoundError, match=r"data are not there: .*test\.txt.* Give --images FILE, FOLDER or GLOB"
    ):
        run(replace(options, weights=weights, images=None))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcos", "faster_rcnn"])
def test_a_run_of_format_1(options: DetectOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its checkpoint draws the first validation images of its own data, as one of today does."""
    write_old_data(name, tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    rows = run(replace(options, weights=str(write_old_run(name, tmp_path / "old")), images=None))
    assert 1 <= len(rows) <= 4
    for row in rows:
        assert Path(row["image"]).is_relative_to(tmp_path)
        assert (Path(options.output) / row["drawn"]).is_file()


@pytest.mark.slow
def test_an_experiments_own_transform(
    options: DetectOptions, own_folder: Path, trained_run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --experiment, also where the images are those of the checkpoint's data; without it, the class is named."""
    best = own_folder / "runs" / "dark" / "checkpoints" / "best.pth"
    arguments = ["--weights", str(best), "--output", options.output, "--device", "cpu"]
    main([*arguments, "--experiment", str(own_folder)])
    assert [row["image"] for row in read_json(options)] == [str(path) for path in trained_run.val_images[:4]]
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.startswith(f"error: {best}: own.Darker is a class of the experiment's own folder")


# ---- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_some_unreadable_images(
    options: DetectOptions, trained_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a file, an empty one, a text: named and skipped, the others are drawn; with none left it is an error."""
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(trained_run.val_images[0], folder / "good.png")
    (folder / "half.png").write_bytes(trained_run.val_images[0].read_bytes()[:40])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not an image")
    rows = run(replace(options, images=str(folder)))
    assert [row["drawn"] for row in rows] == ["good.jpg"]
    assert read_json(options) == rows
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert [line.split(" cannot be read as an image: ")[0] for line in lines] == [
        f"skipped: {folder / name}" for name in ("empty.jpg", "half.png", "text.jpg")
    ]
    with pytest.raises(SystemExit, match="1"):
        main(["--weights", str(trained_run.best), "--images", str(folder), "--output", options.output])
    (folder / "good.png").unlink()
    with pytest.raises(ValueError, match=r"not one of 3 files could be read as an image; the first is .*empty\.jpg"):
        run(replace(options, images=str(folder)))


@pytest.mark.slow
def test_a_bad_image_in_python(trained_run: TrainedRun, tmp_path: Path) -> None:
    """Missing or damaged: an OSError with the path; an array of another kind: what it should be."""
    detect = load_detector(trained_run.best)
    with pytest.raises(FileNotFoundError, match=r"there is no image .*missing\.jpg"):
        detect(tmp_path / "missing.jpg")
    for name, content in {"half.png": trained_run.val_images[0].read_bytes()[:40], "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match=rf"{name} cannot be read as an image: "):
            detect(str(tmp_path / name))
    with pytest.raises(OSError, match="cannot be read as an image"):
        detect(tmp_path)
    gray, floats = np.zeros((5, 6), np.uint8), np.zeros((5, 6, 3))
    for array in (gray, floats, np.zeros((3, 5, 6), np.uint8), np.zeros((0, 6, 3), np.uint8)):
        with pytest.raises(
            ValueError, match=r"an image was given as \w+ \[.*\]; expected is uint8 \[height, width, 3\]"
        ):
            detect(array)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [-0.1, 1.5, 30.0, float("nan")])
def test_a_threshold_out_of_range(
    options: DetectOptions, trained_run: TrainedRun, threshold: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 for 30% would find nothing; refused in Python and on the command line."""
    with pytest.raises(ValueError, match=rf"score_threshold={threshold} must lie in 0\.\.1"):
        load_detector(trained_run.best)(trained_run.val_images[0], threshold)
    arguments = ["--weights", str(trained_run.best), "--images", str(options.images), "--output", options.output]
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--score-threshold", str(threshold)])
    assert f"error: score_threshold={threshold} must lie in 0..1." in capsys.readouterr().err
    assert not (Path(options.output) / "detections.json").exists()


@pytest.mark.slow
def test_what_is_no_detector(
    trained_run: TrainedRun, config: ClassificationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file, bare weights, half a checkpoint, a classifier's (with images and without): one sentence, code 2."""
    torch.save(load_checkpoint(trained_run.best)["model"], tmp_path / "bare.pth")
    (tmp_path / "half.pth").write_bytes(trained_run.best.read_bytes()[:5000])
    classifier = {"config": to_record(config), "class_names": ["a", "b"], "model": {}}
    assert save_checkpoint(tmp_path / "classifier.pth", classifier)
    expected = {
        "missing.pth": f"no checkpoint at {tmp_path / 'missing.pth'}.",
        "bare.pth": "it may be bare weights",
        "half.pth": f"{tmp_path / 'half.pth'} cannot be read as a checkpoint",
        "classifier.pth": "is the checkpoint of a resnet18cifar classifier; expected a detector's.",
    }
    for name, message in expected.items():
        for images in (["--images", str(trained_run.data)], []):
            with pytest.raises(SystemExit, match="2"):
                main(["--weights", str(tmp_path / name), *images, "--output", str(tmp_path / "out")])
            error = capsys.readouterr().err
            assert error.startswith("error: ")
            assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_is_no_folder(options: DetectOptions, tmp_path: Path) -> None:
    """A file where the results should go."""
    (tmp_path / "detected").touch()
    with pytest.raises(ValueError, match=r"output='.*detected' is not a folder that can be written to: File exists"):
        run(options)


@pytest.mark.slow
@pytest.mark.parametrize("num_bytes", [0, 100, 12_000])
def test_a_full_disk(
    options: DetectOptions,
    trained_run: TrainedRun,
    small_disk: Callable[[int], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
    num_bytes: int,
) -> None:
    """No room for a byte, for a drawn image, for the JSON file: one sentence, code 2, and no half of a file."""
    arguments = ["--weights", str(trained_run.best), "--images", str(options.images), "--output", options.output]
    with small_disk(num_bytes), pytest.raises(SystemExit, match="2"):
        main([*arguments, "--score-threshold", "0", "--device", "cpu"])
    error = capsys.readouterr().err
    assert error.startswith(f"error: output='{options.output}' is not a folder that can be written to: File too large.")
    assert error.count("\n") == 1
    drawn = trained_run.val_images if num_bytes == 12_000 else []
    assert sorted(path.name for path in Path(options.output).iterdir()) == [f"{path.stem}.jpg" for path in drawn]


@pytest.mark.slow
def test_the_shell_script(trained_run: TrainedRun, tmp_path: Path) -> None:
    """From any folder, without a display: one image in, one drawn image out."""
    script = ROOT / "public" / "test_scripts" / "detect_single_image.sh"
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment |= {"PYTHON": warm_python.executable(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = ["--weights", str(trained_run.best), "--images", str(trained_run.val_images[0]), "--device", "cpu"]
    done = subprocess.run(
        [str(script), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "detected").iterdir()) == ["000.jpg", "detections.json"]
