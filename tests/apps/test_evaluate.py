"""Files of detections that anyone wrote: the numbers of pycocotools and of our evaluation; a sentence for bad files."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from public.apps.evaluate import main
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.coco import read_coco, write_coco_json
from public.datasets.locations import REPOSITORY
from public.datasets.predictions import Predictions
from public.datasets.voc import read_voc, write_voc_files
from public.evaluation.coco import METRICS, CocoEvaluator
from public.evaluation.evaluator import Evaluator, existing
from public.evaluation.voc import VocEvaluator
from public.runtime.checkpoint import load_checkpoint
from public.test_scripts import request
from tests.apps.networks import save_classifier, save_detector, write_pictures
from tests.datasets.written import coco_content, voc_object, write_coco, write_voc
from tests.evaluation.coco_cases import make_case
from tests.evaluation.test_coco import reference, write_case

COCO_ARGS = ("--data.val-splits", "train2017")
VOC_ARGS = ("--data.dataset", "voc", "--data.classes", "cat", "dog", "--data.val-splits", "Own/train")


def evaluate(folder: Path, *args: str | Path) -> dict[str, Any]:
    """The numbers that the command writes down of a data set in a folder."""
    main([*map(str, args), "--data.folder", str(folder), "--output", str(folder / "out")])
    return json.loads((folder / "out/metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_equal_to_pycocotools(tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """On generated files, with boxes whose IoU is a threshold in float64; every digit in metrics.json."""
    truth, results = make_case(number)
    source, file = write_case(tmp_path, truth, results)
    shutil.rmtree(tmp_path / "images")  # empty ones: no report could draw them
    found = evaluate(tmp_path, "--results", file, "--data.val-splits", "val")
    expected = reference(source, file).stats
    np.testing.assert_allclose([found.get(name, -1) for name in METRICS], expected, rtol=0, atol=1e-9)
    lines = capsys.readouterr().out.splitlines()
    images = {row["image_id"] for row in results}
    assert lines[0] == f"results    {len(results)} detections in {len(images)} of {len(truth['images'])} images"
    assert (tmp_path / "out/table.txt").read_text().splitlines() == lines[2:-1]
    assert (tmp_path / "out/precision_recall.png").is_file()


@pytest.fixture
def pets(tmp_path: Path) -> DetectionAnnotations:
    """Twelve images in VOC's format with a cat and a dog in each, every fifth of them difficult."""
    objects = {
        f"{number:06d}": voc_object("cat", 1 + number, 2, 15 + number, 12, str(int(number % 5 == 0)))
        + voc_object("dog", 20, 3, 38, 9 + number)
        for number in range(12)
    }
    write_voc(tmp_path, objects)
    return read_voc(tmp_path, ["Own/train"], ["cat", "dog"])


def predict(annotations: DetectionAnnotations) -> Predictions:
    """Objects moved by some pixels, float32 with all its digits, in the order of the images."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(annotations.num_images), 8)
    objects = 2 * images + rng.integers(0, 2, len(images))
    boxes = annotations.boxes[objects] + rng.normal(0, 2, (len(images), 4)).astype(np.float32)
    scores = rng.random(len(images)).astype(np.float32)
    return Predictions(annotations.image_ids[images], boxes, scores, annotations.labels[objects])


@pytest.mark.slow
@pytest.mark.parametrize("rules", [VocEvaluator, CocoEvaluator])
def test_our_own_files_give_our_own_numbers(pets: DetectionAnnotations, tmp_path: Path, rules: type[Evaluator]) -> None:
    """JSON to the last bit; the devkit's text, of three decimals, to the four that are printed. By either rules."""
    predictions = predict(pets)
    expected = rules(pets).evaluate(predictions)
    write_coco_json(tmp_path / "predictions.json", predictions, pets)
    write_voc_files(tmp_path, predictions, pets)
    asked = (*VOC_ARGS, "--data.metrics", rules.kind)
    found = evaluate(tmp_path, "--results", tmp_path / "predictions.json", *asked)
    assert {name: value for name, value in found.items() if name in expected.metrics} == existing(expected.metrics)
    assert 0.1 < next(iter(expected.metrics.values())) < 0.9
    texts = sorted(tmp_path.glob("comp4_*.txt"))
    assert len(texts) == 2
    found = evaluate(tmp_path, "--results", *texts, *asked)
    assert {name: f"{value:.4f}" for name, value in found.items() if name in expected.metrics} == {
        name: f"{value:.4f}" for name, value in existing(expected.metrics).items()
    }


@pytest.mark.slow
def test_the_images_need_not_be_there(
    pets: DetectionAnnotations, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing but annotations is read."""
    write_voc_files(tmp_path, predict(pets), pets)
    for path in tmp_path.rglob("*.jpg"):
        path.unlink()
    (tmp_path / "given").mkdir()
    files = [path.rename(tmp_path / "given" / path.name) for path in tmp_path.glob("comp4_*.txt")]
    assert evaluate(tmp_path, "--results", *files, *VOC_ARGS)["mAP50"] > 0.1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"metrics.json", "per_class.csv", "table.txt", "precision_recall.png", "report.html"}
    assert re.search(r"written .*numbers, but no pictures: .*000000\.jpg is missing", capsys.readouterr().out)


@pytest.mark.slow
def test_a_full_disk(
    tmp_path: Path, small_disk: Callable[[int], AbstractContextManager[None]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The numbers are printed, and the exit code is none of success."""
    _, file = write_case(tmp_path, *make_case(0))
    with small_disk(100), pytest.raises(SystemExit, match="2"):
        evaluate(tmp_path, "--results", file, "--data.val-splits", "val")
    captured = capsys.readouterr()
    assert "AP50" in captured.out
    assert f"error: not everything could be written to {tmp_path / 'out'} (why: see above): " in captured.err


@pytest.mark.slow
def test_nor_need_their_folder(tmp_path: Path) -> None:
    """An annotation file of COCO's alone, which training refuses."""
    truth, results = make_case(0)
    source, file = write_case(tmp_path, truth, results)
    shutil.rmtree(tmp_path / "images")
    for asked in ((), ("--data.dataset", "auto")):
        found = evaluate(tmp_path, "--results", file, "--data.val-splits", "val", *asked)
        assert found["AP"] == reference(source, file).stats[0]
    with pytest.raises(DataError, match=r"images/val: it is missing, and must hold the images of "):
        read_coco(tmp_path, "val")


@pytest.mark.slow
def test_the_files_say_which_data_is_usual(pets: DetectionAnnotations, tmp_path: Path) -> None:
    """Text: VOC's layout; an experiment's row brings its own data."""
    write_voc_files(tmp_path, predict(pets), pets)
    args = [argument for argument in VOC_ARGS if argument not in ("--data.dataset", "voc")]
    found = evaluate(tmp_path, "--results", *tmp_path.glob("comp4_*.txt"), *args)
    assert {"mAP50_11point", "mAP50", "mAP50_95"} <= set(found)
    experiment = REPOSITORY / "detection_experiments/detnet59_faster_rcnn_voc"
    again = evaluate(tmp_path, experiment, "--results", *tmp_path.glob("comp4_*.txt"), *args)
    assert again == found


ROW = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}
BAD_JSON: dict[str, tuple[Any, str]] = {
    "cut short": (json.dumps([ROW])[:-3], r"results\.json is not JSON, or was cut short: "),
    "an object": (
        {"annotations": [ROW]},
        r"results\.json holds a dict, expected a list of detections, each with the keys",
    ),
    "a number": (
        [ROW, 3],
        r"results\.json: \[1\] is a int, expected an object with the keys \['image_id', 'category_id'",
    ),
    "of predict": (
        [{"image": "a.jpg", "height": 30, "width": 40, "predictions": []}],
        r"results\.json is in the own format of python -m public\.apps\.predict, .* its --save coco_results writes",
    ),
    "no score": ([{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}], r"\[0\] lacks the key 'score'; expected"),
    "text": ([ROW | {"score": "0.5"}], r"\[0\] has score = '0\.5', expected a finite number\.$"),
    "nan": ([ROW, ROW | {"score": float("nan")}], r"\[1\] has score = nan, expected a finite number\.$"),
    "infinite": (
        [ROW | {"bbox": [1, 2, 3, float("inf")]}],
        r"has bbox = \[1, 2, 3, inf\], expected four finite numbers",
    ),
    "three numbers": (
        [ROW | {"bbox": [1, 2, 3]}],
        r"has bbox = \[1, 2, 3\], expected four finite numbers: x, y, width",
    ),
    "half an id": ([ROW | {"category_id": 3.5}], r"has category_id = 3\.5, expected a whole number\.$"),
    "yes": ([ROW | {"image_id": True}], r"has image_id = True, expected a whole number\.$"),
    "other image": (
        [ROW, ROW | {"image_id": 8}, ROW | {"image_id": 10**30}],
        r"results\.json: 2 of 3 detections have image_id 8, 10{30}, which .*\.json does not have\. Are they",
    ),
    "other class": (
        [ROW | {"category_id": number} for number in range(11, 18)],
        r"results\.json: 7 of 7 detections have category_id 11, 12, 13, 14, 15, \.\.\., which .*\.json does not have\.",
    ),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, and exit code 2."""
    content, message = BAD_JSON[name]
    write_coco(tmp_path, coco_content([(7, 3, 1, 2, 3, 4)]))
    (tmp_path / "results.json").write_text(content if isinstance(content, str) else json.dumps(content))
    refused(capsys, message, tmp_path, "--results", tmp_path / "results.json", *COCO_ARGS)


@pytest.mark.slow
def test_ids_may_be_written_as_floats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As arrays of floats leave them, and pycocotools takes them; keys that nobody asks for are passed over."""
    write_coco(tmp_path, coco_content([(7, 3, 1, 2, 3, 4)]))
    row = ROW | {"image_id": 7.0, "category_id": 3.0, "segmentation": [], "id": "x"}
    (tmp_path / "results.json").write_text(json.dumps([row]))
    found = evaluate(tmp_path, "--results", tmp_path / "results.json", *COCO_ARGS)
    assert found["AP"] == pytest.approx(1)
    (tmp_path / "results.json").write_text("[]")
    assert evaluate(tmp_path, "--results", tmp_path / "results.json", *COCO_ARGS)["AP"] == 0
    assert "the files hold no detection at all, which counts as having found nothing\n" in capsys.readouterr().out


BAD_TEXTS: dict[str, tuple[dict[str, str], str]] = {
    "four numbers": (
        {"comp4_det_val_cat.txt": "000001 0.5 1 2 3\n"},
        r"_cat\.txt, line 1 is '000001 0\.5 1 2 3', expected",
    ),
    "a word": ({"comp4_det_val_cat.txt": "\n000001 0.5 1 2 3 x\n"}, r"line 2 is .*, expected an image's name and five"),
    "nan": (
        {"comp4_det_val_dog.txt": "000001 nan 1 2 3 4\n"},
        r"line 1 is .*, expected an image's name and five finite",
    ),
    "other image": (
        {"comp4_det_val_dog.txt": "000001 1 1 2 3 4\nx y 1 1 2 3 4\n"},
        r"_dog\.txt: 1 of 2 detections have image x y, which .* does not have\.",
    ),
    "other class": (
        {"comp4_det_val_bird.txt": ""},
        r"_bird\.txt is of none of the 2 classes \(cat, dog\) of .*; expected comp4_det_<set>_<class>\.txt\.$",
    ),
    "twice a class": (
        {"comp4_det_test_cat.txt": "", "comp4_det_val_cat.txt": ""},
        r"comp4_det_test_cat\.txt and .*comp4_det_val_cat\.txt are both of class 'cat'\.$",
    ),
    "two formats": ({"comp4_det_test_cat.txt": "", "results.json": "[]"}, r"--results takes files of one format, got "),
    "no format": ({"results.csv": ""}, r"--results .*results\.csv: files of results are called \*\.json or \*\.txt\.$"),
    "no file": ({}, r"the results .*comp4_\*_cat\.txt cannot be read: No such file or directory\.$"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_texts(pets: DetectionAnnotations, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, and exit code 2."""
    assert pets.num_images == 12
    files, message = BAD_TEXTS[name]
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    paths = [tmp_path / file for file in files] or [tmp_path / "comp4_*_cat.txt"]
    refused(capsys, message, tmp_path, "--results", *paths, *VOC_ARGS)


@pytest.mark.slow
def test_names_that_are_not_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two years of VOC may each have an image of the name; another one can still be told."""
    for year in ("A", "B"):
        write_voc(tmp_path, {"x": voc_object("cat", 1, 1, 9, 9), f"only{year}": ""}, f"{year}/train")
    args = (*VOC_ARGS[:-1], "A/train", "B/train")
    file = tmp_path / "comp4_det_val_cat.txt"
    file.write_text("onlyB 0.5 1 1 2 2\n")
    assert evaluate(tmp_path, "--results", file, *args)["mAP50"] == 0
    file.write_text("x 0.5 1 1 2 2\n")
    refused(
        capsys,
        r"_cat\.txt names the image 'x', and .* has more than one called so\.$",
        tmp_path,
        "--results",
        file,
        *args,
    )


def test_data_of_another_format_than_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence says as what they were read, and which option says otherwise."""
    write_coco(tmp_path, coco_content([(7, 3, 1, 2, 3, 4)]))
    (tmp_path / "comp4_det_val_a.txt").touch()
    message = r"test\.txt is missing; .*kind voc, and the folder is in COCO's .*, which --data\.dataset auto finds out"
    refused(capsys, message, tmp_path, "--results", tmp_path / "comp4_det_val_a.txt", "--data.dataset", "voc")


def test_an_experiment_of_another_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its data have no boxes."""
    experiment = REPOSITORY / "imagenet_experiments/resnet_sample_train_example"
    refused(
        capsys, r"is a ClassificationConfig; files of detections are of", tmp_path, experiment, "--results", "x.json"
    )


def refused(capsys: pytest.CaptureFixture[str], message: str, folder: Path, *args: str | Path) -> None:
    """Exit code 2, and one line on stderr that matches."""
    with pytest.raises(SystemExit) as ended:
        evaluate(folder, *args)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error.rstrip("\n")), error


@pytest.mark.slow
def test_weights_of_either_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the weights, the row or the network are of decides; a classifier's report, as test.sh writes it."""
    for place, name in enumerate(("cat", "dog", "owl")):
        write_pictures(tmp_path / "val" / name)[place].rename(tmp_path / "val" / name / "x.png")
    best = save_classifier(tmp_path / "best.pth")
    asked = ("--device", "cpu", "--data.folder", str(tmp_path), "--num-workers", "0", "--output", str(tmp_path / "out"))
    opened: list[Path] = []
    monkeypatch.setattr(request, "load_checkpoint", lambda path: opened.append(path) or load_checkpoint(path))
    main(["--weights", str(best), *asked])
    assert "top1 " in capsys.readouterr().out
    assert opened == [best], "once"
    lines = (tmp_path / "out/outcomes.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:6:4]] == [["cat/1.png", "cat"], ["cat/x.png", "cat"]]
    assert (tmp_path / "out/report.html").is_file()
    called: list[list[str]] = []
    monkeypatch.setattr("public.test_scripts.detection.main", lambda data, args, trained: called.append(args))
    for args in (
        ["--weights", str(save_detector(tmp_path / "detector.pth"))],
        ["--network", "retinanet", "--weights", "torchvision:retinanet_resnet50_fpn"],
        [str(REPOSITORY / "detection_experiments/detnet59_faster_rcnn_voc")],
    ):
        main(args)
        assert called.pop() == args


def test_nothing_to_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence; and what there is, for who asks."""
    for args, message in (
        ([], r"nothing to evaluate is given: --weights"),
        (["--weights", "x.pth"], r"there is no x"),
        (["--weights", "x.pth", "--results=x.json"], r"are both given; expected one of the two\."),
        (["--results"], r"--results names no file; expected one of COCO's results format \(\.json\) or comp4_"),
        (["--results", "--data.folder", str(tmp_path)], r"--results names no file"),
        (["--weights", ""], r"'' is the name of no file"),
        (["--weights", str(tmp_path)], r" is a folder; expected is a file"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(args)
        assert ended.value.code == 2
        assert re.search(message, capsys.readouterr().err)
    main(["--help"])
    assert "--compare RUN RUN" in capsys.readouterr().out


def test_a_checkpoint_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is called so, as predict and export call it: a network's name would not help."""
    path = save_classifier(tmp_path / "best.pth")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SystemExit, match="2"):
        main(["--weights", str(path)])
    assert f"{path} cannot be read as a checkpoint: it is cut off or damaged.\n" in capsys.readouterr().err


@pytest.mark.parametrize("files", ["comp4_*.txt", "predictions.json"])
def test_the_format_of_the_data_is_found_out(pets: DetectionAnnotations, tmp_path: Path, files: str) -> None:
    """As training does; by the rules of the results' own format."""
    predictions = predict(pets)
    write_coco_json(tmp_path / "predictions.json", predictions, pets)
    write_voc_files(tmp_path, predictions, pets)
    found = evaluate(tmp_path, "--results", *tmp_path.glob(files), "--data.val-splits", "Own/train")
    assert ("mAP50_11point" in found) == (files != "predictions.json")
